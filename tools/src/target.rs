//! The storage that a command fills: a new file, a file that is replaced or written in place, or another protocol's
//! storage.

use std::sync::Arc;

use block_core::{CacheMode, Disk, Storage, StorageAccess, StorageId, StorageOptions};
use block_file::output::{Output, Room, Settings, Site};

use crate::console::Console;
use crate::context::Context;
use crate::drivers::FILE_SCHEME;
use crate::error::{Failure, NO_ROOM, Result};
use crate::image::check_target_name;

/// A target that has been examined and not modified yet.
#[derive(Debug)]
pub(crate) struct TargetName<'c> {
    cx: &'c Context,
    uri: String,
    /// Place of a host file. `None` if the target belongs to another protocol.
    site: Option<Site>,
}

/// A storage to be filled. If dropped before [`finish`](Self::finish), it leaves no new file, and prints a message if
/// the target was written in place.
#[derive(Debug)]
pub(crate) struct Target<'c> {
    console: &'c Console,
    name: String,
    storage: Arc<dyn Storage>,
    /// The host file. `None` once it is finished, and for another protocol.
    output: Option<Output>,
    /// Bytes in the file that is to be replaced.
    held: u64,
}

/// Smallest size in bytes of a replaced file that the hint about a full disk mentions.
const WORTH_A_WORD: u64 = 1 << 20;

impl<'c> TargetName<'c> {
    /// Examines the target `uri` without modifying it.
    pub fn look(cx: &'c Context, uri: &str) -> Result<Self> {
        check_target_name(&cx.registry, uri)?;
        let site = match cx.registry.protocol(uri) {
            Ok((protocol, location)) if protocol.scheme() == FILE_SCHEME => {
                Some(Site::look(location).map_err(|error| could_not_create(uri, &error))?)
            }
            _ => None,
        };
        Ok(Self { cx, uri: uri.to_owned(), site })
    }

    /// Returns the free space beside a file that would be replaced. `None` if no file would be replaced.
    pub fn room(&self) -> Option<Room> {
        self.site.as_ref().and_then(Site::room)
    }

    /// Opens a storage for the new content. With `verbose`, prints how the target is written.
    pub async fn begin(self, settings: &Settings, verbose: bool) -> Result<Target<'c>> {
        let Self { cx, uri, site } = self;
        let console = &cx.console;
        let failed = |error| could_not_create(&uri, &error);
        let Some(site) = site else {
            let options = StorageOptions::new(StorageAccess::Create).cache(settings.cache);
            let storage = cx.registry.open_storage(&uri, &options).await.map_err(failed)?;
            return Ok(Target { console, name: uri, storage, output: None, held: 0 });
        };
        let held = site.room().map_or(0, |room| room.held);
        let output = site.begin(settings).map_err(failed)?;
        tell_removed(console, output.removed());
        if verbose {
            match output.in_place() {
                Some(why) => console.say(format_args!("'{uri}' is written in place: {why}")),
                None if output.replaces() => {
                    console.say(format_args!("'{uri}' is replaced when the new content is whole"));
                }
                None => console.say(format_args!("'{uri}' appears when its content is whole")),
            }
        }
        let (name, storage) = (uri, output.storage());
        Ok(Target { console, name, storage, output: Some(output), held })
    }
}

impl<'c> Target<'c> {
    /// Opens a storage for content that is small or of unknown size.
    pub async fn begin(
        cx: &'c Context,
        uri: &str,
        cache: CacheMode,
        refused: Vec<StorageId>,
        verbose: bool,
    ) -> Result<Self> {
        let settings = Settings { cache, refused, two_fit: true };
        TargetName::look(cx, uri)?.begin(&settings, verbose).await
    }

    /// Returns the storage to fill.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Adds to a full-disk failure that the file to be replaced still exists and takes space.
    pub fn explain(&self, failure: Failure) -> Failure {
        let replaces = self.output.as_ref().is_some_and(Output::replaces);
        if replaces && self.held >= WORTH_A_WORD && failure.hint.as_deref() == Some(NO_ROOM) {
            let hint = format!(
                "'{}' was kept as it was, and takes room; remove it first, or write into it with '-n'",
                self.name
            );
            return failure.hint(hint);
        }
        failure
    }

    /// Renames the file to its final name. With `durable`, the name survives a power failure.
    pub fn finish(mut self, durable: bool) -> Result<()> {
        let Some(output) = self.output.take() else { return Ok(()) };
        output.finish(durable).map_err(|error| could_not_create(&self.name, &error))
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.output.as_ref().and_then(Output::in_place) {
            self.console.say(format_args!(
                "'{}' was written in place ({why}), and may hold a part of the new content",
                self.name
            ));
        }
    }
}

/// Writes a picture or a page to the file `name`, whole or not at all.
pub(crate) fn write_whole(
    console: &Console,
    name: &str,
    content: &[u8],
    refused: Vec<StorageId>,
) -> Result<()> {
    let settings = Settings { refused, ..Settings::default() };
    let removed = block_file::output::write_whole(name, content, &settings)
        .map_err(|error| about("write", name, &error))?;
    tell_removed(console, &removed);
    Ok(())
}

fn tell_removed(console: &Console, names: &[String]) {
    for name in names {
        console.say(format_args!("removed '{name}', which a program that was killed had left"));
    }
}

/// Returns the identities of the files of `disk` and of its parents.
pub(crate) fn files_of(disk: &Disk) -> Vec<StorageId> {
    let mut files = Vec::new();
    let mut next = Some(disk.clone());
    while let Some(disk) = next {
        files.extend(disk.device().storage().id());
        next = disk.parent();
    }
    files
}

fn could_not_create(name: &str, error: &block_core::Error) -> Failure {
    about("create", name, error)
}

/// Returns the failure to do `what` with the target `name`. The reason does not repeat the name.
fn about(what: &str, name: &str, error: &block_core::Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("Could not {what} '{name}': {}", crate::error::reasons(error));
    failure
}
