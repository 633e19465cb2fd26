//! A file that appears under its name only when it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use block_core::{CacheMode, ErrorKind, Registry, Sharing, Storage, StorageAccess, StorageOptions};
use block_file::path::{from_text, to_text};

use crate::drivers::FILE_SCHEME;
use crate::error::{Failure, Result, os_text};
use crate::host_path::path_uri;
use crate::image::check_target_name;

/// A storage to be filled. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Target {
    storage: Arc<dyn Storage>,
    temporary: Option<Temporary>,
    /// The file that is to be replaced, kept open: its lock says that nobody uses it.
    _replaced: Option<Arc<dyn Storage>>,
}

#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    name: PathBuf,
    kept: bool,
}

impl Target {
    /// Makes a storage for the image `uri`. Where that is a host file, or nothing yet, the storage is a
    /// file of another name in the same folder.
    pub async fn begin(registry: &Registry, uri: &str, cache: CacheMode) -> Result<Self> {
        check_target_name(registry, uri)?;
        let place = Place::of(registry, uri);
        let options = |access| StorageOptions::new(access).cache(cache);
        let Place::File(path) = place else {
            let storage = open(registry, uri, uri, &options(StorageAccess::Create)).await?;
            return Ok(Self { storage, temporary: None, _replaced: None });
        };
        let replaced = match fs::metadata(&path) {
            Ok(_) => {
                let uri = path_uri(&path);
                let locked = options(StorageAccess::ReadWrite).sharing(Sharing::Exclusive);
                Some(open(registry, &uri, &to_text(&path), &locked).await?)
            }
            Err(_) => None,
        };
        let (storage, temporary) = create_beside(registry, &path, &options).await?;
        if let Ok(existing) = fs::metadata(&path) {
            let _ = fs::set_permissions(&temporary.path, existing.permissions());
        }
        Ok(Self { storage, temporary: Some(temporary), _replaced: replaced })
    }

    /// The storage to fill.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Gives the file its name. With `durable`, the name survives a power cut too.
    pub fn finish(mut self, durable: bool) -> Result<()> {
        let Some(temporary) = &mut self.temporary else { return Ok(()) };
        let wrong = |error: &std::io::Error| {
            Failure::new(format!(
                "Could not create '{}': {}",
                to_text(&temporary.name),
                os_text(error)
            ))
        };
        fs::rename(&temporary.path, &temporary.name).map_err(|error| wrong(&error))?;
        temporary.kept = true;
        if durable && let Some(folder) = temporary.name.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let folder = fs::File::open(folder).and_then(|folder| folder.sync_all());
            folder.map_err(|error| wrong(&error))?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a target lies.
enum Place {
    /// A host file, there or not; links resolved.
    File(PathBuf),
    /// A device, or anything that is not a host file: written in place.
    InPlace,
}

impl Place {
    fn of(registry: &Registry, uri: &str) -> Self {
        let Ok((protocol, location)) = registry.protocol(uri) else { return Self::InPlace };
        if protocol.scheme() != FILE_SCHEME {
            return Self::InPlace;
        }
        let path = from_text(location);
        match fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Self::InPlace,
            Ok(_) => Self::File(path.canonicalize().unwrap_or(path)),
            // A link to nothing: the file appears where the link points.
            Err(_) => Self::File(
                fs::read_link(&path)
                    .map_or(path.clone(), |to| path.parent().unwrap_or(Path::new("")).join(to)),
            ),
        }
    }
}

async fn create_beside(
    registry: &Registry,
    path: &Path,
    options: &impl Fn(StorageAccess) -> StorageOptions,
) -> Result<(Arc<dyn Storage>, Temporary)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let short: String = name.chars().take(60).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for attempt in 0..100u32 {
        let unique = format!("{:x}-{:x}-{attempt}", std::process::id(), now.as_nanos());
        let temporary = path.with_file_name(format!(".{short}.{unique}.partial"));
        let uri = path_uri(&temporary);
        match registry.open_storage(&uri, &options(StorageAccess::CreateNew)).await {
            Ok(storage) => {
                let kept = false;
                let name = path.to_owned();
                return Ok((storage, Temporary { path: temporary, name, kept }));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                let mut failure = could_not_create(&to_text(path), &error);
                // The temporary name is nobody's business.
                let ours = format!("Could not open '{}': ", to_text(&temporary));
                failure.message = failure.message.replace(&ours, "");
                return Err(failure);
            }
        }
    }
    Err(Failure::new(format!("Could not create '{}': no free temporary name", to_text(path))))
}

async fn open(
    registry: &Registry,
    uri: &str,
    shown: &str,
    options: &StorageOptions,
) -> Result<Arc<dyn Storage>> {
    let storage = registry.open_storage(uri, options).await;
    storage.map_err(|error| could_not_create(shown, &error))
}

fn could_not_create(name: &str, error: &block_core::Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("Could not create '{name}': {}", crate::error::reasons(error));
    failure
}
