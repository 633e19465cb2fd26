//! A storage in memory, for tests, examples and overlays.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;

use crate::image::{Image, PAGE64};
use crate::{
    Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits,
    ZeroMode,
};

/// A sparse storage in memory. Chunks never written take no memory.
#[derive(Debug)]
pub struct MemStorage {
    uri: String,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    image: Image,
    /// Largest number of stored pages.
    room: Option<u64>,
}

impl MemStorage {
    /// Creates an empty storage.
    pub fn new() -> Arc<Self> {
        Self::named("memory:")
    }

    /// Creates an empty storage with its own URI.
    pub fn named(uri: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { uri: uri.into(), inner: RwLock::default() })
    }

    /// Creates a storage that holds `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Arc<Self> {
        Self::of("memory:", Image::of(bytes))
    }

    /// Creates a storage with the content `image`.
    pub fn of(uri: impl Into<String>, image: Image) -> Arc<Self> {
        Arc::new(Self { uri: uri.into(), inner: RwLock::new(Inner { image, room: None }) })
    }

    /// Returns a snapshot of the bytes. It shares all pages with the storage until they are modified.
    pub fn snapshot(&self) -> Image {
        self.lock().image.clone()
    }

    /// Replaces the bytes by what `change` makes of them.
    pub fn change<T>(&self, change: impl FnOnce(&mut Image) -> T) -> T {
        change(&mut self.lock_mut().image)
    }

    /// Limits the storage to `bytes` from now on, not counting holes. A write that needs more fails with
    /// [`NoSpace`](ErrorKind::NoSpace) and changes nothing, as on a full disk.
    pub fn limit(&self, bytes: u64) {
        self.lock_mut().room = Some(bytes / PAGE64);
    }

    /// Returns all bytes, or `None` if there are more than 1 GiB, too many to hold twice.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let inner = self.lock();
        (inner.image.len() <= 1 << 30).then(|| inner.image.to_bytes())
    }

    fn lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let inner = self.lock();
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > inner.image.len()) {
            return Err(past_end(self, offset, buf.len(), inner.image.len()));
        }
        inner.image.read(offset, buf);
        Ok(())
    }
}

fn past_end(storage: &MemStorage, offset: u64, len: usize, end: u64) -> Error {
    Error::new(ErrorKind::OutOfRange, format!("{len} bytes go past the end at {end:#x}"))
        .at(offset)
        .in_image(storage.uri.clone())
}

/// Returns the end of a range, or an error if it is past the largest offset of a file.
fn end_of(storage: &MemStorage, offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or_else(|| {
        let message = format!("{len} bytes go past the largest offset of a file");
        Error::new(ErrorKind::OutOfRange, message).at(offset).in_image(storage.uri.clone())
    })
}

#[async_trait]
impl Storage for MemStorage {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn caps(&self) -> StorageCaps {
        StorageCaps::WRITE | StorageCaps::RESIZE | StorageCaps::DEALLOCATE | StorageCaps::SPARSE
    }

    fn limits(&self) -> StorageLimits {
        StorageLimits::default()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.lock().image.len())
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(offset, buf)
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        Some(self.read(offset, buf))
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let end = end_of(self, offset, buf.len() as u64)?;
        let mut inner = self.lock_mut();
        if let Some(room) = inner.room.filter(|room| inner.image.pages_with(offset..end) > *room) {
            let message = format!("the {} bytes of this storage are in use", room * PAGE64);
            return Err(Error::new(ErrorKind::NoSpace, message)
                .at(offset)
                .in_image(self.uri.clone()));
        }
        inner.image.write(offset, buf);
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<()> {
        let end = end_of(self, offset, len)?;
        self.lock_mut().image.zero(offset..end);
        Ok(())
    }

    async fn allocate(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        end_of(self, 0, len)?;
        self.lock_mut().image.set_len(len);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        self.lock().image.extents(range, out);
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(Some(self.lock().image.stored_bytes()))
    }

    async fn copy_from(&self, _: u64, _: &dyn Storage, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn id(&self) -> Option<StorageId> {
        // The address identifies the storage, because two live storages cannot share one.
        Some(StorageId(u64::MAX, std::ptr::from_ref(self).addr() as u64))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
