//! An open raw disk.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use block_core::{
    Access, Allocation, BlockDevice, Bytes, CompactReport, DeviceCaps, Disk, Error, ErrorKind,
    Extent, ExtentFlags, ExtentList, ImageInfo, InfoValue, MappedRuns, Options, PageBuffer, Place,
    Preallocation, Progress, Result, Run, SECTOR_SIZE, Storage, StorageCaps, WriteFlags, ZeroFlags,
    ZeroMode, allocate_zeros, write_zeros,
};

/// A raw disk over any storage.
///
/// If the storage's length is not a multiple of 512 bytes, its last sector is stored in part. The rest of that sector
/// reads as zeros, and writing the sector extends the storage.
#[derive(Debug)]
pub struct RawDevice {
    storage: Arc<dyn Storage>,
    access: Access,
    /// Offset of the disk in the storage, in bytes.
    start: u64,
    /// Whether the caller gave the disk's size, which then cannot change.
    fixed: bool,
    /// Size of the disk in bytes, a multiple of 512.
    size: AtomicU64,
    /// Bytes of the disk that the storage holds: less than a sector below its size.
    stored: AtomicU64,
    closed: AtomicBool,
}

/// The stored part of a request.
struct Span {
    /// Offset of the first byte in the storage.
    at: u64,
    /// Stored bytes from there on.
    stored: usize,
}

impl RawDevice {
    /// Opens the window of `storage` from `offset` on, with a length of `size` bytes or up to the storage's end.
    ///
    /// # Errors
    /// `InvalidInput` for a window that is not inside the storage or not whole sectors; `ReadOnly` when `access` asks
    /// to write and the storage cannot.
    pub async fn open(
        storage: Arc<dyn Storage>,
        offset: u64,
        size: Option<u64>,
        access: Access,
    ) -> Result<Self> {
        let len = storage.len().await?;
        let bad =
            |message: String| Error::new(ErrorKind::InvalidInput, message).in_image(storage.uri());
        let Some(room) = len.checked_sub(offset) else {
            return Err(bad(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({len})"
            )));
        };
        if size.is_some_and(|size| size % SECTOR_SIZE != 0) {
            return Err(bad("Specified size is not multiple of 512".into()));
        }
        if let Some(size) = size.filter(|size| *size > room) {
            return Err(bad(format!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the \
                 actual size of the containing file ({len})"
            )));
        }
        if access == Access::ReadWrite && !storage.caps().contains(StorageCaps::WRITE) {
            return Err(Error::new(ErrorKind::ReadOnly, "the storage cannot be written")
                .in_image(storage.uri()));
        }
        let stored = size.unwrap_or(room);
        Ok(Self {
            access,
            start: offset,
            fixed: size.is_some(),
            size: AtomicU64::new(whole_sectors(stored)?),
            stored: AtomicU64::new(stored),
            closed: AtomicBool::new(false),
            storage,
        })
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Returns how many bytes of the disk the storage holds.
    fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// Returns the byte range of `count` sectors, or an error if they are not all on the disk.
    fn bytes(&self, sector: u64, count: u64) -> Result<Range<u64>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.error(ErrorKind::InvalidInput, "the disk was closed"));
        }
        let end = sector.checked_add(count).and_then(|end| end.checked_mul(SECTOR_SIZE));
        match end.filter(|end| *end <= self.size()) {
            Some(end) => Ok(end - count * SECTOR_SIZE..end),
            None => Err(self.error(
                ErrorKind::OutOfRange,
                format!(
                    "{count} sectors from {sector} on go past the end of the disk at {:#x}",
                    self.size()
                ),
            )),
        }
    }

    /// Does what [`bytes`](Self::bytes) does, for a request that changes the bytes.
    fn bytes_to_change(&self, sector: u64, count: u64) -> Result<Range<u64>> {
        self.may_change()?;
        self.bytes(sector, count)
    }

    fn may_change(&self) -> Result<()> {
        match self.access {
            Access::Read => {
                Err(self.error(ErrorKind::ReadOnly, "the disk was opened for reading only"))
            }
            Access::ReadWrite => Ok(()),
        }
    }

    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message.into()).in_image(self.storage.uri())
    }

    /// Returns where a read finds its bytes.
    fn span(&self, sector: u64, len: usize) -> Result<Span> {
        let bytes = self.bytes(sector, (len as u64).div_ceil(SECTOR_SIZE))?;
        let stored = self.stored().saturating_sub(bytes.start);
        let stored = usize::try_from(stored).unwrap_or(len).min(len);
        Ok(Span { at: self.start + bytes.start, stored })
    }

    /// Records that the storage holds the disk at least up to byte `end`.
    fn reaches(&self, end: u64) {
        self.stored.fetch_max(end, Ordering::AcqRel);
    }

    async fn write_zeroes_from(&self, bytes: Range<u64>, mode: ZeroMode) -> Result<()> {
        let len = bytes.end - bytes.start;
        self.storage.write_zeroes(self.start + bytes.start, len, mode).await?;
        self.reaches(bytes.end);
        Ok(())
    }
}

#[async_trait]
impl BlockDevice for RawDevice {
    fn info(&self) -> ImageInfo {
        let caps = self.storage.caps();
        let mut device = DeviceCaps::MAP;
        if self.access == Access::ReadWrite {
            device |= DeviceCaps::WRITE;
            if caps.contains(StorageCaps::DEALLOCATE | StorageCaps::SPARSE) {
                device |= DeviceCaps::SPARSE;
            }
            if caps.contains(StorageCaps::RESIZE) && !self.fixed {
                device |= DeviceCaps::GROW | DeviceCaps::SHRINK;
            }
        }
        let mut info = ImageInfo::new("raw", self.size(), device);
        if self.start != 0 || self.fixed {
            info.details.push(("offset", InfoValue::Number(self.start)));
        }
        if self.fixed {
            info.details.push(("size", InfoValue::Number(self.size())));
        }
        info
    }

    fn sector_count(&self) -> u64 {
        self.size() / SECTOR_SIZE
    }

    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()> {
        let span = self.span(sector, buf.len())?;
        let (stored, beyond) = buf.split_at_mut(span.stored);
        beyond.fill(0);
        self.storage.read_at(span.at, stored).await
    }

    async fn read_bytes(&self, sector: u64, count: u64) -> Result<Bytes> {
        let len = usize::try_from(count.saturating_mul(SECTOR_SIZE))
            .map_err(|_| self.error(ErrorKind::Limit, "the request is too large"))?;
        let span = self.span(sector, len)?;
        if span.stored == len {
            return self.storage.read_bytes(span.at, len).await;
        }
        let mut buffer = PageBuffer::new(len);
        self.read_sectors(sector, &mut buffer).await?;
        Ok(Bytes::from(buffer))
    }

    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let span = match self.span(sector, buf.len()) {
            Ok(span) => span,
            Err(error) => return Some(Err(error)),
        };
        let (stored, beyond) = buf.split_at_mut(span.stored);
        beyond.fill(0);
        self.storage.try_read_at(span.at, stored)
    }

    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()> {
        let bytes = self.bytes_to_change(sector, (buf.len() as u64).div_ceil(SECTOR_SIZE))?;
        self.storage.write_at(self.start + bytes.start, buf).await?;
        self.reaches(bytes.end);
        if flags.contains(WriteFlags::FUA) { self.storage.flush().await } else { Ok(()) }
    }

    async fn write_bytes(&self, sector: u64, given: Bytes, flags: WriteFlags) -> Result<()> {
        let bytes = self.bytes_to_change(sector, (given.len() as u64).div_ceil(SECTOR_SIZE))?;
        self.storage.write_bytes(self.start + bytes.start, given).await?;
        self.reaches(bytes.end);
        if flags.contains(WriteFlags::FUA) { self.storage.flush().await } else { Ok(()) }
    }

    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()> {
        let bytes = self.bytes_to_change(sector, count)?;
        let mode = if flags.contains(ZeroFlags::MAY_UNMAP) {
            ZeroMode::Deallocate
        } else {
            ZeroMode::Allocate
        };
        self.write_zeroes_from(bytes, mode).await?;
        if flags.contains(ZeroFlags::FUA) { self.storage.flush().await } else { Ok(()) }
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<()> {
        let mut bytes = self.bytes_to_change(sector, count)?;
        // Bytes past the stored end read as zeros already. Do not extend the file for them.
        bytes.end = bytes.end.min(self.stored());
        if bytes.is_empty() || !self.storage.caps().contains(StorageCaps::DEALLOCATE) {
            return Ok(());
        }
        self.write_zeroes_from(bytes, ZeroMode::Deallocate).await
    }

    /// Reports every sector as allocated, because a raw disk has no map.
    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation> {
        self.bytes(sector, count)?;
        Ok(Allocation { allocated: true, sectors: count.max(1) })
    }

    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()> {
        let end = range.end.min(self.size());
        let stored = self.stored().min(end);
        let mut below = Vec::new();
        if range.start < stored {
            self.storage.extents(self.start + range.start..self.start + stored, &mut below).await?;
        }
        let mut at = range.start;
        let mut push = |start: u64, len: u64, flags: ExtentFlags| {
            let flags = flags | ExtentFlags::PRESENT;
            out.push(Extent { start, len, flags, depth: 0, offset: Some(self.start + start) });
        };
        for extent in below {
            let flags = if extent.data { ExtentFlags::DATA } else { ExtentFlags::ZERO };
            push(extent.start - self.start, extent.len, flags);
            at = extent.start - self.start + extent.len;
        }
        if at < end {
            push(at, end - at, ExtentFlags::ZERO);
        }
        Ok(())
    }

    async fn map(&self, range: Range<u64>) -> Result<MappedRuns> {
        let first = range.start / SECTOR_SIZE;
        self.bytes(first, range.end.div_ceil(SECTOR_SIZE).saturating_sub(first))?;
        let end = range.end.min(self.size());
        let stored = self.stored().clamp(range.start.min(end), end);
        let place =
            Place::Stored { storage: Arc::clone(&self.storage), offset: self.start + range.start };
        let mut runs = vec![
            Run { start: range.start, len: stored.saturating_sub(range.start), place },
            Run { start: stored, len: end - stored, place: Place::Zero },
        ];
        runs.retain(|run| run.len > 0);
        // Bytes of a raw disk never move.
        Ok(MappedRuns { runs, pin: Box::new(()) })
    }

    async fn flush(&self) -> Result<()> {
        self.bytes(0, 0)?;
        match self.access {
            Access::Read => Ok(()),
            Access::ReadWrite => self.storage.flush().await,
        }
    }

    async fn resize(&self, size: u64, preallocation: Preallocation) -> Result<()> {
        self.bytes_to_change(0, 0)?;
        if self.fixed || !self.storage.caps().contains(StorageCaps::RESIZE) {
            return Err(self.error(ErrorKind::Unsupported, "Cannot resize fixed-size raw disks"));
        }
        let end = self.start.checked_add(size).filter(|end| i64::try_from(*end).is_ok());
        let Some(end) = end.filter(|_| size.is_multiple_of(SECTOR_SIZE)) else {
            return Err(self.error(
                ErrorKind::InvalidInput,
                format!("a raw disk cannot have {size} bytes: whole sectors, below 2^63 bytes"),
            ));
        };
        if preallocation == Preallocation::Metadata {
            return Err(
                self.error(ErrorKind::InvalidInput, "a raw disk has no metadata to allocate")
            );
        }
        let before = self.size();
        if size < before {
            // Lower the size first: no read may reach bytes that the storage is about to cut off.
            self.size.store(size, Ordering::Release);
            self.stored.fetch_min(size, Ordering::AcqRel);
        }
        if let Err(error) = self.storage.set_len(end).await {
            // The storage may have changed its length despite the error, so ask it.
            let len = self.storage.len().await.map_or(before, |len| len.saturating_sub(self.start));
            self.stored.store(len, Ordering::Release);
            self.size.store(whole_sectors(len)?, Ordering::Release);
            return Err(error);
        }
        self.stored.store(size, Ordering::Release);
        self.size.store(size, Ordering::Release);
        if size > before {
            fill(&*self.storage, self.start + before..end, preallocation).await?;
        }
        Ok(())
    }

    async fn compact(&self, _: &Progress<'_>) -> Result<CompactReport> {
        Err(self.error(ErrorKind::Unsupported, "a raw disk has nothing to compact"))
    }

    async fn make_empty(&self) -> Result<()> {
        Err(self.error(ErrorKind::Unsupported, "a raw disk has no parent to fall back to"))
    }

    async fn amend(&self, _: &Options) -> Result<()> {
        Err(self.error(ErrorKind::Unsupported, "a raw disk has nothing to amend"))
    }

    fn parent(&self) -> Option<Disk> {
        None
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    async fn close(&self) -> Result<()> {
        self.flush().await?;
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

/// Returns `size` rounded up to whole sectors, in bytes.
pub(crate) fn whole_sectors(size: u64) -> Result<u64> {
    let whole = size.checked_next_multiple_of(SECTOR_SIZE);
    whole.filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("a disk cannot have {size} bytes, only below 2^63"),
        )
    })
}

/// Allocates a range of a storage that reads as zeros, as `preallocation` asks.
pub(crate) async fn fill(
    storage: &dyn Storage,
    range: Range<u64>,
    preallocation: Preallocation,
) -> Result<()> {
    let len = range.end - range.start;
    match preallocation {
        Preallocation::Falloc => allocate_zeros(storage, range.start, len).await,
        Preallocation::Full => write_zeros(storage, range.start, len).await,
        _ => Ok(()),
    }
}
