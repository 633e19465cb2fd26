//! The transaction that all formats share: reserve, write data, flush, publish, or roll back.
//!
//! [`Mapped`] makes a [`BlockDevice`](crate::BlockDevice) of a [`BlockMapper`]. The map of a format says in
//! which **slot** of the file each **block** of the disk is stored. [`Mapped`] guarantees the **write
//! contract** for every image that it serves:
//!
//! 1. **Order.** The engine first reserves a slot for the block, in memory only. Next it writes the
//!    background (the parent's content for a partial block, zeros otherwise) and the caller's data. Only then
//!    do readers see the new entry. The entry is now **pending**: the next flush writes it to the map on
//!    disk, behind a barrier that makes data, file length and counters durable first.
//! 2. **Rollback.** On an error or a dropped future before the entry is pending, the slot is returned, marked
//!    as holding stale bytes. On an error while entries are written, each of them is **in doubt**. It stays
//!    pending, with the value that readers see, until a later flush has made it durable. A slot that an entry
//!    in doubt may still name is not reused.
//! 3. **Durability.** When `flush` returns, everything acknowledged before the call survives a power cut. An
//!    earlier power cut never leaves cross-linked blocks, entries past the end of the file, foreign bytes, or
//!    a change to a sector that no request wrote. It can leave a leak: a slot that no entry names.
//! 4. **Batch.** Entries and counters are written once per flush, not once per block. When very many entries
//!    are pending, the engine writes them without waiting for a flush, in the same order.
//! 5. **Zeros.** Zeroing a free block of a base image costs nothing. Over a parent, the zeros persist as an
//!    entry.
//! 6. **Reuse.** A slot that was given up is on the **deferred list** until the entry that gave it up is durable. Only
//!    then is it reused. No I/O to it is in flight by then, because the request that gave it up owned its
//!    block.
//! 7. **Concurrency.** In-place I/O runs in parallel on all blocks. Allocating a block excludes other
//!    requests to that block only. Overlapping writes take effect in some serial order per sector.
//! 8. **Small writes.** A write into part of a new block writes only its own bytes if the slot lies past the
//!    storage's former end, which reads as zeros. Otherwise the engine first deallocates the slot.
//!
//! A barrier is [`Storage::flush`]. A flush with new entries costs two barriers, any other flush one.

mod compact;
mod copy;
mod device;
mod extents;
mod flush;
mod mapper;
mod payload;
mod pending;
mod read;
mod read_mostly;
mod resize;
mod slot_set;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod write;
mod zero;

pub use copy::copy_within;
pub use mapper::{BlockMapper, Change, Effect, EntryLocation, Layout, ResizePlan, Slot, SlotRun};
pub use read_mostly::ReadMostly;
pub use slot_set::SlotSet;
pub use table::PagedTable;

use std::ops::Range;
use std::sync::Arc;

use self::pending::Pending;
use self::slots::Slots;
use crate::range_lock::RangeLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::{Access, Disk, Error, ErrorKind, Result, SECTOR_SIZE, Storage, bug};

/// An opened image of a format that implements [`BlockMapper`].
#[derive(Debug)]
pub struct Mapped<M> {
    mapper: Arc<M>,
    storage: Arc<dyn Storage>,
    access: Access,
    parent: Option<Disk>,
    layout: ReadMostly<Layout>,
    sectors: AtomicU64,
    /// Locks ranges of block numbers: in-place I/O shares them, a request that changes an entry owns them.
    blocks: Arc<RangeLock>,
    pending: Pending,
    slots: Slots,
    /// Held while entries are written.
    publishing: tokio::sync::Mutex<()>,
    /// Whether the image was written to since it was opened.
    dirty: AtomicBool,
    /// Whether a change of the image's size is unsettled, for example because it failed. Before further
    /// writes, the engine must find out which slots are in use and make the disk match the mapper.
    unsure: AtomicBool,
    closed: AtomicBool,
    /// Number of reads that still skip the inline attempt.
    long_way: AtomicUsize,
}

impl<M: BlockMapper> Mapped<M> {
    /// Serves the image of `mapper`. Blocks that are [`Slot::Free`] read from `parent`.
    ///
    /// # Errors
    /// `Corrupt` if no checked header can describe the layout.
    pub fn open(mapper: Arc<M>, access: Access, parent: Option<Disk>) -> Result<Arc<Self>> {
        let layout = mapper.layout();
        check_layout(&layout).map_err(|error| error.in_image(mapper.storage().uri()))?;
        Ok(Arc::new(Self {
            storage: Arc::clone(mapper.storage()),
            access,
            parent,
            sectors: AtomicU64::new(layout.virtual_size / SECTOR_SIZE),
            layout: ReadMostly::new(layout, access),
            blocks: RangeLock::new(),
            pending: Pending::default(),
            slots: Slots::default(),
            publishing: tokio::sync::Mutex::new(()),
            dirty: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            long_way: AtomicUsize::new(0),
            mapper,
        }))
    }

    /// Returns the format's map.
    pub fn mapper(&self) -> &Arc<M> {
        &self.mapper
    }

    fn layout(&self) -> Layout {
        self.layout.with(|layout| *layout)
    }

    /// Adopts the mapper's layout after a change.
    fn refresh_layout(&self) -> Result<()> {
        let layout = self.mapper.layout();
        check_layout(&layout)?;
        self.layout.change(|known| *known = layout)?;
        self.sectors.store(layout.virtual_size / SECTOR_SIZE, Ordering::Release);
        Ok(())
    }

    /// Checks that a request lies on the disk, and returns its range in guest bytes.
    #[inline]
    fn request(&self, sector: u64, count: u64) -> Result<Range<u64>> {
        let size = self.sectors.load(Ordering::Acquire);
        match sector.checked_add(count) {
            Some(end) if end <= size && !self.closed.load(Ordering::Acquire) => {
                Ok(sector * SECTOR_SIZE..end * SECTOR_SIZE)
            }
            _ => Err(self.refusal(sector, count)),
        }
    }

    /// Returns the reason that a request cannot be served.
    #[cold]
    fn refusal(&self, sector: u64, count: u64) -> Error {
        if self.closed.load(Ordering::Acquire) {
            return Error::new(ErrorKind::InvalidInput, "the image is closed");
        }
        let size = self.sectors.load(Ordering::Acquire);
        Error::new(
            ErrorKind::OutOfRange,
            format!("{count} sectors from {sector} on: the disk has {size}"),
        )
    }

    /// Checks a request as [`request`](Self::request) does, and that the image is writable.
    fn write_request(&self, sector: u64, count: u64) -> Result<Range<u64>> {
        let range = self.request(sector, count)?;
        if self.access == Access::Read {
            return Err(Error::new(ErrorKind::ReadOnly, "the image was opened read-only")
                .in_image(self.storage.uri()));
        }
        Ok(range)
    }

    /// Returns the entry of `block` that readers see, if it is in memory.
    fn lookup(&self, block: u64) -> Option<Slot> {
        self.pending.get(block).or_else(|| self.mapper.slot(block))
    }

    /// Returns the entry of `block` that readers see.
    async fn slot_of(&self, block: u64) -> Result<Slot> {
        match self.lookup(block) {
            Some(slot) => Ok(slot),
            None => self.mapper.load(block).await,
        }
    }

    /// Returns the run of entries that readers see at `block`, at most `limit` (not 0) blocks.
    async fn run_of(&self, block: u64, limit: u64) -> Result<SlotRun> {
        match self.pending.next_in(block..block + limit) {
            Some((first, slot)) if first == block => Ok(SlotRun { first: slot, blocks: 1 }),
            Some((first, _)) => self.mapped_run(block, first - block).await,
            None => self.mapped_run(block, limit).await,
        }
    }

    /// Returns the run of entries at `block` in the map on disk, at most `limit` (not 0) blocks. The sum of
    /// slot and length does not overflow.
    async fn mapped_run(&self, block: u64, limit: u64) -> Result<SlotRun> {
        let run = self.mapper.run(block, limit).await?;
        if run.blocks == 0 || run.blocks > limit {
            return Err(bug("a map answers a run of no blocks, or of more than were asked for"));
        }
        match run.first {
            Slot::Data(slot) if slot.checked_add(run.blocks).is_none() => {
                Err(bug("a map answers slots that no file can hold"))
            }
            _ => Ok(run),
        }
    }
}

/// 1 TiB, the largest distance from one slot to the next. With it, the offsets of 64 more blocks than a disk
/// can have do not overflow.
const MAX_STRIDE: u64 = 1 << 40;

/// Returns the blocks that a range of guest bytes touches. An empty range touches none.
fn blocks_of(range: &Range<u64>, block_size: u64) -> Range<u64> {
    let first = range.start / block_size;
    first..if range.is_empty() { first } else { range.end.div_ceil(block_size) }
}

/// Rejects a layout with which the engine's arithmetic could overflow or divide by zero. After this check,
/// the engine adds and multiplies guest bytes, blocks, slots below the limit and their offsets without
/// further checks.
fn check_layout(layout: &Layout) -> Result<()> {
    let highest = layout.slot_limit.checked_mul(layout.stride);
    let end = highest.and_then(|bytes| bytes.checked_add(layout.slots_start));
    let sound = layout.block_size != 0
        && layout.block_size.is_multiple_of(SECTOR_SIZE)
        && layout.virtual_size.is_multiple_of(SECTOR_SIZE)
        && layout.virtual_size <= i64::MAX as u64
        && layout.lead.checked_add(layout.block_size).is_some_and(|used| used <= layout.stride)
        && layout.stride <= MAX_STRIDE
        && end.is_some_and(|end| end <= i64::MAX as u64);
    if sound {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("the layout makes no sense: {layout:?}")))
}
