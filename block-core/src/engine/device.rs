//! The `BlockDevice` implementation: forwards each request to the module that serves it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::payload::Payload;
use super::{BlockMapper, Mapped};
use crate::{
    Access, Allocation, BlockDevice, BoxFuture, Bytes, CompactReport, DeviceCaps, Disk, Error,
    ErrorKind, ExtentList, ImageInfo, MappedRuns, Options, Preallocation, Progress, Result,
    SECTOR_SIZE, Storage, WriteFlags, ZeroFlags,
};

#[async_trait]
impl<M: BlockMapper> BlockDevice for Mapped<M> {
    fn info(&self) -> ImageInfo {
        let mut info = self.mapper.info();
        if self.layout().is_fixed {
            info.caps -= DeviceCaps::COMPACT | DeviceCaps::MAKE_EMPTY;
        }
        if self.access == Access::Read {
            info.caps &= DeviceCaps::MAP | DeviceCaps::SPARSE;
        }
        info
    }

    fn sector_count(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()> {
        self.read(sector, buf).await
    }

    fn read_bytes<'d, 'f>(&'d self, sector: u64, count: u64) -> BoxFuture<'f, Result<Bytes>>
    where
        'd: 'f,
        Self: 'f,
    {
        self.read_given(sector, count)
    }

    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>> {
        self.try_read(sector, buf)
    }

    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()> {
        self.write(sector, Payload::Lent(buf), flags).await
    }

    async fn write_bytes(&self, sector: u64, bytes: Bytes, flags: WriteFlags) -> Result<()> {
        self.write(sector, Payload::Given(&bytes), flags).await
    }

    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()> {
        self.zero(sector, count, flags).await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<()> {
        self.discard_blocks(sector, count).await
    }

    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation> {
        self.allocation(sector, count).await
    }

    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()> {
        self.check_bytes(&range)?;
        self.list_extents(range, out).await
    }

    async fn map(&self, range: Range<u64>) -> Result<MappedRuns> {
        self.check_bytes(&range)?;
        self.pinned_runs(range).await
    }

    async fn flush(&self) -> Result<()> {
        self.request(0, 0)?;
        match self.access {
            Access::Read => Ok(()),
            Access::ReadWrite => self.publish().await,
        }
    }

    async fn resize(&self, size: u64, preallocation: Preallocation) -> Result<()> {
        self.change_size(size, preallocation).await
    }

    async fn compact(&self, progress: &Progress<'_>) -> Result<CompactReport> {
        self.make_compact(progress).await
    }

    async fn make_empty(&self) -> Result<()> {
        self.empty().await
    }

    async fn amend(&self, options: &Options) -> Result<()> {
        self.write_request(0, 0)?;
        let _turn = self.publishing.lock().await;
        self.mapper.amend(options).await
    }

    fn parent(&self) -> Option<Disk> {
        self.parent.clone()
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    async fn close(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let _guard = self.blocks.lock_exclusive(0..u64::MAX).await;
        if self.dirty.load(Ordering::Acquire) || self.slots.is_started() {
            self.publish().await?;
            self.close_few_gaps().await?;
            self.trim().await?;
            self.mapper.close(self.slots.end()).await?;
            self.storage.flush().await?;
        }
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

impl<M: BlockMapper> Mapped<M> {
    fn check_bytes(&self, range: &Range<u64>) -> Result<()> {
        let start = range.start / SECTOR_SIZE;
        let end = range.end.div_ceil(SECTOR_SIZE);
        let count = end.checked_sub(start).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "a range of bytes ends before it begins")
        })?;
        self.request(start, count).map(drop)
    }
}
