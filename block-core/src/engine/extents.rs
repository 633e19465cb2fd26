//! Extents, allocation status and pinned runs, determined without reading data.

use std::ops::Range;
use std::sync::Arc;

use super::read::on_parent;
use super::write::place_in;
use super::{BlockMapper, Layout, Mapped, Slot, SlotRun, blocks_of};
use crate::{
    Allocation, Extent, ExtentFlags, ExtentList, MappedRuns, Place, Result, Run, SECTOR_SIZE, bug,
};

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn list_extents(&self, range: Range<u64>, out: &mut ExtentList) -> Result<()> {
        let layout = self.layout();
        let _guard = self.blocks.lock_shared(blocks_of(&range, layout.block_size)).await;
        let mut at = range.start;
        while at < range.end {
            let (run, piece) = self.piece(&layout, at, range.end).await?;
            match run.first {
                Slot::Data(slot) => self.data_extents(&layout, slot, piece.clone(), out).await?,
                Slot::Free if self.parent.is_some() => {
                    self.parent_extents(piece.clone(), out).await?;
                }
                // In a base image, a block that was never written reads as zeros.
                Slot::Free | Slot::Zero => {
                    out.push(zeros(&piece, ExtentFlags::PRESENT | ExtentFlags::ZERO));
                }
            }
            at = piece.end;
        }
        Ok(())
    }

    pub(super) async fn allocation(&self, sector: u64, count: u64) -> Result<Allocation> {
        let range = self.request(sector, count)?;
        let layout = self.layout();
        let _guard = self.blocks.lock_shared(blocks_of(&range, layout.block_size)).await;
        let mut answer = None;
        let mut at = range.start;
        while at < range.end {
            let (run, piece) = self.piece(&layout, at, range.end).await?;
            let allocated = run.first != Slot::Free;
            if *answer.get_or_insert(allocated) != allocated {
                break;
            }
            at = piece.end;
        }
        let sectors = (at - range.start) / SECTOR_SIZE;
        Ok(Allocation { allocated: answer == Some(true), sectors })
    }

    pub(super) async fn pinned_runs(&self, range: Range<u64>) -> Result<MappedRuns> {
        let layout = self.layout();
        let guard = self.blocks.lock_shared(blocks_of(&range, layout.block_size)).await;
        let mut pins = Vec::new();
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (run, piece) = self.piece(&layout, at, range.end).await?;
            match run.first {
                Slot::Data(slot) => self.data_runs(&layout, slot, piece.clone(), &mut runs)?,
                Slot::Free => {
                    let covered = on_parent(self.parent.as_ref(), piece.clone());
                    if let (Some(parent), false) = (&self.parent, covered.is_empty()) {
                        let mapped = parent.map(covered.clone()).await?;
                        mapped.runs.into_iter().for_each(|run| push_run(&mut runs, run));
                        pins.push(mapped.pin);
                    }
                    push_zero(&mut runs, covered.end.max(piece.start)..piece.end);
                }
                Slot::Zero => push_zero(&mut runs, piece.clone()),
            }
            at = piece.end;
        }
        Ok(MappedRuns { runs, pin: Box::new((guard, pins)) })
    }

    /// Returns the run of entries at `at`, and the guest bytes of `at..end` that it covers.
    async fn piece(&self, layout: &Layout, at: u64, end: u64) -> Result<(SlotRun, Range<u64>)> {
        let blocks = blocks_of(&(at..end), layout.block_size);
        let run = self.run_of(blocks.start, blocks.end - blocks.start).await?;
        let piece_end = ((blocks.start + run.blocks) * layout.block_size).min(end);
        Ok((run, at..piece_end))
    }

    /// Splits a run of data into ranges that are contiguous in the storage.
    fn stored<'l>(
        layout: &'l Layout,
        slot: u64,
        piece: Range<u64>,
    ) -> impl Iterator<Item = Result<(Range<u64>, u64)>> + 'l {
        let (first_block, _) = layout.block_at(piece.start);
        let together = layout.stride == layout.block_size;
        let mut at = piece.start;
        std::iter::from_fn(move || {
            if at >= piece.end {
                return None;
            }
            let (block, _) = layout.block_at(at);
            let end =
                if together { piece.end } else { ((block + 1) * layout.block_size).min(piece.end) };
            let range = at..end;
            at = end;
            let offset = place_in(layout, slot + (block - first_block), range.start);
            Some(offset.map(|offset| (range, offset)))
        })
    }

    async fn data_extents(
        &self,
        layout: &Layout,
        slot: u64,
        piece: Range<u64>,
        out: &mut ExtentList,
    ) -> Result<()> {
        let data = ExtentFlags::PRESENT | ExtentFlags::DATA;
        for stored in Self::stored(layout, slot, piece) {
            let (range, offset) = stored?;
            let extent = |start: u64, len, flags| Extent {
                start,
                len,
                flags,
                depth: 0,
                offset: Some(offset + (start - range.start)),
            };
            if !layout.is_fixed {
                out.push(extent(range.start, range.end - range.start, data));
                continue;
            }
            // A fixed image has a slot for every block: only the storage knows which ones hold data.
            let mut below = Vec::new();
            let end = offset + (range.end - range.start);
            self.storage.extents(offset..end, &mut below).await?;
            let mut at = range.start;
            for hole in below {
                if hole.len > range.end - at {
                    return Err(bug("a storage lists extents that were not asked for"));
                }
                let flags = if hole.data { data } else { data | ExtentFlags::ZERO };
                out.push(extent(at, hole.len, flags));
                at += hole.len;
            }
            if at < range.end {
                out.push(extent(at, range.end - at, data | ExtentFlags::ZERO));
            }
        }
        Ok(())
    }

    async fn parent_extents(&self, piece: Range<u64>, out: &mut ExtentList) -> Result<()> {
        let covered = on_parent(self.parent.as_ref(), piece.clone());
        if let (Some(parent), false) = (&self.parent, covered.is_empty()) {
            for extent in &parent.extents(covered.clone()).await? {
                out.push(Extent { depth: extent.depth + 1, ..*extent });
            }
        }
        out.push(zeros(&(covered.end.max(piece.start)..piece.end), ExtentFlags::ZERO));
        Ok(())
    }

    fn data_runs(
        &self,
        layout: &Layout,
        slot: u64,
        piece: Range<u64>,
        runs: &mut Vec<Run>,
    ) -> Result<()> {
        for stored in Self::stored(layout, slot, piece) {
            let (range, offset) = stored?;
            let place = Place::Stored { storage: Arc::clone(&self.storage), offset };
            push_run(runs, Run { start: range.start, len: range.end - range.start, place });
        }
        Ok(())
    }
}

fn zeros(range: &Range<u64>, flags: ExtentFlags) -> Extent {
    let len = range.end - range.start;
    Extent { start: range.start, len, flags, depth: 0, offset: None }
}

fn push_zero(runs: &mut Vec<Run>, range: Range<u64>) {
    if range.start < range.end {
        push_run(
            runs,
            Run { start: range.start, len: range.end - range.start, place: Place::Zero },
        );
    }
}

/// Appends a run, merging it into the last one if they are contiguous.
fn push_run(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut() {
        let together = match (&last.place, &run.place) {
            (Place::Zero, Place::Zero) | (Place::Opaque, Place::Opaque) => true,
            (
                Place::Stored { storage: a, offset: first },
                Place::Stored { storage: b, offset: second },
            ) => Arc::ptr_eq(a, b) && first.checked_add(last.len) == Some(*second),
            _ => false,
        };
        if together {
            last.len += run.len;
            return;
        }
    }
    runs.push(run);
}
