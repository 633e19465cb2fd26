//! Resizing: the engine moves data out of the way, then the format switches to the new size in one step.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::payload::Payload;
use super::read::{on_parent, read_parent};
use super::write::place_in;
use super::{BlockMapper, Mapped, Slot};
use crate::{DeviceCaps, Error, ErrorKind, Preallocation, Result, SECTOR_SIZE, ZeroMode};

/// Maximum number of bytes that closing an image moves. Larger gains are left to a compaction.
const MOVED_AT_CLOSE: u64 = 1 << 30;

/// Guards the format's switch to another size, whether it completes, fails or is dropped. Afterwards the
/// engine adopts the mapper's state, and the next publication makes the disk match it.
struct Switch<'e, M: BlockMapper>(&'e Mapped<M>);

impl<M: BlockMapper> Drop for Switch<'_, M> {
    fn drop(&mut self) {
        let engine = self.0;
        if let Err(error) = engine.refresh_layout() {
            tracing::error!("the image has a layout that makes no sense: {error}");
        }
        engine.slots.restart();
        engine.unsure.store(true, Ordering::Release);
    }
}

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn change_size(&self, size: u64, preallocation: Preallocation) -> Result<()> {
        self.write_request(0, 0)?;
        if !size.is_multiple_of(SECTOR_SIZE) || size > i64::MAX as u64 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{size} bytes: a disk is a multiple of {SECTOR_SIZE} bytes"),
            ));
        }
        self.start_writing().await?;
        // Excludes all other requests. The code below takes no block locks of its own.
        let _guard = self.blocks.lock_exclusive(0..u64::MAX).await;
        self.publish().await?;
        let old = self.layout().virtual_size;
        let needed = if size < old { DeviceCaps::SHRINK } else { DeviceCaps::GROW };
        if !self.mapper.info().caps.contains(needed) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "Image format driver does not support resize",
            ));
        }
        let mut slots_end = None;
        if size < old {
            // If the kept blocks fit into the first `kept` slots, the format drops the entries past the new
            // size together with the size. A power cut then leaves the old disk or the new one.
            let kept = size.div_ceil(self.layout().block_size);
            slots_end = self.gather_below(kept).await?;
            if slots_end.is_none() {
                self.free_blocks_from(kept).await?;
            }
        } else if size > old {
            self.hide_parent_behind_end().await?;
            self.zero_behind_end().await?;
        }
        let frees_first = size < old && slots_end.is_none();
        let slots_end = |engine: &Self| slots_end.unwrap_or(engine.slots.end());
        let mut plan = self.mapper.plan_resize(size, slots_end(self)).await?;
        plan.hides_parent = self.gains_parent_blocks(size)?;
        self.refresh_layout()?;
        if plan.vacate_slots > 0 {
            self.vacate(plan.vacate_slots).await?;
        }
        if frees_first {
            self.close_gaps().await?;
        }
        self.storage.flush().await?;
        let switch = Switch(self);
        self.mapper.resize(size, plan, slots_end(self), preallocation).await?;
        drop(switch);
        self.scan_slots().await?;
        self.publish().await?;
        if size < old {
            // Removes the cut-off part of the last kept block for every other reader of the file, too.
            self.zero_behind_end().await?;
            self.slots.allow_trim();
            self.close_gaps().await?;
            self.mapper.settle(self.slots.end()).await?;
            self.storage.flush().await?;
        }
        Ok(())
    }

    /// Moves the first `kept` blocks to slots below `kept`, durably. Returns one past the highest slot that
    /// they use, or `None` if some of them find no such slot.
    async fn gather_below(&self, kept: u64) -> Result<Option<u64>> {
        let layout = self.layout();
        self.vacate_below(kept).await?;
        for is_moving in [true, false] {
            let (mut at, mut end) = (0, 0);
            while at < kept {
                let run = self.run_of(at, kept - at).await?;
                let next = at + run.blocks.max(1);
                if let Slot::Data(first) = run.first {
                    let run_end = first + run.blocks;
                    end = run_end.max(end);
                    for block in at..if is_moving && run_end > kept { next } else { at } {
                        if self.slots.used() == self.slots.end() {
                            // No unused slot to move the block to.
                            break;
                        }
                        self.move_owned(&layout, block, kept..u64::MAX, 0).await?;
                        if self.pending.len() >= 1024 {
                            self.publish().await?;
                        }
                    }
                }
                at = next;
            }
            self.publish().await?;
            if end <= kept {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Moves blocks past the first `kept` out of slots below `kept`. Stops when the kept blocks fit there or
    /// no other slot is unused.
    async fn vacate_below(&self, kept: u64) -> Result<()> {
        let layout = self.layout();
        let mut lacking = 0;
        let mut at = 0;
        while at < kept {
            let run = self.run_of(at, kept - at).await?;
            let blocks = run.blocks.max(1);
            if let Slot::Data(first) = run.first {
                let end = first + blocks;
                lacking += end - end.min(first.max(kept));
            }
            at += blocks;
        }
        lacking -= lacking.min(self.slots.unused(0..kept));
        let mut movable = lacking.min(self.slots.unused(kept..layout.slot_limit));
        let all = layout.block_count();
        while at < all && movable > 0 {
            let run = self.run_of(at, all - at).await?;
            let blocks = run.blocks.max(1);
            if matches!(run.first, Slot::Data(first) if first < kept) {
                let moved = self.move_owned(&layout, at, 0..kept, kept).await?;
                movable -= u64::from(moved);
                at += 1;
            } else {
                at += blocks;
            }
            if self.pending.len() >= 1024 {
                self.publish().await?;
            }
        }
        self.publish().await
    }

    /// Returns whether the parent has content for the blocks that the disk gains by growing to `size` bytes.
    /// These blocks must read as zeros.
    fn gains_parent_blocks(&self, size: u64) -> Result<bool> {
        let layout = self.layout();
        let next = layout.block_count() * layout.block_size;
        let gained = on_parent(self.parent.as_ref(), next..size.max(next));
        if gained.is_empty() || layout.has_zero_slots {
            Ok(!gained.is_empty())
        } else {
            Err(Error::new(
                ErrorKind::Unsupported,
                "the parent is larger than the disk, and the format cannot hide what it would show",
            ))
        }
    }

    /// Allocates a partial last block that reads from the parent, if it would show more of the parent when
    /// the disk grows.
    async fn hide_parent_behind_end(&self) -> Result<()> {
        let layout = self.layout();
        let end = layout.virtual_size;
        let block_end = layout.block_count() * layout.block_size;
        let is_free = |slot| slot == Slot::Free;
        let behind = end..block_end;
        if behind.is_empty()
            || !is_free(self.slot_of(layout.block_at(end).0).await?)
            || !self.parent_shows(&[behind]).await?
        {
            return Ok(());
        }
        let (mut last, start) = ([0; SECTOR_SIZE as usize], end - SECTOR_SIZE);
        read_parent(self.parent.as_ref(), start, &mut last).await?;
        self.write_transaction(&layout, start..end, 0, &Payload::Lent(&last)).await?;
        self.publish().await
    }

    /// Zeros the part of the last block past the end of the disk, so that data of an earlier writer is not
    /// exposed.
    async fn zero_behind_end(&self) -> Result<()> {
        let layout = self.layout();
        let (block, within) = layout.block_at(layout.virtual_size);
        if within == 0 {
            return Ok(());
        }
        if let Slot::Data(slot) = self.slot_of(block).await? {
            let place = place_in(&layout, slot, layout.virtual_size)?;
            let len = layout.block_size - within;
            self.storage.write_zeroes(place, len, ZeroMode::Deallocate).await?;
            self.storage.flush().await?;
        }
        Ok(())
    }

    /// Moves all data out of the slots below `end`, durably, and withholds these slots from allocation.
    async fn vacate(&self, end: u64) -> Result<()> {
        self.slots.withhold_below(end);
        self.relocate(0..end, end).await?;
        self.slots.withhold_below(end);
        Ok(())
    }

    /// Closes gaps as [`close_gaps`](Self::close_gaps) does, if that moves at most [`MOVED_AT_CLOSE`] bytes.
    /// Every other tool considers an image without unused slots clean.
    pub(super) async fn close_few_gaps(&self) -> Result<()> {
        let layout = self.layout();
        let gaps = self.slots.gaps();
        if layout.is_fixed || gaps == 0 || gaps > MOVED_AT_CLOSE / layout.stride {
            return Ok(());
        }
        self.close_gaps().await
    }

    /// Moves data down until no slot in use lies above an unused one.
    async fn close_gaps(&self) -> Result<()> {
        let end = self.slots.used();
        self.relocate(end..u64::MAX, 0).await?;
        self.trim().await
    }

    /// Moves blocks stored in slots of `from` to slots from `lowest` on.
    async fn relocate(&self, from: Range<u64>, lowest: u64) -> Result<()> {
        let layout = self.layout();
        let blocks = layout.block_count();
        let mut at = 0;
        while at < blocks {
            let run = self.run_of(at, blocks - at).await?;
            let end = at + run.blocks;
            if let Slot::Data(first) = run.first {
                let last = first + (run.blocks - 1);
                let touched = first < from.end && last >= from.start;
                for block in at..if touched { end } else { at } {
                    self.move_owned(&layout, block, from.clone(), lowest).await?;
                    if self.pending.len() >= 1024 {
                        self.publish().await?;
                    }
                }
            }
            at = end;
        }
        self.publish().await
    }
}
