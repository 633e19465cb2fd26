//! A disk whose requests pass a hook.

use std::ops::{Deref, Range};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Hook, Request};
use crate::{
    Allocation, BlockDevice, Bytes, CompactReport, DeviceCaps, Disk, ExtentList, ImageInfo,
    MappedRuns, Options, Preallocation, Progress, Result, SECTOR_SIZE, Storage, WriteFlags,
    ZeroFlags, ZeroMode,
};

/// Passes every request to a [`Hook`], then to the disk below.
///
/// [`BlockDevice::map`] returns no storage offsets, so that no byte bypasses the hook.
#[derive(Debug)]
pub struct FilteredDevice<H: Hook> {
    below: Arc<dyn BlockDevice>,
    uri: String,
    hook: H,
}

impl<H: Hook> FilteredDevice<H> {
    /// Creates a filter over `below`.
    pub fn with(below: Arc<dyn BlockDevice>, hook: H) -> Arc<Self> {
        let uri = below.storage().uri().to_owned();
        Arc::new(Self { below, uri, hook })
    }

    /// Calls `go_on`, which forwards the request, only after the hook: the call itself may already do some of
    /// the work.
    async fn pass<T, F: Future<Output = Result<T>> + Send>(
        &self,
        request: Request<'_>,
        go_on: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        let result = match self.hook.before(&request).await {
            Ok(()) => go_on().await,
            Err(refused) => Err(refused.in_image(&self.uri)),
        };
        self.hook.after(&self.uri, &request, result.as_ref().err());
        result
    }
}

impl<H: Hook> Deref for FilteredDevice<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hook
    }
}

impl<H: Hook> Drop for FilteredDevice<H> {
    fn drop(&mut self) {
        self.hook.done(&self.uri);
    }
}

/// Converts sectors to bytes. Requests lie on the disk; otherwise the device below rejects them.
fn bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_SIZE)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<H: Hook> BlockDevice for FilteredDevice<H> {
    fn info(&self) -> ImageInfo {
        let mut info = self.below.info();
        info.caps -= DeviceCaps::MAP;
        info
    }

    fn sector_count(&self) -> u64 {
        self.below.sector_count()
    }

    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()> {
        let request = Request::Read { offset: bytes(sector), len: buf.len() as u64 };
        self.pass(request, || self.below.read_sectors(sector, buf)).await
    }

    async fn read_bytes(&self, sector: u64, count: u64) -> Result<Bytes> {
        let request = Request::Read { offset: bytes(sector), len: bytes(count) };
        self.pass(request, || self.below.read_bytes(sector, count)).await
    }

    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let request = Request::Read { offset: bytes(sector), len: buf.len() as u64 };
        let answer = match self.hook.before_nowait(&request)? {
            Ok(()) => self.below.try_read_sectors(sector, buf)?,
            Err(refused) => Err(refused.in_image(&self.uri)),
        };
        self.hook.after(&self.uri, &request, answer.as_ref().err());
        Some(answer)
    }

    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()> {
        let request = Request::Write { offset: bytes(sector), bytes: buf };
        self.pass(request, || self.below.write_sectors(sector, buf, flags)).await
    }

    async fn write_bytes(&self, sector: u64, given: Bytes, flags: WriteFlags) -> Result<()> {
        let request = Request::Write { offset: bytes(sector), bytes: &given };
        self.pass(request, || self.below.write_bytes(sector, given.clone(), flags)).await
    }

    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()> {
        let mode = if flags.contains(ZeroFlags::MAY_UNMAP) {
            ZeroMode::Deallocate
        } else {
            ZeroMode::Allocate
        };
        let request = Request::Zeroes { offset: bytes(sector), len: bytes(count), mode };
        self.pass(request, || self.below.write_zeroes(sector, count, flags)).await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<()> {
        let request = Request::Discard { offset: bytes(sector), len: bytes(count) };
        self.pass(request, || self.below.discard(sector, count)).await
    }

    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation> {
        self.below.is_allocated(sector, count).await
    }

    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()> {
        self.below.extents(range, out).await
    }

    async fn map(&self, range: Range<u64>) -> Result<MappedRuns> {
        use crate::{Place, Run};
        // Calls the device below for its errors, such as a range outside the disk.
        self.below.map(range.clone()).await?;
        let len = range.end.saturating_sub(range.start);
        let run = Run { start: range.start, len, place: Place::Opaque };
        Ok(MappedRuns { runs: if len == 0 { Vec::new() } else { vec![run] }, pin: Box::new(()) })
    }

    async fn flush(&self) -> Result<()> {
        self.pass(Request::Flush, || self.below.flush()).await
    }

    async fn resize(&self, size: u64, preallocation: Preallocation) -> Result<()> {
        self.pass(Request::SetLen(size), || self.below.resize(size, preallocation)).await
    }

    async fn compact(&self, progress: &Progress<'_>) -> Result<CompactReport> {
        self.below.compact(progress).await
    }

    async fn make_empty(&self) -> Result<()> {
        self.below.make_empty().await
    }

    async fn amend(&self, options: &Options) -> Result<()> {
        self.below.amend(options).await
    }

    fn parent(&self) -> Option<Disk> {
        self.below.parent()
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.below.storage()
    }

    async fn close(&self) -> Result<()> {
        self.pass(Request::Flush, || self.below.close()).await
    }
}
