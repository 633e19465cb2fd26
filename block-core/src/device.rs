//! One opened image: the trait a format driver gives back.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bitflags::bitflags;
use serde::Serialize;
use uuid::Uuid;

use crate::{Allocation, Bytes, Disk, ExtentList, Options, Result, Storage};

/// Bytes in a sector, of every disk and every format.
pub const SECTOR_SIZE: u64 = 512;

bitflags! {
    /// What an opened image can do. The conformance suite proves that caps and behaviour agree.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct DeviceCaps: u32 {
        /// Writes, zeroes, discards and flushes are accepted.
        const WRITE = 1;
        /// Ranges never written read as zeros and cost no space; zeroes and discards give space back.
        const SPARSE = 1 << 1;
        /// [`BlockDevice::resize`] grows.
        const GROW = 1 << 2;
        /// [`BlockDevice::resize`] shrinks.
        const SHRINK = 1 << 3;
        /// [`BlockDevice::compact`] works.
        const COMPACT = 1 << 4;
        /// [`BlockDevice::make_empty`] works.
        const MAKE_EMPTY = 1 << 5;
        /// [`BlockDevice::amend`] works.
        const AMEND = 1 << 6;
        /// [`BlockDevice::map`] gives places in a storage.
        const MAP = 1 << 7;
    }

    /// How a write is to be done.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct WriteFlags: u32 {
        /// Durable on return, metadata included, as if a flush had followed.
        const FUA = 1;
    }

    /// How a range is to be zeroed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZeroFlags: u32 {
        /// Space may be given back. Without it, stored blocks stay stored.
        const MAY_UNMAP = 1;
        /// Durable on return.
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
    /// Yes or no.
    Bool(bool),
    /// A UUID.
    Uuid(Uuid),
}

/// The parent an image names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentInfo {
    /// How the image names it: a file name, or a UUID.
    pub reference: String,
    /// The storage it was opened from, if it was.
    pub opened: Option<String>,
    /// Its format, if it was opened or is recorded.
    pub format: Option<String>,
}

/// What there is to know of an image without reading its data.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The driver's name.
    pub format: &'static str,
    /// The guest's disk in bytes, a multiple of 512.
    pub virtual_size: u64,
    /// The unit of allocation in bytes, for formats that have one.
    pub block_size: Option<u64>,
    /// What the image can do as it was opened.
    pub caps: DeviceCaps,
    /// Whether the image was not closed cleanly, or was marked for repair.
    pub dirty: bool,
    /// The parent it names.
    pub parent: Option<ParentInfo>,
    /// Facts of this format, in the order to show them.
    pub details: Vec<(&'static str, InfoValue)>,
    /// What was odd but not refused when the image was opened.
    pub warnings: Vec<String>,
}

impl ImageInfo {
    /// The facts every image has; the rest is empty and set by its field.
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

/// Where a run of guest bytes lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this storage, at this byte.
    Stored {
        /// Which storage: the image's own, or a parent's.
        storage: Arc<dyn Storage>,
        /// First byte there.
        offset: u64,
    },
    /// Nowhere: it reads as zeros.
    Zero,
    /// Only the device can say: read it through [`BlockDevice::read_sectors`].
    Opaque,
}

/// A run of guest bytes that lies in one place.
#[derive(Debug, Clone)]
pub struct Run {
    /// First guest byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Where it lies.
    pub place: Place,
}

/// The answer of [`BlockDevice::map`]. While it lives, no run moves and none is given to another block.
pub struct MappedRuns {
    /// The runs of the range, in order, without gaps.
    pub runs: Vec<Run>,
    /// What holds them in place.
    pub pin: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for MappedRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedRuns").field("runs", &self.runs).finish_non_exhaustive()
    }
}

/// What a new length of a disk means for the space below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Preallocation {
    /// None: space is taken when it is written.
    #[default]
    Off,
    /// Map entries are made, data space is not taken.
    Metadata,
    /// Space is set aside without being written.
    Falloc,
    /// Zeros are written.
    Full,
}

/// How far a long operation has come: called with (done, total) bytes or blocks.
/// Returning `false` stops the operation at the next safe place with `Interrupted`.
pub type Progress<'a> = dyn Fn(u64, u64) -> bool + Send + Sync + 'a;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Blocks that were all zeros, or equal to the parent's, and are stored no longer.
    pub blocks_dropped: u64,
    /// Blocks copied to another place in the file.
    pub blocks_moved: u64,
    /// The file's length before, bytes.
    pub bytes_before: u64,
    /// The file's length after, bytes.
    pub bytes_after: u64,
}

/// One opened image.
///
/// **Ranges.** [`Disk`] promises that `(sector + count) * 512` fits in an `i64` and that buffers are
/// whole sectors, so sector arithmetic cannot overflow. It does not promise that the range is inside
/// the disk: only the device knows its size at the moment of the request, and it answers
/// [`OutOfRange`](crate::ErrorKind::OutOfRange) before it changes anything.
///
/// **The write contract** is on [`engine`](crate::engine): what is durable when, what an error or a
/// dropped future leaves behind, and how concurrent requests are ordered.
///
/// No method has a default: a default that is silently wrong for one driver costs more than three
/// lines in each.
#[async_trait]
pub trait BlockDevice: Send + Sync + fmt::Debug {
    /// What there is to know of the image.
    fn info(&self) -> ImageInfo;

    /// Size of the disk in sectors of 512 bytes, now.
    fn sector_count(&self) -> u64;

    /// Fills `buf` (whole sectors) from `sector` on.
    async fn read_sectors(&self, sector: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads `count` sectors from `sector` on into memory that the storage chooses, so that nothing is copied
    /// where it can be avoided ([`Storage::read_bytes`]). The range is checked before memory is asked for. A
    /// device may do so, and take a lock that the future holds, when this is called and not when the future is
    /// first polled.
    async fn read_bytes(&self, sector: u64, count: u64) -> Result<Bytes>;

    /// As [`read_sectors`](Self::read_sectors), at once; `None` when it could block, and then nothing
    /// happened.
    fn try_read_sectors(&self, sector: u64, buf: &mut [u8]) -> Option<Result<()>>;

    /// Writes `buf` (whole sectors) from `sector` on.
    async fn write_sectors(&self, sector: u64, buf: &[u8], flags: WriteFlags) -> Result<()>;

    /// As [`write_sectors`](Self::write_sectors), from memory that may be kept until it is written, so that
    /// nothing is copied where it can be avoided ([`Storage::write_bytes`]).
    async fn write_bytes(&self, sector: u64, bytes: Bytes, flags: WriteFlags) -> Result<()>;

    /// Makes `count` sectors read as zeros, whatever a parent holds.
    async fn write_zeroes(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()>;

    /// Says that the content of `count` sectors is of no interest. Afterwards they read as zeros or as
    /// before, never as anything else.
    async fn discard(&self, sector: u64, count: u64) -> Result<()>;

    /// Whether this image (not its parents) has an entry for `sector`, and for how many sectors, at
    /// most `count`, the answer is the same.
    async fn is_allocated(&self, sector: u64, count: u64) -> Result<Allocation>;

    /// Appends what lies where in `range` (guest bytes, within the disk), through the whole chain.
    async fn extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()>;

    /// Where the bytes of `range` (guest bytes, within the disk) lie, pinned for direct I/O.
    async fn map(&self, range: Range<u64>) -> Result<MappedRuns>;

    /// On return, everything acknowledged before the call survives a power cut, metadata included.
    async fn flush(&self) -> Result<()>;

    /// Makes the disk `size` bytes (a multiple of 512) large. New space reads as zeros.
    async fn resize(&self, size: u64, preallocation: Preallocation) -> Result<()>;

    /// Makes the file as small as its content allows, without changing what the guest reads.
    async fn compact(&self, progress: &Progress<'_>) -> Result<CompactReport>;

    /// Forgets all data of this image: it then reads as its parent, or as zeros.
    async fn make_empty(&self) -> Result<()>;

    /// Changes facts of the image (identity, comment, geometry) by the driver's amend options.
    async fn amend(&self, options: &Options) -> Result<()>;

    /// The parent this image reads through, if it has one.
    fn parent(&self) -> Option<Disk>;

    /// The storage the image lies in.
    fn storage(&self) -> Arc<dyn Storage>;

    /// Flushes and leaves the image as small and as clean as it can be. Requests after it fail.
    async fn close(&self) -> Result<()>;
}
