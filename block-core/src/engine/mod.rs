//! The one transaction under every format: reserve, write data, order, publish, or roll back.
//!
//! [`Mapped`] makes a [`BlockDevice`](crate::BlockDevice) of a [`BlockMapper`]. What it promises is the
//! **write contract** of every image it serves:
//!
//! 1. **Order.** A block gets its place first in memory (*reserve*), then its background (the parent's
//!    content for a partial block, zeros otherwise) and the caller's data are written, and only then do
//!    readers see the new entry. The entry stays *pending*: it reaches the map on disk at the next
//!    flush, behind a barrier that makes data, file length and counters durable first.
//! 2. **Error or dropped future before an entry is pending:** the place goes back, marked as holding
//!    stale bytes. **While entries are written:** each is in doubt and stays pending, with the value
//!    that readers have been told, until a later flush has written it and made it durable. A place that
//!    an entry in doubt may still name is given to nobody else.
//! 3. **`flush` returns:** everything acknowledged before the call survives a power cut. A cut before it
//!    never leaves cross-linked blocks, entries past the end of the file, foreign bytes, or a change to
//!    a sector nobody wrote. What it can leave is a place nobody uses: a leak.
//! 4. **Batch.** Entries and counters are written once a flush, not once a block. When very many are
//!    pending they are written without waiting for a flush, in the same order.
//! 5. **Zeros** over a free block of a base cost nothing; over a parent they persist as an entry.
//! 6. **Reuse.** A place that was given up serves again only after the entry that gave it up is durable.
//!    No I/O to it is in flight by then: whoever gave it up owned its block.
//! 7. **Concurrency.** In-place I/O on any blocks runs in parallel; allocating a block excludes other
//!    requests to that block only; overlapping writes take effect in some serial order per sector.
//! 8. **Small writes** into a new block write what they carry where the storage reads as zeros past its
//!    former end, and punch the place first where it does not.
//!
//! A barrier is [`Storage::flush`]. A flush with new entries costs two, any other
//! flush costs one.

mod compact;
mod copy;
mod device;
mod extents;
mod flush;
mod mapper;
mod payload;
mod pending;
mod read;
mod resize;
mod seldom;
mod slot_set;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod write;
mod zero;

pub use copy::copy_within;
pub use mapper::{BlockMapper, Change, Effect, EntryPlace, Layout, ResizePlan, Slot, SlotRun};
pub use seldom::Seldom;
pub use slot_set::SlotSet;
pub use table::PagedTable;

use std::ops::Range;
use std::sync::Arc;

use self::pending::Pending;
use self::slots::Slots;
use crate::range_lock::RangeLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::{Access, Disk, Error, ErrorKind, Result, SECTOR_SIZE, Storage, bug};

/// An opened image of a format that is a [`BlockMapper`].
#[derive(Debug)]
pub struct Mapped<M> {
    mapper: Arc<M>,
    storage: Arc<dyn Storage>,
    access: Access,
    parent: Option<Disk>,
    layout: Seldom<Layout>,
    sectors: AtomicU64,
    /// Ranges of block numbers: shared by I/O in place, owned by whoever changes an entry.
    blocks: Arc<RangeLock>,
    pending: Pending,
    slots: Slots,
    /// Held while entries are written.
    publishing: tokio::sync::Mutex<()>,
    /// Something was written since the image was opened.
    touched: AtomicBool,
    /// The format was switching to another size when something went wrong: which slots are in use, and
    /// what the disk holds of the switch, has to be settled before more is done.
    unsure: AtomicBool,
    closed: AtomicBool,
    /// So many of the next reads are not tried at once.
    long_way: AtomicUsize,
}

impl<M: BlockMapper> Mapped<M> {
    /// Serves the image of `mapper`, reading through to `parent` where the map says [`Slot::Free`].
    ///
    /// # Errors
    /// `Corrupt` when the layout is one that no checked header can describe.
    pub fn open(mapper: Arc<M>, access: Access, parent: Option<Disk>) -> Result<Arc<Self>> {
        let layout = mapper.layout();
        check_layout(&layout).map_err(|error| error.in_image(mapper.storage().uri()))?;
        Ok(Arc::new(Self {
            storage: Arc::clone(mapper.storage()),
            access,
            parent,
            sectors: AtomicU64::new(layout.virtual_size / SECTOR_SIZE),
            layout: Seldom::new(layout, access),
            blocks: RangeLock::new(),
            pending: Pending::default(),
            slots: Slots::default(),
            publishing: tokio::sync::Mutex::new(()),
            touched: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            long_way: AtomicUsize::new(0),
            mapper,
        }))
    }

    /// The format's map.
    pub fn mapper(&self) -> &Arc<M> {
        &self.mapper
    }

    fn layout(&self) -> Layout {
        self.layout.with(|layout| *layout)
    }

    /// Takes over what the mapper says after it changed.
    fn refresh_layout(&self) -> Result<()> {
        let layout = self.mapper.layout();
        check_layout(&layout)?;
        self.layout.change(|known| *known = layout)?;
        self.sectors.store(layout.virtual_size / SECTOR_SIZE, Ordering::Release);
        Ok(())
    }

    /// The guest bytes of a request, which lies on the disk.
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

    /// Why a request cannot be served.
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

    /// As [`request`](Self::request), of an image that may be written.
    fn write_request(&self, sector: u64, count: u64) -> Result<Range<u64>> {
        let range = self.request(sector, count)?;
        if self.access == Access::Read {
            return Err(Error::new(ErrorKind::ReadOnly, "the image was opened read-only")
                .in_image(self.storage.uri()));
        }
        Ok(range)
    }

    /// The entry of `block` as readers are told, if it is in memory.
    fn lookup(&self, block: u64) -> Option<Slot> {
        self.pending.get(block).or_else(|| self.mapper.slot(block))
    }

    /// The entry of `block` as readers are told.
    async fn slot_of(&self, block: u64) -> Result<Slot> {
        match self.lookup(block) {
            Some(slot) => Ok(slot),
            None => self.mapper.load(block).await,
        }
    }

    /// The entries from `block` on, at most `limit` (not 0), as readers are told.
    async fn run_of(&self, block: u64, limit: u64) -> Result<SlotRun> {
        match self.pending.next_in(block..block + limit) {
            Some((first, slot)) if first == block => Ok(SlotRun { first: slot, blocks: 1 }),
            Some((first, _)) => self.mapped_run(block, first - block).await,
            None => self.mapped_run(block, limit).await,
        }
    }

    /// The entries from `block` on, at most `limit` (not 0), as the map on disk has them. All slots of the run
    /// can be added up without overflow.
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

/// The largest distance from one slot to the next, 1 TiB: 64 blocks more than a disk can have still add up.
const MAX_STRIDE: u64 = 1 << 40;

/// The blocks that a range of guest bytes touches; an empty range touches none.
fn blocks_of(range: &Range<u64>, block_size: u64) -> Range<u64> {
    let first = range.start / block_size;
    first..if range.is_empty() { first } else { range.end.div_ceil(block_size) }
}

/// Refuses what would make the engine's arithmetic overflow or divide by zero: behind this check, guest bytes,
/// blocks, slots below the limit and their places are added up and multiplied without another.
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
