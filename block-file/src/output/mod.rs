//! Output files: creates the files that a program fills, in directories that it may share with other users.
//!
//! An image, a picture or a manual page is written in one of two ways:
//!
//! * **Whole or not at all.** The content goes into an unnamed file in the target's folder (where the file system has
//!   no unnamed files, into one with a random name). [`Output::finish`] gives the file the target's name. An error, a
//!   dropped [`Output`] or a killed program leaves the target as it was.
//! * **In place**, for the reasons in [`InPlace`]: a new file could not keep the old file's metadata or could not take
//!   its name.
//!
//! Every step uses descriptors, so that another user cannot redirect it. The folder is opened once. Owner, group,
//! attributes and mode are set on the open file. After the file got its name, the name is checked to lead to it. A file
//! that replaces another gets its owner, group, access control lists, extended attributes and permissions, but never
//! its set-user-ID and set-group-ID bits.
//!
//! ```
//! use block_core::Storage;
//! use block_file::output::{Settings, Site};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> block_core::Result<()> {
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("disk.raw");
//! let output = Site::look(&block_file::path::to_text(&path))?.begin(&Settings::default())?;
//! output.storage().write_at(0, b"content").await?;
//! assert!(!path.exists(), "it has no name yet");
//! output.finish(true)?;
//! assert_eq!(std::fs::read(&path)?, b"content");
//! # Ok(())
//! # }
//! ```

mod carry;
mod plain;
mod site;
mod temporary;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use block_core::{CacheMode, Error, ErrorKind, Result, Sharing, Storage, StorageId};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{kind, reason};
use crate::io::retry;
use crate::lock::{LockMode, acquire};
use crate::open::{Use, storage_on};
use crate::storage::FileStorage;

use site::{There, file_id};
use temporary::Temporary;

pub use plain::write_whole;
pub use site::{Room, Site};

/// How to write a target.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How writes reach the disk.
    pub cache: CacheMode,
    /// Files that the program reads, and therefore must not be the target.
    pub refused: Vec<StorageId>,
    /// Whether the new content fits beside the old; `false` writes in place.
    pub two_fit: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cache: CacheMode::Writeback, refused: Vec::new(), two_fit: true }
    }
}

/// Why an existing target is written in place instead of being replaced by a whole new file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InPlace {
    /// The target is a block device.
    Device,
    /// The file has this many hard links, more than one.
    Links(u64),
    /// The file is a mount point, so no other file can take its name.
    MountPoint,
    /// The folder is sticky, and the caller owns neither the file nor the folder.
    Sticky,
    /// No file can be created or renamed in the folder, for this reason.
    Folder(String),
    /// The new file cannot have the owner or the group of the old one.
    Owner,
    /// The new file cannot have this extended attribute, access control lists included.
    Attribute(String),
    /// The old content and the new one do not fit on the file system together.
    Room,
}

impl fmt::Display for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("it is a block device"),
            Self::Links(count) => write!(f, "the file has {count} names"),
            Self::MountPoint => f.write_str("the file is a mount point"),
            Self::Sticky => {
                f.write_str("its folder is sticky, and the file belongs to another user")
            }
            Self::Folder(why) => write!(f, "its folder takes no new file: {why}"),
            Self::Owner => f.write_str("a new file could not have its owner and group"),
            Self::Attribute(name) => write!(f, "a new file could not have its attribute {name}"),
            Self::Room => f.write_str("the old file and the new one do not fit together"),
        }
    }
}

/// A file that the caller is filling.
///
/// Dropping it before [`finish`](Self::finish) leaves the folder as it was. But a target written in place keeps the
/// bytes written so far.
#[derive(Debug)]
pub struct Output {
    storage: Arc<FileStorage>,
    location: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    InPlace(InPlace),
    Whole {
        temporary: Temporary,
        /// The file to be replaced, if any. Its lock proves that no other program uses it.
        replaced: Option<Replaced>,
    },
}

#[derive(Debug)]
struct Replaced {
    id: StorageId,
    _locked: OwnedFd,
}

impl Site {
    /// Opens a storage for the new content of this target.
    ///
    /// # Errors
    /// `Busy` when another program uses the target, `InvalidInput` when it is one of the refused files or neither a
    /// regular file nor a block device, and errors of the operating system.
    pub fn begin(self, settings: &Settings) -> Result<Output> {
        let Some(there) = &self.there else {
            let temporary = Temporary::create(&self, None).map_err(|errno| self.error(errno))?;
            return self.fill(temporary, None, settings);
        };
        let file = self.open_existing(there, settings)?;
        if there.is_device() {
            return self.in_place(file, InPlace::Device, settings);
        }
        if let Some(why) = self.must_stay(there, settings) {
            return self.in_place(file, why, settings);
        }
        let temporary = match Temporary::create(&self, Some(there)) {
            Ok(temporary) => temporary,
            Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                return self.in_place(file, InPlace::Folder(reason(errno)), settings);
            }
            Err(errno) => return Err(self.error(errno)),
        };
        match carry::carry(file.as_fd(), temporary.fd()) {
            Ok(()) => {}
            Err(why) => {
                drop(temporary);
                return self.in_place(file, why, settings);
            }
        }
        let replaced = Replaced { id: there.id(), _locked: file };
        self.fill(temporary, Some(replaced), settings)
    }

    /// Opens and locks the existing file, if it can be written.
    fn open_existing(&self, there: &There, settings: &Settings) -> Result<OwnedFd> {
        there.writable_type(&self.location)?;
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix_open(&self.folder, &self.name, flags, Mode::empty());
        let file = opened.map_err(|errno| self.error(errno))?;
        let stat = retry(|| rustix::fs::fstat(&file)).map_err(|errno| self.error(errno))?;
        if file_id(&stat) != there.id() {
            return Err(self.changed());
        }
        let (sharing, mode) = (Sharing::Exclusive, LockMode::Auto);
        acquire(file.as_fd(), &self.location, sharing, true, mode)?;
        if settings.refused.contains(&there.id()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the target is one of the files that are read",
            )
            .in_image(&self.location));
        }
        Ok(file)
    }

    /// Returns why the existing file cannot be replaced, as far as can be seen before a new file is created.
    fn must_stay(&self, there: &There, settings: &Settings) -> Option<InPlace> {
        let links = there.links();
        if links > 1 {
            return Some(InPlace::Links(links));
        }
        if there.mount_point {
            return Some(InPlace::MountPoint);
        }
        if let Some(why) = self.folder_holds_on_to(there) {
            return Some(why);
        }
        (!settings.two_fit).then_some(InPlace::Room)
    }

    fn in_place(self, file: OwnedFd, why: InPlace, settings: &Settings) -> Result<Output> {
        let storage = self.storage(file, settings)?;
        if why != InPlace::Device {
            carry::drop_set_id(storage.fd()).map_err(|errno| self.error(errno))?;
        }
        Ok(Output { storage, location: self.location, way: Way::InPlace(why) })
    }

    fn fill(
        self,
        temporary: Temporary,
        replaced: Option<Replaced>,
        settings: &Settings,
    ) -> Result<Output> {
        let file = temporary.fd().try_clone_to_owned()?;
        let storage = self.storage(file, settings)?;
        Ok(Output { storage, location: self.location, way: Way::Whole { temporary, replaced } })
    }

    fn storage(&self, file: OwnedFd, settings: &Settings) -> Result<Arc<FileStorage>> {
        let how = Use {
            path: &self.location,
            writable: true,
            sharing: Sharing::Exclusive,
            lock: LockMode::Auto,
            cache: settings.cache,
            engine: None,
            created: false,
        };
        Ok(Arc::new(storage_on(file, &how)?))
    }

    fn error(&self, errno: Errno) -> Error {
        Error::new(kind(errno), reason(errno))
            .in_image(&self.location)
            .because(std::io::Error::from(errno))
    }

    fn changed(&self) -> Error {
        changed(&self.location)
    }
}

fn changed(location: &str) -> Error {
    Error::new(ErrorKind::Busy, "another file took this name meanwhile").in_image(location)
}

fn rustix_open(
    folder: &OwnedFd,
    name: &std::ffi::OsStr,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    retry(|| rustix::fs::openat(folder, name, flags, mode))
}

impl Output {
    /// Returns the storage to fill.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage) as Arc<dyn Storage>
    }

    /// Returns why the target is written in place, if it is.
    pub fn in_place(&self) -> Option<&InPlace> {
        match &self.way {
            Way::InPlace(why) => Some(why),
            Way::Whole { .. } => None,
        }
    }

    /// Returns whether an old file keeps the name until the new one is whole.
    pub fn replaces(&self) -> bool {
        matches!(&self.way, Way::Whole { replaced: Some(_), .. })
    }

    /// Returns the names of temporary files that were removed from the target's folder. Killed programs had left them
    /// there for the same target.
    pub fn removed(&self) -> &[String] {
        match &self.way {
            Way::InPlace(_) => &[],
            Way::Whole { temporary, .. } => &temporary.removed,
        }
    }

    /// Gives the file the target's name. With `durable`, the name survives a power failure; the content does only if
    /// the storage was flushed before.
    ///
    /// # Errors
    /// `AlreadyExists` when a file appeared under a name that was free. `Busy` when another file took the name of the
    /// file to replace or of the new file. Otherwise errors of the operating system; if the file already has its name,
    /// the hint says so.
    pub fn finish(self, durable: bool) -> Result<()> {
        let Way::Whole { mut temporary, replaced } = self.way else { return Ok(()) };
        let error = |errno: Errno| {
            let error = Error::new(kind(errno), reason(errno)).in_image(&self.location);
            error.because(std::io::Error::from(errno))
        };
        let own = temporary.id().map_err(error)?;
        match &replaced {
            None => temporary.take_free_name().map_err(error)?,
            Some(replaced) => {
                // Replace only the file whose lock is held.
                if temporary.holder_of_name().map_err(error)? != Some(replaced.id) {
                    return Err(changed(&self.location));
                }
                temporary.take_over_name().map_err(error)?;
            }
        }
        let in_doubt = |errno| error(errno).with_hint(PUBLISHED);
        if temporary.holder_of_name().map_err(in_doubt)? != Some(own) {
            return Err(changed(&self.location));
        }
        if durable { temporary.sync_folder().map_err(in_doubt) } else { Ok(()) }
    }
}

/// The hint of an error after the file got its name.
const PUBLISHED: &str =
    "the file is whole and has its name, as far as is known; a power cut may take the name away";

/// Returns the stat of a name in a folder without following links; `None` when no file has the name.
fn stat_of_name(
    folder: &OwnedFd,
    name: &std::ffi::OsStr,
) -> Result<Option<rustix::fs::Stat>, Errno> {
    match retry(|| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
