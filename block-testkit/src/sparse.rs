//! A window: a few blocks of a large disk, shown as a small disk that is cheap to compare.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::rig::Subject;
use block_core::inspect::Examination;
use block_core::probe::{Probe, ProbeInput, WindowRequests};
use block_core::{
    Access, Allocation, BlockDevice, BlockDriver, Bytes, CheckMode, CheckReport, CompactReport,
    CreateRequest, Descriptor, DeviceCaps, Disk, Error, ErrorKind, ExtentList, Identity, ImageInfo,
    LostHeader, MappedRuns, Measure, OpenContext, Options, PageBuffer, Preallocation, Progress,
    Result, Run, SECTOR_SIZE, Storage, WriteFlags, ZeroFlags,
};

/// The blocks of a large disk that form a small one.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Size of the large disk in bytes.
    pub size: u64,
    /// Block size in bytes.
    pub block_size: u64,
    /// The visible blocks in ascending order. The last one may be the disk's last block, and partial.
    pub blocks: &'static [u64],
}

impl Window {
    /// Returns the size of the small disk in bytes.
    pub fn len(&self) -> u64 {
        let last = self.blocks.last().map_or(0, |block| block * self.block_size);
        (self.blocks.len() as u64 - 1) * self.block_size + self.block_size.min(self.size - last)
    }

    /// Whether no block is visible. A window shows at least one.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Splits a range of the small disk at block boundaries. Returns each piece with its offset in the large disk.
    fn pieces(self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, u64)> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (block, within) = (at / self.block_size, at % self.block_size);
            let piece = at..range.end.min(at + self.block_size - within);
            at = piece.end;
            Some((piece, self.blocks[block as usize] * self.block_size + within))
        })
    }

    /// Whether a byte of the large disk is visible.
    fn shows(&self, at: u64) -> bool {
        self.blocks.contains(&(at / self.block_size))
    }
}

impl Subject {
    /// Creates a subject: the base image of a large disk with some visible blocks. No other block is ever stored:
    /// checking the image fails if one is.
    pub fn window(driver: impl BlockDriver + 'static, window: Window) -> Self {
        Self::of(Sparse { driver: Arc::new(driver), window }).size(window.len())
    }
}

/// The driver of a subject with windows as disks.
struct Sparse {
    driver: Arc<dyn BlockDriver>,
    window: Window,
}

impl fmt::Debug for Sparse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sparse({:?})", self.driver)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlockDriver for Sparse {
    fn descriptor(&self) -> &'static Descriptor {
        self.driver.descriptor()
    }

    fn probe(&self, input: &ProbeInput) -> Probe {
        self.driver.probe(input)
    }

    fn probe_windows(&self, input: &ProbeInput, requests: &mut WindowRequests) {
        self.driver.probe_windows(input, requests);
    }

    async fn inspect(&self, examination: &mut Examination<'_>) -> Result<()> {
        self.driver.inspect(examination).await
    }

    async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>> {
        self.driver.identity(storage).await
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let device = self.driver.open(storage, options, access, cx).await?;
        let found = device.sector_count() * SECTOR_SIZE;
        if found != self.window.size {
            let text = format!("the disk has {found} bytes, wanted {}", self.window.size);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(Arc::new(SparseDevice { device, window: self.window }))
    }

    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        cx: &OpenContext,
    ) -> Result<()> {
        let mut request = request.clone();
        request.size = self.window.size;
        self.driver.create(storage, &request, cx).await
    }

    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        mode: CheckMode,
        cx: &OpenContext,
    ) -> Result<CheckReport> {
        let report = self.driver.check(Arc::clone(&storage), mode, cx).await?;
        let device = self.driver.open(storage, &Options::new(), Access::Read, cx).await?;
        let mut extents = ExtentList::new();
        device.extents(0..self.window.size, &mut extents).await?;
        let stored = extents.as_slice().iter().filter(|extent| !extent.is_zero());
        let stray = stored.flat_map(|extent| {
            (extent.start..extent.start + extent.len).step_by(self.window.block_size as usize)
        });
        match stray.into_iter().find(|at| !self.window.shows(*at)) {
            Some(at) => {
                let text = format!("byte {at:#x} of the disk is stored, and nobody wrote there");
                Err(Error::new(ErrorKind::Corrupt, text))
            }
            None => Ok(report),
        }
    }

    async fn lost_header(
        &self,
        storage: Arc<dyn Storage>,
        known: &CreateRequest,
    ) -> Result<LostHeader> {
        let mut known = known.clone();
        known.size = self.window.size;
        self.driver.lost_header(storage, &known).await
    }

    fn measure(
        &self,
        size: u64,
        options: &Options,
        data_blocks: &(dyn Fn(u64) -> u64 + Sync),
    ) -> Result<Measure> {
        self.driver.measure(size, options, data_blocks)
    }
}

#[derive(Debug)]
struct SparseDevice {
    device: Arc<dyn BlockDevice>,
    window: Window,
}

impl SparseDevice {
    /// Splits a request into pieces: the byte range in the request, and the offset in the disk below.
    fn pieces(
        &self,
        sector: u64,
        count: u64,
    ) -> Result<impl Iterator<Item = (Range<usize>, u64)> + use<>> {
        let end = sector.checked_add(count).filter(|end| *end <= self.sector_count());
        let end = end.ok_or_else(|| Error::new(ErrorKind::OutOfRange, "behind the window"))?;
        let start = sector * SECTOR_SIZE;
        let pieces = self.window.pieces(start..end * SECTOR_SIZE);
        Ok(pieces.map(move |(piece, place)| {
            ((piece.start - start) as usize..(piece.end - start) as usize, place / SECTOR_SIZE)
        }))
    }
}

fn sectors(range: &Range<usize>) -> u64 {
    range.len() as u64 / SECTOR_SIZE
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlockDevice for SparseDevice {
    fn info(&self) -> ImageInfo {
        let mut info = self.device.info();
        info.virtual_size = self.window.len();
        info.caps -= DeviceCaps::GROW | DeviceCaps::SHRINK;
        info
    }

    fn sector_count(&self) -> u64 {
        self.window.len() / SECTOR_SIZE
    }

    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()> {
        for (piece, place) in self.pieces(sector, buf.len() as u64 / SECTOR_SIZE)? {
            self.device.read_sectors(place, &mut buf[piece]).await?;
        }
        Ok(())
    }

    async fn read_bytes(&self, sector: u64, count: u64) -> Result<Bytes> {
        let pieces = self.pieces(sector, count)?;
        let mut buffer = PageBuffer::new((count * SECTOR_SIZE) as usize);
        for (piece, place) in pieces {
            let bytes = self.device.read_bytes(place, sectors(&piece)).await?;
            buffer[piece].copy_from_slice(&bytes);
        }
        Ok(Bytes::from(buffer))
    }

    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let pieces = match self.pieces(sector, buf.len() as u64 / SECTOR_SIZE) {
            Ok(pieces) => pieces,
            Err(error) => return Some(Err(error)),
        };
        for (piece, place) in pieces {
            if let Err(error) = self.device.try_read_sectors(place, &mut buf[piece])? {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()> {
        for (piece, place) in self.pieces(sector, buf.len() as u64 / SECTOR_SIZE)? {
            self.device.write_sectors(place, &buf[piece], flags).await?;
        }
        Ok(())
    }

    async fn write_bytes(&self, sector: u64, bytes: Bytes, flags: WriteFlags) -> Result<()> {
        for (piece, place) in self.pieces(sector, bytes.len() as u64 / SECTOR_SIZE)? {
            self.device.write_bytes(place, bytes.slice(piece), flags).await?;
        }
        Ok(())
    }

    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()> {
        for (piece, place) in self.pieces(sector, count)? {
            self.device.write_zeroes(place, sectors(&piece), flags).await?;
        }
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<()> {
        for (piece, place) in self.pieces(sector, count)? {
            self.device.discard(place, sectors(&piece)).await?;
        }
        Ok(())
    }

    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation> {
        match self.pieces(sector, count)?.next() {
            Some((piece, place)) => self.device.is_allocated(place, sectors(&piece)).await,
            None => Ok(Allocation { allocated: false, sectors: 0 }),
        }
    }

    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()> {
        for (piece, place) in self.window.pieces(range) {
            let mut list = ExtentList::new();
            self.device.extents(place..place + (piece.end - piece.start), &mut list).await?;
            for extent in &list {
                out.push(block_core::Extent {
                    start: extent.start - place + piece.start,
                    ..*extent
                });
            }
        }
        Ok(())
    }

    async fn map(&self, range: Range<u64>) -> Result<MappedRuns> {
        let (mut runs, mut pins) = (Vec::new(), Vec::new());
        for (piece, place) in self.window.pieces(range) {
            let mapped = self.device.map(place..place + (piece.end - piece.start)).await?;
            let moved = |run: Run| Run { start: run.start - place + piece.start, ..run };
            runs.extend(mapped.runs.into_iter().map(moved));
            pins.push(mapped.pin);
        }
        Ok(MappedRuns { runs, pin: Box::new(pins) })
    }

    async fn flush(&self) -> Result<()> {
        self.device.flush().await
    }

    async fn resize(&self, _: u64, _: Preallocation) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "a window keeps its size"))
    }

    async fn compact(&self, progress: &Progress<'_>) -> Result<CompactReport> {
        self.device.compact(progress).await
    }

    async fn make_empty(&self) -> Result<()> {
        self.device.make_empty().await
    }

    async fn amend(&self, options: &Options) -> Result<()> {
        self.device.amend(options).await
    }

    fn parent(&self) -> Option<Disk> {
        self.device.parent()
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.device.storage()
    }

    async fn close(&self) -> Result<()> {
        self.device.close().await
    }
}
