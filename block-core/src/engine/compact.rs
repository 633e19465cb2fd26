//! Compacting and emptying: frees slots whose blocks need none, and moves the other blocks down.

use std::ops::Range;

use super::copy::{PIECE, copy_within};
use super::read::{Source, length, read_parent};
use super::write::slot_start;
use super::{BlockMapper, Change, Effect, Layout, Mapped, Slot};
use crate::{
    CompactReport, Error, ErrorKind, PageBuffer, Progress, Result, StorageCaps, bug, is_zero,
};

/// Number of changes between two publications, which a power cut can undo.
const CHANGES_IN_BATCH: usize = 1024;

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn make_compact(&self, progress: &Progress<'_>) -> Result<CompactReport> {
        self.write_request(0, 0)?;
        let layout = self.layout();
        if layout.is_fixed {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "every block of a fixed image has its place; convert it to a dynamic one instead",
            ));
        }
        self.start_changing(Effect::Places).await?;
        self.publish().await?;
        let mut report =
            CompactReport { bytes_before: self.storage.len().await?, ..Default::default() };
        let blocks = layout.block_count();
        let total = blocks * 2;
        let piece = length(layout.block_size.min(PIECE))?;
        let mut buffers = (PageBuffer::new(piece), PageBuffer::new(piece));
        let mut at = 0;
        while at < blocks {
            let run = self.run_of(at, blocks - at).await?;
            let end = at + run.blocks;
            let has_data = matches!(run.first, Slot::Data(_));
            for block in at..if has_data { end } else { at } {
                report.blocks_dropped +=
                    u64::from(self.drop_block(&layout, block, &mut buffers).await?);
                self.pace(progress, block, total).await?;
            }
            at = end;
        }
        self.publish().await?;
        let end = self.slots.used();
        at = 0;
        while at < blocks {
            let run = self.run_of(at, blocks - at).await?;
            let next = at + run.blocks;
            let last_slot = run.first.step(run.blocks - 1);
            let moves = matches!(last_slot, Slot::Data(slot) if slot >= end);
            for block in at..if moves { next } else { at } {
                let moved = self.move_block(&layout, block, end..u64::MAX).await?;
                report.blocks_moved += u64::from(moved);
                self.pace(progress, blocks + block, total).await?;
            }
            at = next;
        }
        self.publish().await?;
        self.slots.allow_trim();
        self.trim().await?;
        self.mapper.settle(self.slots.end()).await?;
        self.storage.flush().await?;
        report.bytes_after = self.storage.len().await?;
        progress(total, total);
        Ok(report)
    }

    /// Publishes after a batch of changes, and stops if the progress callback says so.
    async fn pace(&self, progress: &Progress<'_>, done: u64, total: u64) -> Result<()> {
        if self.pending.len() >= CHANGES_IN_BATCH {
            self.publish().await?;
        }
        if progress(done, total) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Interrupted, "stopped; the image is whole"))
        }
    }

    /// Gives up the slot of a block that holds only zeros or the same bytes as the parent.
    async fn drop_block(
        &self,
        layout: &Layout,
        block: u64,
        buffers: &mut (PageBuffer, PageBuffer),
    ) -> Result<bool> {
        let _guard = self.blocks.lock_exclusive(block..block + 1).await;
        let Slot::Data(slot) = self.slot_of(block).await? else { return Ok(false) };
        let start = block * layout.block_size;
        let end = (start + layout.block_size).min(layout.virtual_size);
        let (Source::Stored(place), _) = self.source(layout, Slot::Data(slot), start, end)? else {
            return Err(bug("a block has a slot and is not stored"));
        };
        let mut zero = layout.has_zero_slots || self.parent.is_none();
        let mut as_parent = self.parent.is_some();
        let mut at = start;
        while at < end {
            let visible = (end - at).min(PIECE);
            let from = place + (at - start);
            let len = length(visible)?;
            let (own, parents) = (buffers.0.get_mut(..len), buffers.1.get_mut(..len));
            let (Some(own), Some(parents)) = (own, parents) else {
                return Err(bug("a piece of a block is longer than its buffer"));
            };
            if self.is_hole(from..from + visible).await? {
                own.fill(0)
            } else {
                self.storage.read_at(from, own).await?
            }
            zero = zero && is_zero(own);
            if as_parent {
                read_parent(self.parent.as_ref(), at, parents).await?;
                as_parent = own == parents;
            }
            if !zero && !as_parent {
                return Ok(false);
            }
            at += visible;
        }
        let entry = if zero && layout.has_zero_slots { Slot::Zero } else { Slot::Free };
        self.pending.insert([Change { block, slot: entry }]);
        self.slots.defer_free(slot);
        Ok(true)
    }

    /// Returns whether the storage knows, without reading, that `range` is all zeros.
    async fn is_hole(&self, range: Range<u64>) -> Result<bool> {
        if !self.storage.caps().contains(StorageCaps::SPARSE) {
            return Ok(false);
        }
        let mut extents = Vec::new();
        self.storage.extents(range.clone(), &mut extents).await?;
        let end = extents.last().map(|extent| extent.start + extent.len);
        Ok(end == Some(range.end) && extents.iter().all(|extent| !extent.data))
    }

    /// Moves a block that is stored in one of the slots `from` to a lower slot.
    async fn move_block(&self, layout: &Layout, block: u64, from: Range<u64>) -> Result<bool> {
        let _guard = self.blocks.lock_exclusive(block..block + 1).await;
        self.move_owned(layout, block, from, 0).await
    }

    /// Moves a block that is stored in one of the slots `from` to another slot, from `lowest` on. The caller
    /// owns the block.
    pub(super) async fn move_owned(
        &self,
        layout: &Layout,
        block: u64,
        from: Range<u64>,
        lowest: u64,
    ) -> Result<bool> {
        let Slot::Data(slot) = self.slot_of(block).await? else { return Ok(false) };
        if !from.contains(&slot) {
            return Ok(false);
        }
        let reservation = self.reserve(1, lowest, layout).await?;
        let target = reservation.taken().first().copied();
        let target = target.ok_or_else(|| bug("a block that moves got no slot"))?;
        if lowest == 0 && target.slot >= slot {
            // No unused slot below: another writer has taken it.
            return Ok(false);
        }
        let source = slot_start(layout, slot)?;
        let place = slot_start(layout, target.slot)?;
        // Copies the whole stride, because metadata in front of the block moves with it. The last slot of a
        // file may end early, past the bytes that the guest can read.
        copy_within(&*self.storage, source, place, layout.stride).await?;
        self.pending.insert([Change { block, slot: Slot::Data(target.slot) }]);
        self.slots.defer_free(slot);
        reservation.keep();
        Ok(true)
    }

    pub(super) async fn empty(&self) -> Result<()> {
        self.write_request(0, 0)?;
        if self.layout().is_fixed {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "every block of a fixed image has its place; write zeros instead",
            ));
        }
        self.start_writing().await?;
        let _guard = self.blocks.lock_exclusive(0..u64::MAX).await;
        self.free_blocks_from(0).await
    }

    /// Frees all blocks from `first` on. The caller owns them.
    pub(super) async fn free_blocks_from(&self, first: u64) -> Result<()> {
        let blocks = self.layout().block_count();
        let mut at = first;
        while at < blocks {
            let run = self.run_of(at, (blocks - at).min(CHANGES_IN_BATCH as u64)).await?;
            let end = at + run.blocks;
            if run.first != Slot::Free {
                let changes = (at..end).map(|block| Change { block, slot: Slot::Free });
                self.pending.insert(changes);
            }
            if let Slot::Data(slot) = run.first {
                (slot..slot + run.blocks).for_each(|slot| self.slots.defer_free(slot));
            }
            if self.pending.len() >= CHANGES_IN_BATCH {
                self.publish().await?;
            }
            at = end;
        }
        self.publish().await
    }
}
