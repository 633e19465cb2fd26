//! Zeroing and discarding: changes entries for whole blocks, and bytes for parts of blocks.

use std::ops::Range;

use super::payload::Payload;
use super::write::place_in;
use super::{BlockMapper, Change, Layout, Mapped, Slot, SlotRun, blocks_of};
use crate::{Result, ZeroFlags, ZeroMode, bug};

/// Maximum number of entries that one step changes, so that other requests can run in between.
const BLOCKS_IN_STEP: u64 = 4096;

/// Bytes of zeros per write, if a parent must be hidden and no entry can express zeros.
const ZEROS: usize = 1 << 16;

/// The content that the caller wants to read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Zeros. The mode says whether space may be freed.
    Zeros(ZeroMode),
    /// Zeros or the old content, whichever frees more space.
    Anything,
}

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn zero(&self, sector: u64, count: u64, flags: ZeroFlags) -> Result<()> {
        let range = self.write_request(sector, count)?;
        let mode = if flags.contains(ZeroFlags::MAY_UNMAP) {
            ZeroMode::Deallocate
        } else {
            ZeroMode::Allocate
        };
        self.clear(range, Goal::Zeros(mode)).await?;
        if flags.contains(ZeroFlags::FUA) {
            self.publish().await
        } else {
            self.flush_if_full().await
        }
    }

    pub(super) async fn discard_blocks(&self, sector: u64, count: u64) -> Result<()> {
        let range = self.write_request(sector, count)?;
        self.clear(range, Goal::Anything).await?;
        self.flush_if_full().await
    }

    async fn clear(&self, range: Range<u64>, goal: Goal) -> Result<()> {
        self.start_writing().await?;
        let layout = self.layout();
        let mut at = range.start;
        while at < range.end {
            let blocks = blocks_of(&(at..range.end), layout.block_size);
            // Looks without a lock to skip blocks that need no change. Before the lock is taken, the block
            // may move and its old slot may be cut off. So only the second look, under the lock, counts.
            let step = match self.run_of(blocks.start, blocks.end - blocks.start).await {
                Ok(run) => {
                    let needs_nothing = match run.first {
                        Slot::Zero => true,
                        Slot::Free => self.parent.is_none() || goal == Goal::Anything,
                        Slot::Data(_) => false,
                    };
                    if needs_nothing { run.blocks } else { run.blocks.min(BLOCKS_IN_STEP) }
                }
                Err(_) => 1,
            };
            let step_end = blocks.start + step;
            let end = (step_end * layout.block_size).min(range.end);
            let _guard = self.blocks.lock_exclusive(blocks.start..step_end).await;
            self.clear_step(&layout, at..end, goal).await?;
            at = end;
        }
        Ok(())
    }

    /// Clears a range whose blocks the caller owns.
    async fn clear_step(&self, layout: &Layout, range: Range<u64>, goal: Goal) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let blocks = blocks_of(&(at..range.end), layout.block_size);
            let run = self.run_of(blocks.start, blocks.end - blocks.start).await?;
            let end = ((blocks.start + run.blocks) * layout.block_size).min(range.end);
            self.clear_run(layout, run, at..end, goal).await?;
            at = end;
        }
        Ok(())
    }

    async fn clear_run(
        &self,
        layout: &Layout,
        run: SlotRun,
        range: Range<u64>,
        goal: Goal,
    ) -> Result<()> {
        match run.first {
            Slot::Zero => Ok(()),
            Slot::Free if self.parent.is_none() || goal == Goal::Anything => Ok(()),
            Slot::Free => self.hide_parent(layout, range).await,
            Slot::Data(slot) => self.clear_data(layout, slot, range, goal).await,
        }
    }

    /// Zeros blocks that read from the parent.
    async fn hide_parent(&self, layout: &Layout, range: Range<u64>) -> Result<()> {
        let (head, whole, tail) = split(layout, range);
        for part in [head, tail] {
            if !part.is_empty() && self.parent_shows(std::slice::from_ref(&part)).await? {
                self.write_zero_bytes(part).await?;
            }
        }
        if !layout.has_zero_slots {
            return self.write_zero_bytes(whole).await;
        }
        let blocks = blocks_of(&whole, layout.block_size);
        self.pending.insert(blocks.map(|block| Change { block, slot: Slot::Zero }));
        Ok(())
    }

    /// Zeros blocks that are stored in consecutive slots.
    async fn clear_data(
        &self,
        layout: &Layout,
        slot: u64,
        range: Range<u64>,
        goal: Goal,
    ) -> Result<()> {
        let (first, _) = layout.block_at(range.start);
        let keeps_slots = layout.is_fixed
            || goal == Goal::Zeros(ZeroMode::Allocate)
            || (self.parent.is_some() && !layout.has_zero_slots);
        let (head, whole, tail) = if keeps_slots {
            (range.clone(), range.end..range.end, range.end..range.end)
        } else {
            split(layout, range)
        };
        let mode = match goal {
            Goal::Zeros(mode) => mode,
            Goal::Anything => ZeroMode::Deallocate,
        };
        for part in [head, tail] {
            self.zero_stored(layout, slot, first, part, mode).await?;
        }
        let entry = if layout.has_zero_slots { Slot::Zero } else { Slot::Free };
        for block in blocks_of(&whole, layout.block_size) {
            // Pending first: every slot whose free is deferred must have an entry that gave it up.
            self.pending.insert([Change { block, slot: entry }]);
            self.slots.defer_free(slot + (block - first));
        }
        Ok(())
    }

    /// Zeros bytes of stored blocks. `slot` holds block `first`.
    async fn zero_stored(
        &self,
        layout: &Layout,
        slot: u64,
        first: u64,
        range: Range<u64>,
        mode: ZeroMode,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (block, _) = layout.block_at(at);
            let end = ((block + 1) * layout.block_size).min(range.end);
            let place = place_in(layout, slot + (block - first), at)?;
            self.storage.write_zeroes(place, end - at, mode).await?;
            at = end;
        }
        Ok(())
    }

    /// Writes zeros as data into blocks that the caller owns.
    async fn write_zero_bytes(&self, range: Range<u64>) -> Result<()> {
        let zeros = [0; ZEROS];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(ZEROS as u64);
            let bytes = zeros.get(..super::read::length(len)?);
            let bytes = bytes.ok_or_else(|| bug("a piece of zeros is longer than its buffer"))?;
            self.write_transaction(&self.layout(), at..at + len, 0, &Payload::Lent(bytes)).await?;
            at += len;
        }
        Ok(())
    }
}

/// Splits a range into a partial block, whole blocks, and a partial block. If the range reaches the end of
/// the disk, the last block counts as whole.
fn split(layout: &Layout, range: Range<u64>) -> (Range<u64>, Range<u64>, Range<u64>) {
    let whole_start = range.start.next_multiple_of(layout.block_size).min(range.end);
    let whole_end = if range.end == layout.virtual_size {
        range.end
    } else {
        (range.end - layout.block_at(range.end).1).max(whole_start)
    };
    if range.start < whole_start && range.end <= whole_start {
        return (range.clone(), range.end..range.end, range.end..range.end);
    }
    (range.start..whole_start, whole_start..whole_end, whole_end..range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_block_boundaries_and_the_end_of_the_disk_is_one() {
        let layout = Layout {
            virtual_size: 3500,
            block_size: 1000,
            slots_start: 0,
            stride: 1000,
            lead: 0,
            slot_limit: 4,
            has_zero_slots: true,
            is_fixed: false,
        };
        assert_eq!(split(&layout, 100..200), (100..200, 200..200, 200..200));
        assert_eq!(split(&layout, 100..1000), (100..1000, 1000..1000, 1000..1000));
        assert_eq!(split(&layout, 100..2500), (100..1000, 1000..2000, 2000..2500));
        assert_eq!(split(&layout, 1000..3000), (1000..1000, 1000..3000, 3000..3000));
        assert_eq!(split(&layout, 2900..3500), (2900..3000, 3000..3500, 3500..3500));
        assert_eq!(split(&layout, 3100..3500), (3100..3500, 3500..3500, 3500..3500));
    }
}
