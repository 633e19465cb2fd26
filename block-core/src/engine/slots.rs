//! The slot allocator: which slots are in use, which are available, and whether they hold stale bytes.

use std::ops::Range;

use super::Layout;
pub(super) use super::slot_set::SlotSet;
use super::write::slot_start;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::{Error, ErrorKind, Result, bug};

/// The slot allocator of an image. It is empty until [`Slots::start`] passes it the slots in use.
#[derive(Debug, Default)]
pub(super) struct Slots {
    state: Mutex<State>,
    /// Held while the map is scanned, and while the file's length changes.
    pub(super) resizing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    /// One past the highest slot that is used, reserved or whose free is deferred.
    end: u64,
    /// Unused slots below `end`.
    free: SlotSet,
    /// Slots given up by entries that are not yet known to be durable.
    deferred_free: Vec<u64>,
    /// Offset in bytes from which the storage has never held data: new slots there read as zeros.
    fresh_from: u64,
    /// Length of the storage in bytes that slots may rely on.
    len: u64,
    /// Whether the engine may truncate the file, because it has added or given up slots.
    may_trim: bool,
}

/// A reserved slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) slot: u64,
    /// Whether the slot reads as zeros until it is written. Otherwise it holds stale bytes.
    pub(super) is_fresh: bool,
}

/// Reserved slots. They are returned if this is dropped before [`Reservation::keep`].
#[derive(Debug)]
pub(super) struct Reservation<'s> {
    slots: &'s Slots,
    taken: Vec<Reserved>,
}

impl Reservation<'_> {
    pub(super) fn taken(&self) -> &[Reserved] {
        &self.taken
    }

    /// Returns one past the highest slot of the reservation.
    pub(super) fn end(&self) -> u64 {
        self.taken.iter().map(|reserved| reserved.slot + 1).max().unwrap_or(0)
    }

    /// Keeps the slots: they are in use from here on.
    pub(super) fn keep(mut self) {
        self.taken.clear();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        for reserved in &self.taken {
            state.free.insert(reserved.slot);
        }
    }
}

impl Slots {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_started(&self) -> bool {
        self.state().started
    }

    /// Starts with the slots that the map uses. `len` is the storage's length in bytes.
    pub(super) fn start(&self, used: SlotSet, len: u64) {
        let mut state = self.state();
        state.end = used.end();
        state.free = used.complement();
        state.deferred_free.clear();
        state.fresh_from = state.fresh_from.max(len);
        state.len = len;
        state.started = true;
    }

    /// Drops the slot numbering but keeps `fresh_from`. The map is scanned again before the next allocation.
    pub(super) fn restart(&self) {
        self.state().started = false;
    }

    /// Returns one past the highest slot that is used, reserved or whose free is deferred.
    pub(super) fn end(&self) -> u64 {
        self.state().end
    }

    /// Reserves `count` slots from `lowest` on, preferring slots that were used before. Returns `None` if
    /// there are not enough, but slots whose free is deferred will be free after the next publication.
    ///
    /// # Errors
    /// `NoSpace` if the format cannot address another slot.
    pub(super) fn reserve(
        &self,
        count: usize,
        lowest: u64,
        layout: &Layout,
    ) -> Result<Option<Reservation<'_>>> {
        let mut reservation = Reservation { slots: self, taken: Vec::with_capacity(count) };
        let mut state = self.state();
        if state.end < lowest {
            let skipped = state.end..lowest;
            state.end = lowest;
            skipped.for_each(|slot| state.free.insert(slot));
        }
        while reservation.taken.len() < count {
            let slot = match state.free.take_first(lowest) {
                Some(slot) => slot,
                None if state.end < layout.slot_limit => {
                    state.end += 1;
                    state.end - 1
                }
                None if !state.deferred_free.is_empty() => {
                    drop(state);
                    return Ok(None);
                }
                None => {
                    drop(state);
                    return Err(Error::new(
                        ErrorKind::NoSpace,
                        format!("all {} blocks of the image are in use", layout.slot_limit),
                    ));
                }
            };
            let start = match slot_start(layout, slot) {
                Ok(start) => start,
                Err(error) => {
                    drop(state);
                    return Err(error);
                }
            };
            let is_fresh = start >= state.fresh_from;
            state.fresh_from = state.fresh_from.max(start + layout.stride);
            state.may_trim = true;
            reservation.taken.push(Reserved { slot, is_fresh });
        }
        drop(state);
        Ok(Some(reservation))
    }

    /// Withholds all unused slots below `end` from allocation.
    pub(super) fn withhold_below(&self, end: u64) {
        let mut state = self.state();
        while let Some(slot) = state.free.first().filter(|slot| *slot < end) {
            state.free.remove(slot);
        }
    }

    /// Returns the number of unused slots in `range`, all of which the format can address.
    pub(super) fn unused(&self, range: Range<u64>) -> u64 {
        let state = self.state();
        let known = range.start.min(state.end)..range.end.min(state.end);
        let free = known.filter(|slot| state.free.contains(*slot)).count() as u64;
        free + range.end - range.end.min(range.start.max(state.end))
    }

    /// Moves a slot to the deferred list. The entry that gives it up is already pending.
    pub(super) fn defer_free(&self, slot: u64) {
        let mut state = self.state();
        state.deferred_free.push(slot);
        state.may_trim = true;
    }

    /// Returns the slots whose free is deferred.
    pub(super) fn deferred_free(&self) -> Vec<u64> {
        self.state().deferred_free.clone()
    }

    /// Frees the first `count` slots whose free is deferred, because the entries that gave them up are durable. Returns
    /// whether the end of the slots in use moved down.
    ///
    /// # Errors
    /// `Internal` if one of them was given up twice, or was not in use.
    pub(super) fn release(&self, count: usize) -> Result<bool> {
        let mut state = self.state();
        if count > state.deferred_free.len() {
            return Err(bug("more slots are released than were given up"));
        }
        let released: Vec<u64> = state.deferred_free.drain(..count).collect();
        for slot in released {
            if slot >= state.end || state.free.insert_new(slot..slot + 1).is_some() {
                return Err(bug("a slot is given up that nobody uses"));
            }
        }
        Ok(state.drop_free_tail())
    }

    /// Returns the storage length in bytes that slots rely on.
    pub(super) fn len(&self) -> u64 {
        self.state().len
    }

    pub(super) fn set_len(&self, len: u64) {
        self.state().len = len;
    }

    /// Returns the length needed for the slots in use, if the file is longer and the engine may truncate it.
    /// The allocator relies on the new length immediately, so no allocation counts on space about to be cut.
    pub(super) fn trim(&self, layout: &Layout) -> Option<u64> {
        let mut state = self.state();
        state.drop_free_tail();
        let needed = layout.slot_start(state.end)?;
        let trims = state.started && state.may_trim && state.len > needed;
        trims.then(|| {
            state.len = needed;
            needed
        })
    }

    /// Allows the engine to truncate the file, even if another program left the tail.
    pub(super) fn allow_trim(&self) {
        self.state().may_trim = true;
    }

    /// Returns the number of slots below the end that are unused or whose free is deferred.
    pub(super) fn gaps(&self) -> u64 {
        let state = self.state();
        state.free.len() + state.deferred_free.len() as u64
    }

    /// Returns the number of slots in use.
    pub(super) fn used(&self) -> u64 {
        let state = self.state();
        state.end - state.free.len() - state.deferred_free.len() as u64
    }
}

impl State {
    fn drop_free_tail(&mut self) -> bool {
        let before = self.end;
        while self.end > 0 && self.free.contains(self.end - 1) {
            self.end -= 1;
            self.free.remove(self.end);
        }
        self.end < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            virtual_size: 100 << 20,
            block_size: 1 << 20,
            slots_start: 4096,
            stride: 1 << 20,
            lead: 0,
            slot_limit: 100,
            has_zero_slots: true,
            is_fixed: false,
        }
    }

    fn used(members: &[u64]) -> SlotSet {
        let mut set = SlotSet::default();
        members.iter().for_each(|slot| set.insert(*slot));
        set
    }

    fn reserve(slots: &Slots, count: usize) -> Vec<(u64, bool)> {
        let reservation = slots.reserve(count, 0, &layout()).unwrap().unwrap();
        let taken = reservation.taken().iter().map(|r| (r.slot, r.is_fresh)).collect();
        reservation.keep();
        taken
    }

    #[test]
    fn holes_are_handed_out_first_and_hold_stale_bytes() {
        let slots = Slots::default();
        slots.start(used(&[0, 2, 65]), 4096 + (66 << 20));
        let taken = reserve(&slots, 64);
        assert_eq!(taken[..3], [(1, false), (3, false), (4, false)]);
        assert_eq!(taken[62..], [(64, false), (66, true)]);
    }

    #[test]
    fn a_slot_that_was_rolled_back_is_stale_when_it_comes_again() {
        let slots = Slots::default();
        slots.start(used(&[]), 4096);
        drop(slots.reserve(1, 0, &layout()).unwrap());
        assert_eq!(reserve(&slots, 2), [(0, false), (1, true)]);
    }

    #[test]
    fn a_slot_with_a_deferred_free_is_not_handed_out_before_it_is_released() {
        let slots = Slots::default();
        slots.start(used(&[0, 1]), 4096 + (2 << 20));
        slots.defer_free(0);
        assert_eq!(reserve(&slots, 1), [(2, true)]);
        slots.release(1).unwrap();
        assert_eq!(reserve(&slots, 1), [(0, false)]);
    }

    #[test]
    fn the_end_moves_down_over_free_slots_and_the_file_is_cut_there() {
        let slots = Slots::default();
        slots.start(used(&[0, 1, 2]), 4096 + (3 << 20));
        assert_eq!(slots.trim(&layout()), None, "a tail that is not ours stays");
        slots.defer_free(1);
        slots.defer_free(2);
        assert!(slots.release(2).unwrap());
        assert_eq!(slots.trim(&layout()), Some(4096 + (1 << 20)));
        assert_eq!(reserve(&slots, 1), [(1, false)], "what was cut off held bytes once");
    }

    #[test]
    fn what_was_cut_off_before_the_map_was_scanned_again_held_bytes_once() {
        let slots = Slots::default();
        slots.start(used(&[0, 1, 2]), 4096 + (3 << 20));
        assert_eq!(reserve(&slots, 1), [(3, true)]);
        slots.restart();
        slots.start(used(&[0]), 4096 + (1 << 20));
        assert_eq!(reserve(&slots, 4), [(1, false), (2, false), (3, false), (4, true)]);
    }

    #[test]
    fn a_slot_given_up_twice_is_a_bug() {
        let slots = Slots::default();
        slots.start(used(&[0, 1]), 4096 + (2 << 20));
        slots.defer_free(0);
        slots.defer_free(0);
        let released = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| slots.release(2)));
        assert!(!matches!(released, Ok(Ok(_))), "{released:?}");
    }

    #[test]
    fn a_full_format_says_so() {
        let slots = Slots::default();
        slots.start(used(&(0..100).collect::<Vec<_>>()), 4096 + (100 << 20));
        let error = slots.reserve(1, 0, &layout()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        slots.defer_free(7);
        assert!(slots.reserve(1, 0, &layout()).unwrap().is_none());
    }
}
