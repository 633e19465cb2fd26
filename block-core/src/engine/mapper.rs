//! The interface that a format implements: the map from guest blocks to slots of a file.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{ImageInfo, Options, Preallocation, Result, Storage};

/// A map entry: where a block is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Never written: reads from the parent, or as zeros if there is none.
    Free,
    /// Reads as zeros, even if a parent holds data.
    Zero,
    /// Stored in this slot of the file, counted from 0.
    Data(u64),
}

impl Slot {
    /// Returns the entry `step` blocks later in a run that starts with this one. The addition cannot
    /// overflow, because a slot lies in a file and its number is far below `u64::MAX`.
    #[must_use]
    pub fn step(self, step: u64) -> Self {
        match self {
            Self::Data(slot) => Self::Data(slot + step),
            other => other,
        }
    }
}

/// What a session changes in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The content that a guest reads.
    Content,
    /// Only the location of blocks: a guest reads the same content as before.
    Places,
}

/// A new map entry to be written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The guest block.
    pub block: u64,
    /// The block's new entry.
    pub slot: Slot,
}

/// Geometry of an image. Numbers are bytes unless stated otherwise.
///
/// Slot `n` occupies `stride` bytes at `slots_start + n * stride`. The block's content begins `lead` bytes
/// into its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Size of the virtual disk, a multiple of 512.
    pub virtual_size: u64,
    /// Guest bytes per block, a multiple of 512.
    pub block_size: u64,
    /// Offset of slot 0 in the storage.
    pub slots_start: u64,
    /// Distance from one slot to the next, at least `lead + block_size`.
    pub stride: u64,
    /// Distance from the start of a slot to the content of its block.
    pub lead: u64,
    /// Number of slots that the format can address: an upper bound for slot numbers.
    pub slot_limit: u64,
    /// Whether the map can express [`Slot::Zero`].
    pub has_zero_slots: bool,
    /// Whether every block has a permanent slot. Slots are then neither freed nor moved.
    pub is_fixed: bool,
}

impl Layout {
    /// Returns the number of blocks of the disk. The last one may be partial.
    pub fn block_count(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size)
    }

    /// Returns the block that holds guest byte `at`, and the byte's offset in the block.
    #[inline]
    pub fn block_at(&self, at: u64) -> (u64, u64) {
        // A power of two in every format known. A division would be the slowest part of a lookup.
        if self.block_size.is_power_of_two() {
            (at >> self.block_size.trailing_zeros(), at & (self.block_size - 1))
        } else {
            (at / self.block_size, at % self.block_size)
        }
    }

    /// Returns the offset of a slot in the storage. `None` means overflow, which a checked header excludes.
    pub fn slot_start(&self, slot: u64) -> Option<u64> {
        slot.checked_mul(self.stride)?.checked_add(self.slots_start)
    }

    /// Returns the offset in the storage of the content of the block in a slot.
    pub fn place(&self, slot: u64) -> Option<u64> {
        self.slot_start(slot)?.checked_add(self.lead)
    }
}

/// A run of blocks with one kind of entry: all free, all zero, or data in consecutive slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRun {
    /// The entry of the first block. The others follow by [`Slot::step`].
    pub first: Slot,
    /// Number of blocks, at least 1.
    pub blocks: u64,
}

/// Location of a block's map entry, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryLocation {
    /// The name of an entry in the format's specification.
    pub field: &'static str,
    /// Offset of the entry in the storage, in bytes.
    pub offset: u64,
}

/// Format-specific steps of a change of the virtual size, besides those that the engine does for every
/// format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizePlan {
    /// The engine first moves all data out of the slots below this number. Afterwards these slots belong to
    /// the format.
    pub vacate_slots: u64,
    /// Whether the parent extends past the old end of the disk. Blocks gained by the disk must then be
    /// [`Slot::Zero`] and not [`Slot::Free`]. The engine sets this field.
    pub hides_parent: bool,
}

/// The map of one format. [`Mapped`](super::Mapped) makes a [`BlockDevice`](crate::BlockDevice) of it.
///
/// The mapper returns the entries of the map *on disk*, and writes the entries that the engine passes to it.
/// It makes no decisions. The engine decides for every format which slot a block gets, when an entry may be
/// written, and what happens after a failure or a power cut.
///
/// **Checked answers.** The mapper returns only slots that passed its checks: they lie below
/// [`Layout::slot_limit`] and, as far as the guest can read them, inside the file. For a bad entry,
/// [`load`](Self::load) fails with kind [`Corrupt`](crate::ErrorKind::Corrupt).
///
/// **Concurrency.** The engine calls `prepare`, `publish`, `settle`, `resize` and `close` one at a time, and
/// never while the map moves. It calls `slot`, `load` and `run` at any time.
#[async_trait]
pub trait BlockMapper: Send + Sync + fmt::Debug + 'static {
    /// Returns the storage that contains the slots.
    fn storage(&self) -> &Arc<dyn Storage>;

    /// Returns the current geometry of the image.
    fn layout(&self) -> Layout;

    /// Returns the format's part of the image information.
    fn info(&self) -> ImageInfo;

    /// Returns the entry of `block` if it is in memory and valid. Otherwise call [`load`](Self::load).
    fn slot(&self, block: u64) -> Option<Slot>;

    /// Returns the entry of `block`, reading it from the storage if necessary.
    async fn load(&self, block: u64) -> Result<Slot>;

    /// Returns the run of entries at `block`, at most `limit` (not 0) blocks. The result may be shorter than
    /// the actual run, but has at least 1 block.
    async fn run(&self, block: u64, limit: u64) -> Result<SlotRun>;

    /// Returns the location of the entry of `block`. The engine names it in the error when an entry can be
    /// read but must not be relied on for writing.
    fn entry_location(&self, block: u64) -> EntryLocation;

    /// Prepares for the first change of the session: leaves a durable mark of it in formats that keep one.
    /// May be called more than once, and concurrently.
    async fn start_writing(&self, effect: Effect) -> Result<()>;

    /// Writes the metadata that must be durable before any of `changes`: a counter, the bookkeeping of space.
    /// `slots_end` is one past the highest slot in use after the changes. The engine flushes afterwards. The
    /// metadata written here must be harmless without the changes.
    async fn prepare(&self, changes: &[Change], slots_end: u64) -> Result<()>;

    /// Writes the entries. On success, [`slot`](Self::slot) returns them. On failure, each of them is in
    /// doubt, and the engine calls again with the values that readers see.
    async fn publish(&self, changes: &[Change]) -> Result<()>;

    /// Updates bookkeeping that may lag behind. Everything published is durable, and slots from `slots_end`
    /// on are unused. Nothing depends on this call.
    async fn settle(&self, slots_end: u64) -> Result<()>;

    /// Plans a change of the virtual size to `size` bytes, a multiple of 512. It may durably make room for
    /// more slots first, so that the engine can vacate others ([`Layout::slot_limit`] grows). That alone does
    /// not change what a guest reads.
    ///
    /// # Errors
    /// `Unsupported` or `InvalidInput` if the format cannot have that size.
    async fn plan_resize(&self, size: u64, slots_end: u64) -> Result<ResizePlan>;

    /// Switches to another virtual size in one step that a power cut cannot tear. The engine has vacated the
    /// slots of the plan, freed all blocks past the new end, and flushed. The switch may renumber slots by
    /// `vacate_slots`: slot `n` becomes `n - vacate_slots`.
    ///
    /// If this fails or is dropped, [`layout`](Self::layout) and the entries report the state that the mapper
    /// continues with. The next [`prepare`](Self::prepare) must make the disk match that state, even without
    /// changes to prepare, because the failed step may have reached the disk.
    async fn resize(
        &self,
        size: u64,
        plan: ResizePlan,
        slots_end: u64,
        preallocation: Preallocation,
    ) -> Result<()>;

    /// Changes facts of the image durably.
    async fn amend(&self, options: &Options) -> Result<()>;

    /// Marks the image as clean, after the last flush and the last use. The engine flushes once more.
    async fn close(&self, slots_end: u64) -> Result<()>;
}
