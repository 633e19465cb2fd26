//! The caller's handle to an opened image: any byte range, checked once.

use std::ops::Range;
use std::sync::Arc;

use crate::range_lock::RangeLock;
use crate::{
    Allocation, BlockDevice, BoxFuture, Bytes, Error, ErrorKind, ExtentList, ImageInfo, MappedRuns,
    PageBuffer, Result, SECTOR_SIZE, WriteFlags, ZeroFlags, bug,
};

/// An opened disk. Clones are cheap and refer to the same disk.
///
/// Reads and writes take any byte range. Partial sectors are handled here by read-modify-write, under a lock
/// that excludes other writes through the same handle.
#[derive(Debug, Clone)]
pub struct Disk {
    device: Arc<dyn BlockDevice>,
    writes: Arc<RangeLock>,
}

const SECTOR: usize = SECTOR_SIZE as usize;

/// Message of an internal error for requests that are not whole sectors.
const BEHIND_SECTORS: &str = "a request reaches past the sectors that hold it";

impl Disk {
    /// Creates a handle to `device`.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, writes: RangeLock::new() }
    }

    /// Returns the device, for whole-sector requests and maintenance.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Returns facts about the image.
    pub fn info(&self) -> ImageInfo {
        self.device.info()
    }

    /// Returns the size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.device.sector_count().saturating_mul(SECTOR_SIZE)
    }

    /// Reads into `buf`, starting at byte `offset`.
    ///
    /// # Errors
    /// `OutOfRange` if part of the range is past the end of the disk, and any error of the device.
    pub async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len() as u64;
        self.in_range(offset, len)?;
        if offset.is_multiple_of(SECTOR_SIZE) && len.is_multiple_of(SECTOR_SIZE) {
            let sector = offset / SECTOR_SIZE;
            return match self.device.try_read_sectors(sector, buf) {
                Some(done) => done,
                None => self.device.read_sectors(sector, buf).await,
            };
        }
        self.read_edges(offset, buf).await
    }

    /// Reads `len` bytes starting at byte `offset` into memory that the storage chooses. Nothing is copied if
    /// the storage bypasses the page cache and the range is whole sectors in one run. Uses `len` bytes of
    /// memory.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub fn read_bytes(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        if let Err(error) = self.in_range(offset, len as u64) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if offset.is_multiple_of(SECTOR_SIZE) && (len as u64).is_multiple_of(SECTOR_SIZE) {
            // Not wrapped in a future of our own: every read in flight holds one.
            return self.device.read_bytes(offset / SECTOR_SIZE, len as u64 / SECTOR_SIZE);
        }
        Box::pin(async move {
            let mut buffer = PageBuffer::new(len);
            self.read_edges(offset, &mut buffer).await?;
            Ok(Bytes::from(buffer))
        })
    }

    /// Writes `buf` at byte `offset`.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> Result<()> {
        let len = buf.len() as u64;
        let end = self.in_range(offset, len)?;
        let sectors = offset / SECTOR_SIZE..end.div_ceil(SECTOR_SIZE);
        if offset.is_multiple_of(SECTOR_SIZE) && len.is_multiple_of(SECTOR_SIZE) {
            let _guard = self.writes.lock_shared(sectors).await;
            return self.device.write_sectors(offset / SECTOR_SIZE, buf, flags).await;
        }
        let _guard = self.writes.lock_exclusive(sectors.clone()).await;
        let start = sectors.start * SECTOR_SIZE;
        let whole = (sectors.end - sectors.start) * SECTOR_SIZE;
        let mut sectors_buf = vec![0; to_usize(whole)?];
        self.device.read_sectors(sectors.start, &mut sectors_buf).await?;
        let at = to_usize(offset - start)?;
        let part = sectors_buf.get_mut(at..at + buf.len()).ok_or_else(|| bug(BEHIND_SECTORS))?;
        part.copy_from_slice(buf);
        self.device.write_sectors(sectors.start, &sectors_buf, flags).await
    }

    /// Writes as [`write_at`](Self::write_at) does, from memory that the storage keeps for as long as it
    /// needs. Nothing is copied if the storage bypasses the page cache, the range is whole sectors, and the
    /// memory is aligned as a [`PageBuffer`] is.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn write_bytes(&self, offset: u64, bytes: Bytes, flags: WriteFlags) -> Result<()> {
        let len = bytes.len() as u64;
        if !offset.is_multiple_of(SECTOR_SIZE) || !len.is_multiple_of(SECTOR_SIZE) {
            return self.write_at(offset, &bytes, flags).await;
        }
        let end = self.in_range(offset, len)?;
        let _guard = self.writes.lock_shared(offset / SECTOR_SIZE..end / SECTOR_SIZE).await;
        self.device.write_bytes(offset / SECTOR_SIZE, bytes, flags).await
    }

    /// Makes `len` bytes at `offset` read as zeros.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let end = self.in_range(offset, len)?;
        let first = offset.div_ceil(SECTOR_SIZE);
        let last = end / SECTOR_SIZE;
        let write_flags =
            if flags.contains(ZeroFlags::FUA) { WriteFlags::FUA } else { WriteFlags::empty() };
        let zeros = [0; SECTOR];
        let edge = |from: u64, to: u64| {
            let part = zeros.get(..to_usize(to - from)?);
            part.ok_or_else(|| bug("the edge of a range of zeros is longer than a sector"))
        };
        if first > last {
            return self.write_at(offset, edge(offset, end)?, write_flags).await;
        }
        let (start, stop) = (first * SECTOR_SIZE, last * SECTOR_SIZE);
        if offset < start {
            self.write_at(offset, edge(offset, start)?, write_flags).await?;
        }
        if stop < end {
            self.write_at(stop, edge(stop, end)?, write_flags).await?;
        }
        if first == last {
            return Ok(());
        }
        let _guard = self.writes.lock_shared(first..last).await;
        self.device.write_zeroes(first, last - first, flags).await
    }

    /// Declares `len` bytes at `offset` unneeded. Sectors that are only partly inside the range are left
    /// alone.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let end = self.in_range(offset, len)?;
        let first = offset.div_ceil(SECTOR_SIZE);
        let last = end / SECTOR_SIZE;
        if first >= last {
            return Ok(());
        }
        let _guard = self.writes.lock_shared(first..last).await;
        self.device.discard(first, last - first).await
    }

    /// Returns whether the sector at byte `offset` is stored in this image, and for how many sectors the
    /// answer holds.
    ///
    /// # Errors
    /// `OutOfRange` if `offset` is past the end of the disk, and any error of the device.
    pub async fn is_allocated(&self, offset: u64) -> Result<Allocation> {
        self.in_range(offset, 1)?;
        let sector = offset / SECTOR_SIZE;
        self.device.is_allocated(sector, self.device.sector_count().saturating_sub(sector)).await
    }

    /// Returns the extents of `range` (bytes, clipped at the end of the disk).
    ///
    /// # Errors
    /// Any error of reading the map.
    pub async fn extents(&self, range: Range<u64>) -> Result<ExtentList> {
        let mut out = ExtentList::new();
        let range = self.cut(range);
        if !range.is_empty() {
            self.device.extents(range, &mut out).await?;
        }
        Ok(out)
    }

    /// Returns the locations of `range` (bytes, clipped at the end of the disk), pinned for direct I/O.
    ///
    /// # Errors
    /// Any error of reading the map.
    pub async fn map(&self, range: Range<u64>) -> Result<MappedRuns> {
        let range = self.cut(range);
        if range.is_empty() {
            return Ok(MappedRuns { runs: Vec::new(), pin: Box::new(()) });
        }
        self.device.map(range).await
    }

    /// Makes everything acknowledged so far durable.
    ///
    /// # Errors
    /// Any error of the device. After an error, nothing may be assumed durable.
    pub async fn flush(&self) -> Result<()> {
        self.device.flush().await
    }

    /// Flushes, and leaves the image as small and as clean as it can be.
    ///
    /// # Errors
    /// Any error of the device.
    pub async fn close(&self) -> Result<()> {
        self.device.close().await
    }

    /// Returns the parent that this disk reads through.
    pub fn parent(&self) -> Option<Disk> {
        self.device.parent()
    }

    async fn read_edges(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        let first = offset / SECTOR_SIZE;
        let whole = (end.div_ceil(SECTOR_SIZE) - first) * SECTOR_SIZE;
        let mut sectors = vec![0; to_usize(whole)?];
        self.device.read_sectors(first, &mut sectors).await?;
        let at = to_usize(offset % SECTOR_SIZE)?;
        let part = sectors.get(at..at + buf.len()).ok_or_else(|| bug(BEHIND_SECTORS))?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn cut(&self, range: Range<u64>) -> Range<u64> {
        range.start..range.end.min(self.size())
    }

    /// Checks that the range lies on the disk, and returns its end.
    #[inline]
    fn in_range(&self, offset: u64, len: u64) -> Result<u64> {
        let size = self.size();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(end),
            _ => Err(out_of_range(offset, len, size)),
        }
    }
}

#[cold]
fn out_of_range(offset: u64, len: u64, size: u64) -> Error {
    Error::new(
        ErrorKind::OutOfRange,
        format!("{len} bytes from {offset:#x} on go past the end of the disk at {size:#x}"),
    )
}

fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::new(ErrorKind::Limit, "the request is too large"))
}
