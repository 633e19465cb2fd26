//! Keeps all changes in memory and does not change the storage below.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::RwLock;

use crate::storage::read_a_copy;
use crate::{
    Bytes, Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits,
    ZeroMode,
};

const PAGE: u64 = 4096;

/// A storage whose changes are kept in memory and lost when it is dropped. Memory use is proportional to the
/// data written.
#[derive(Debug)]
pub struct OverlayStorage {
    below: Arc<dyn Storage>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// Length in bytes.
    len: u64,
    /// Offset in bytes. Data before it is read from below unless it is in `pages`. Data past it is zeros
    /// unless it is in `pages`.
    shown: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl OverlayStorage {
    /// Creates an overlay over `below`, which is only read.
    ///
    /// # Errors
    /// Any error of asking `below` for its length.
    pub async fn new(below: Arc<dyn Storage>) -> Result<Arc<Self>> {
        let len = below.len().await?;
        let state = State { len, shown: len, pages: BTreeMap::new() };
        Ok(Arc::new(Self { below, state: RwLock::new(state) }))
    }

    /// Reads into `buf` from `offset`. Past the end, it fills with zeros.
    async fn fill(&self, state: &State, offset: u64, buf: &mut [u8]) -> Result<()> {
        for (page, within, at) in pieces(offset, buf.len()) {
            let Some(part) = buf.get_mut(at) else { continue };
            let whole = state.pages.get(&page);
            if let Some(bytes) = whole.and_then(|bytes| bytes.get(within.clone())) {
                part.copy_from_slice(bytes);
                continue;
            }
            let start = page.saturating_mul(PAGE).saturating_add(within.start as u64);
            let stored = usize::try_from(state.shown.saturating_sub(start)).unwrap_or(usize::MAX);
            let (read, zeros) = part.split_at_mut(stored.min(part.len()));
            zeros.fill(0);
            if !read.is_empty() {
                self.below.read_at(start, read).await?;
            }
        }
        Ok(())
    }

    /// Writes `bytes` (zeros if `None`) over `len` bytes at `offset`.
    async fn put(&self, offset: u64, len: u64, bytes: Option<&[u8]>) -> Result<()> {
        let too_large = || Error::new(ErrorKind::Limit, "more than memory can hold");
        let count = usize::try_from(len).map_err(|_| too_large())?;
        let mut state = self.state.write().await;
        for (page, within, at) in pieces(offset, count) {
            let mut whole = vec![0; PAGE as usize];
            if within.len() < whole.len() {
                self.fill(&state, page.saturating_mul(PAGE), &mut whole).await?;
            }
            if let Some(part) = whole.get_mut(within) {
                match bytes.and_then(|bytes| bytes.get(at)) {
                    Some(bytes) => part.copy_from_slice(bytes),
                    None => part.fill(0),
                }
            }
            state.pages.insert(page, whole.into());
        }
        if len > 0 {
            state.len = state.len.max(offset.saturating_add(len));
        }
        Ok(())
    }
}

/// Splits `len` bytes at `offset` at page boundaries: the page, the bytes in it, the bytes of the request.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset.saturating_add(done as u64);
        let start = (at % PAGE) as usize;
        let take = (PAGE as usize - start).min(len - done);
        let part = done..done + take;
        done += take;
        Some((at / PAGE, start..start + take, part))
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for OverlayStorage {
    fn uri(&self) -> &str {
        self.below.uri()
    }

    fn caps(&self) -> StorageCaps {
        StorageCaps::WRITE | StorageCaps::RESIZE
    }

    fn limits(&self) -> StorageLimits {
        self.below.limits()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.state.read().await.len)
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let state = self.state.read().await;
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > state.len) {
            let text = format!("{} bytes go past the end at {:#x}", buf.len(), state.len);
            return Err(Error::new(ErrorKind::OutOfRange, text).at(offset).in_image(self.uri()));
        }
        self.fill(&state, offset, buf).await
    }

    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        read_a_copy(self, offset, len).await
    }

    fn try_read_at(&self, _: u64, _: &mut [u8]) -> Option<Result<()>> {
        None
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.put(offset, buf.len() as u64, Some(buf)).await
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, &bytes).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<()> {
        self.put(offset, len, None).await
    }

    async fn allocate(&self, _: u64, _: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "an overlay in memory has no room to set aside"))
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.state.write().await;
        if len < state.len {
            drop(state.pages.split_off(&len.div_ceil(PAGE)));
            let keep = usize::try_from(len % PAGE).unwrap_or(0);
            let last = state.pages.get_mut(&(len / PAGE));
            if let Some(tail) = last.and_then(|page| page.get_mut(keep..)) {
                tail.fill(0);
            }
            state.shown = state.shown.min(len);
        }
        state.len = len;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn begin_flush(&self) {}

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let end = range.end.min(self.state.read().await.len);
        if range.start < end {
            out.push(StorageExtent { start: range.start, len: end - range.start, data: true });
        }
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn copy_from(&self, _: u64, _: &dyn Storage, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn id(&self) -> Option<StorageId> {
        self.below.id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
