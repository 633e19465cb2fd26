//! What a format author writes: the map from guest blocks to slots of a file.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{ImageInfo, Options, Preallocation, Result, Storage};

/// What the map says of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Never written: shows the parent, or zeros where there is none.
    Free,
    /// Reads as zeros, whatever a parent holds.
    Zero,
    /// Stored in this slot of the file, counted from 0.
    Data(u64),
}

impl Slot {
    /// The slot `step` blocks further on in a run that starts with this one. A slot lies in a file, so that its
    /// number is far below the largest `u64`.
    #[must_use]
    pub fn step(self, step: u64) -> Self {
        match self {
            Self::Data(slot) => Self::Data(slot + step),
            other => other,
        }
    }
}

/// What a session changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What a guest reads.
    Content,
    /// Only where blocks lie: a guest reads what it read before.
    Places,
}

/// An entry of the map that is to become true on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The guest block.
    pub block: u64,
    /// What the map is to say of it.
    pub slot: Slot,
}

/// The arithmetic of an image: all numbers are bytes unless said otherwise.
///
/// Slot `n` occupies `stride` bytes from `slots_start + n * stride` on; the block's content begins
/// `lead` bytes into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The guest's disk, a multiple of 512.
    pub virtual_size: u64,
    /// Guest bytes in a block, a multiple of 512.
    pub block_size: u64,
    /// Where slot 0 begins in the storage.
    pub slots_start: u64,
    /// From one slot to the next: at least `lead + block_size`.
    pub stride: u64,
    /// From the begin of a slot to the content of its block.
    pub lead: u64,
    /// How many slots the format can address: an upper bound for slot numbers.
    pub slot_limit: u64,
    /// Whether the map can say [`Slot::Zero`].
    pub has_zero_slots: bool,
    /// Whether every block has its slot for good: slots are neither given back nor moved.
    pub is_fixed: bool,
}

impl Layout {
    /// Blocks of the disk, the last one possibly partial.
    pub fn block_count(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size)
    }

    /// The block that holds the guest byte `at`, and how many bytes of the block come before it.
    #[inline]
    pub fn block_at(&self, at: u64) -> (u64, u64) {
        // A power of two in every format known; to divide would be the longest part of a lookup.
        match self.block_size.is_power_of_two() {
            true => (at >> self.block_size.trailing_zeros(), at & (self.block_size - 1)),
            false => (at / self.block_size, at % self.block_size),
        }
    }

    /// Where a slot begins in the storage. `None` when that overflows, which a checked header excludes.
    pub fn slot_start(&self, slot: u64) -> Option<u64> {
        slot.checked_mul(self.stride)?.checked_add(self.slots_start)
    }

    /// Where the content of the block in a slot begins.
    pub fn place(&self, slot: u64) -> Option<u64> {
        self.slot_start(slot)?.checked_add(self.lead)
    }
}

/// A run of blocks whose entries follow one pattern: all free, all zero, or data in consecutive slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRun {
    /// What the map says of the first block; the others follow by [`Slot::step`].
    pub first: Slot,
    /// Number of blocks, at least 1.
    pub blocks: u64,
}

/// Where the map keeps the entry of a block, for messages about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    /// What the format's specification calls an entry.
    pub field: &'static str,
    /// Where the entry begins in the storage, in bytes.
    pub offset: u64,
}

/// What a format has to do for another virtual size, besides what the engine does for every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizePlan {
    /// The engine moves all data out of the slots below this number first; they belong to the format
    /// from then on.
    pub vacate_slots: u64,
    /// Set by the engine: the parent reaches behind the old end of the disk, so blocks that the disk
    /// gains are [`Slot::Zero`] and not [`Slot::Free`].
    pub hides_parent: bool,
}

/// The map of one format. [`Mapped`](super::Mapped) makes a [`BlockDevice`](crate::BlockDevice) of it.
///
/// The mapper answers what the map *on disk* says, and writes what it is told. It decides nothing:
/// which slot a block gets, when an entry may be written, what happens after a failure or a power cut
/// are the engine's business, the same for every format.
///
/// **Checked answers.** Every slot a mapper answers has passed its checks: it lies below
/// [`Layout::slot_limit`] and, as far as the guest can read it, inside the file. A bad entry is an
/// error of [`load`](Self::load), with kind [`Corrupt`](crate::ErrorKind::Corrupt).
///
/// **Who calls when.** `prepare`, `publish`, `settle`, `resize` and `close` are called by one caller at
/// a time, and never while the map moves. `slot`, `load` and `run` are called at any time.
#[async_trait]
pub trait BlockMapper: Send + Sync + fmt::Debug + 'static {
    /// The storage the slots lie in.
    fn storage(&self) -> &Arc<dyn Storage>;

    /// The arithmetic of the image, as of now.
    fn layout(&self) -> Layout;

    /// The format's part of the image information.
    fn info(&self) -> ImageInfo;

    /// The entry of `block`, if it is in memory and sound; otherwise [`load`](Self::load) tells.
    fn slot(&self, block: u64) -> Option<Slot>;

    /// The entry of `block`, read from the storage if need be.
    async fn load(&self, block: u64) -> Result<Slot>;

    /// The entry of `block`, and how many blocks from there on (at most `limit`, which is not 0) follow
    /// its pattern. May answer less than there are, at least 1.
    async fn run(&self, block: u64, limit: u64) -> Result<SlotRun>;

    /// Where the entry of `block` lies. The engine asks when an entry that may be read must not be relied
    /// on for writing, so that the error names it.
    fn entry_place(&self, block: u64) -> EntryPlace;

    /// The first change of the session follows: leaves a durable mark of it, for formats that keep one.
    /// May be called more than once, and by several callers at a time.
    async fn start_writing(&self, effect: Effect) -> Result<()>;

    /// Writes what has to be durable before any of `changes` may be: a counter, the bookkeeping of
    /// space. `slots_end` is the number behind the highest slot in use once the changes are true.
    /// The engine flushes afterwards. What this writes must be harmless without the changes.
    async fn prepare(&self, changes: &[Change], slots_end: u64) -> Result<()>;

    /// Writes the entries. On success [`slot`](Self::slot) answers them; on failure each of them is in
    /// doubt, and the engine calls again with the values that readers have been told.
    async fn publish(&self, changes: &[Change]) -> Result<()>;

    /// Everything published is durable, and slots from `slots_end` on are unused: bookkeeping that
    /// lags behind may follow. Nothing depends on it.
    async fn settle(&self, slots_end: u64) -> Result<()>;

    /// Says what another virtual size (bytes, a multiple of 512) takes. May make room for more slots
    /// first, durably, so that the engine can vacate others ([`Layout::slot_limit`] grows); that alone
    /// changes nothing a guest reads.
    ///
    /// # Errors
    /// `Unsupported` or `InvalidInput` when the format cannot have that size.
    async fn plan_resize(&self, size: u64, slots_end: u64) -> Result<ResizePlan>;

    /// Switches to another virtual size, in one step that a power cut cannot tear. The engine has
    /// vacated the slots of the plan, freed all blocks past the new end, and flushed.
    /// Slots may be renumbered by `vacate_slots`: slot `n` is `n - vacate_slots` afterwards.
    ///
    /// When this fails or is dropped, [`layout`](Self::layout) and the entries say what the mapper goes by
    /// from here on, and the next [`prepare`](Self::prepare) makes the disk say the same, also when it has
    /// no changes to prepare: the step that failed may have landed.
    async fn resize(
        &self,
        size: u64,
        plan: ResizePlan,
        slots_end: u64,
        preallocation: Preallocation,
    ) -> Result<()>;

    /// Changes facts of the image, durably.
    async fn amend(&self, options: &Options) -> Result<()>;

    /// The image is flushed and used no longer: leaves it clean. The engine flushes once more.
    async fn close(&self, slots_end: u64) -> Result<()>;
}
