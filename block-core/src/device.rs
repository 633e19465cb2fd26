//! One opened image: the trait that a format driver implements for its images.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bitflags::bitflags;
use serde::Serialize;
use uuid::Uuid;

use crate::{Allocation, Bytes, Disk, ExtentList, Options, Result, Storage};

/// Bytes in a sector, for every disk and every format.
pub const SECTOR_SIZE: u64 = 512;

bitflags! {
    /// Capabilities of an opened image. The conformance suite checks that an image does what it declares.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct DeviceCaps: u32 {
        /// Accepts writes, zeroes, discards and flushes.
        const WRITE = 1;
        /// Ranges that were never written take no space. Zeroes and discards free space.
        const SPARSE = 1 << 1;
        /// [`BlockDevice::resize`] can grow the disk.
        const GROW = 1 << 2;
        /// [`BlockDevice::resize`] can shrink the disk.
        const SHRINK = 1 << 3;
        /// [`BlockDevice::compact`] works.
        const COMPACT = 1 << 4;
        /// [`BlockDevice::make_empty`] works.
        const MAKE_EMPTY = 1 << 5;
        /// [`BlockDevice::amend`] works.
        const AMEND = 1 << 6;
        /// [`BlockDevice::map`] returns offsets in a storage.
        const MAP = 1 << 7;
    }

    /// Options of a write.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct WriteFlags: u32 {
        /// The write and its metadata are durable when the call returns, as after a flush.
        const FUA = 1;
    }

    /// Options of a write of zeros.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZeroFlags: u32 {
        /// Allows the device to deallocate the range. Without it, allocated blocks stay allocated.
        const MAY_UNMAP = 1;
        /// The zeros are durable when the call returns.
        const FUA = 1 << 1;
    }
}

/// A value in [`ImageInfo::details`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum InfoValue {
    /// Text.
    Text(String),
    /// A number, or a size in bytes.
    Number(u64),
    /// A boolean.
    Bool(bool),
    /// A UUID.
    Uuid(Uuid),
}

/// The parent that an image names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentInfo {
    /// The name in the image: a file name or a UUID.
    pub reference: String,
    /// URI of the parent's storage, if the parent was opened.
    pub opened: Option<String>,
    /// The parent's format, if the parent was opened or the image records it.
    pub format: Option<String>,
}

/// Facts about an image that need no read of its data.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The driver's name.
    pub format: &'static str,
    /// Size of the virtual disk in bytes, a multiple of 512.
    pub virtual_size: u64,
    /// Allocation unit in bytes, for formats that have one.
    pub block_size: Option<u64>,
    /// Capabilities of the image in the access mode it was opened with.
    pub caps: DeviceCaps,
    /// Whether the image was not closed cleanly, or was marked for repair.
    pub dirty: bool,
    /// The parent that the image names.
    pub parent: Option<ParentInfo>,
    /// Format-specific facts, in display order.
    pub details: Vec<(&'static str, InfoValue)>,
    /// Irregularities that were tolerated when the image was opened.
    pub warnings: Vec<String>,
}

impl ImageInfo {
    /// Sets the facts that every image has. The other fields start empty; set them directly.
    pub fn new(format: &'static str, virtual_size: u64, caps: DeviceCaps) -> Self {
        Self {
            format,
            virtual_size,
            block_size: None,
            caps,
            dirty: false,
            parent: None,
            details: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The location of a run of guest bytes.
#[derive(Debug, Clone)]
pub enum Place {
    /// At a fixed offset of a storage.
    Stored {
        /// The image's own storage or a parent's.
        storage: Arc<dyn Storage>,
        /// Offset in `storage`, in bytes.
        offset: u64,
    },
    /// Not stored: the run reads as zeros.
    Zero,
    /// Known only to the device: read the run through [`BlockDevice::read_sectors`].
    Opaque,
}

/// A contiguous run of guest bytes with one location.
#[derive(Debug, Clone)]
pub struct Run {
    /// First guest byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Location of the run.
    pub place: Place,
}

/// The result of [`BlockDevice::map`]. While it exists, no run moves and no run's space is reallocated.
pub struct MappedRuns {
    /// Runs that cover the range in order, without gaps.
    pub runs: Vec<Run>,
    /// Guard that pins the runs.
    pub pin: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for MappedRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedRuns").field("runs", &self.runs).finish_non_exhaustive()
    }
}

/// How much space a new or resized image allocates in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Preallocation {
    /// None: space is allocated when it is first written.
    #[default]
    Off,
    /// Allocates map entries but no data space.
    Metadata,
    /// Reserves space without writing it.
    Falloc,
    /// Writes zeros.
    Full,
}

/// Progress callback of a long operation, called with (done, total) in bytes or blocks. If it returns
/// `false`, the operation stops at the next safe point with `Interrupted`.
pub type Progress<'a> = dyn Fn(u64, u64) -> bool + Send + Sync + 'a;

/// Result of a compaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Blocks freed because they held only zeros or equalled the parent's.
    pub blocks_dropped: u64,
    /// Blocks copied to another place in the file.
    pub blocks_moved: u64,
    /// File length before the compaction, in bytes.
    pub bytes_before: u64,
    /// File length after the compaction, in bytes.
    pub bytes_after: u64,
}

/// One opened image.
///
/// **Ranges.** [`Disk`] promises that `(sector + count) * 512` fits in an `i64` and that buffers are whole
/// sectors, so sector arithmetic cannot overflow. It does not promise that the range is inside the disk,
/// because only the device knows its size at the moment of the request. The device answers
/// [`OutOfRange`](crate::ErrorKind::OutOfRange) before it changes anything.
///
/// **The write contract** is on [`engine`](crate::engine): what is durable when, what an error or a dropped
/// future leaves behind, and how concurrent requests are ordered.
///
/// No method has a default: a default that is silently wrong for one driver costs more than three lines in
/// each.
#[async_trait]
pub trait BlockDevice: Send + Sync + fmt::Debug {
    /// Returns facts about the image.
    fn info(&self) -> ImageInfo;

    /// Returns the current size of the disk in sectors of 512 bytes.
    fn sector_count(&self) -> u64;

    /// Reads into `buf` (whole sectors), starting at `sector`.
    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads `count` sectors starting at `sector` into memory chosen by the storage, to avoid a copy where
    /// possible ([`Storage::read_bytes`]). The device checks the range before it allocates memory. It may do
    /// both, and take a lock that the future holds, during this call instead of at the first poll.
    async fn read_bytes(&self, sector: u64, count: u64) -> Result<Bytes>;

    /// Reads as [`read_sectors`](Self::read_sectors) does, without blocking. Returns `None` without any
    /// effect if the read could block.
    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>>;

    /// Writes `buf` (whole sectors), starting at `sector`.
    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()>;

    /// Writes as [`write_sectors`](Self::write_sectors) does, from memory that the storage may keep, to avoid
    /// a copy where possible ([`Storage::write_bytes`]).
    async fn write_bytes(&self, sector: u64, bytes: Bytes, flags: WriteFlags) -> Result<()>;

    /// Makes `count` sectors starting at `sector` read as zeros, even if a parent holds data for them.
    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()>;

    /// Declares the content of `count` sectors unneeded. Afterwards they read as zeros or as before, never as
    /// anything else.
    async fn discard(&self, sector: u64, count: u64) -> Result<()>;

    /// Returns whether this image (not its parents) has an entry for `sector`, and for how many sectors (at
    /// most `count`) the answer is the same.
    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation>;

    /// Appends the extents of `range` (guest bytes within the disk) to `out`, resolved through the whole
    /// chain.
    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()>;

    /// Returns the locations of `range` (guest bytes within the disk), pinned for direct I/O.
    async fn map(&self, range: Range<u64>) -> Result<MappedRuns>;

    /// Makes everything acknowledged before the call durable, metadata included: it survives a power cut.
    async fn flush(&self) -> Result<()>;

    /// Changes the disk's size to `size` bytes, a multiple of 512. New space reads as zeros.
    async fn resize(&self, size: u64, preallocation: Preallocation) -> Result<()>;

    /// Makes the file as small as its content allows without changing what the guest reads.
    async fn compact(&self, progress: &Progress<'_>) -> Result<CompactReport>;

    /// Drops all data of this image. It then reads as its parent, or as zeros if it has none.
    async fn make_empty(&self) -> Result<()>;

    /// Changes facts of the image (identity, comment, geometry). `options` are the driver's amend options.
    async fn amend(&self, options: &Options) -> Result<()>;

    /// Returns the parent that this image reads through, if it has one.
    fn parent(&self) -> Option<Disk>;

    /// Returns the storage that holds the image.
    fn storage(&self) -> Arc<dyn Storage>;

    /// Flushes, and leaves the image as small and as clean as it can be. Later requests fail.
    async fn close(&self) -> Result<()>;
}
