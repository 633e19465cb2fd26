//! Which slots of the file are in use, which can be had, and what they hold when they are handed out.

use std::ops::Range;

use super::Layout;
pub(super) use super::slot_set::SlotSet;
use super::write::slot_start;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::{Error, ErrorKind, Result, bug};

/// The allocator of an image. Knows nothing until [`Slots::start`] has told it what the map uses.
#[derive(Debug, Default)]
pub(super) struct Slots {
    state: Mutex<State>,
    /// Held while the map is scanned, and while the file's length changes.
    pub(super) resizing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    /// Behind the highest slot that is used, reserved or in limbo.
    end: u64,
    /// Slots below `end` that nobody uses.
    free: SlotSet,
    /// Slots given up by entries that are not surely durable.
    limbo: Vec<u64>,
    /// From this byte on, the storage has never held anything: new slots there read as zeros.
    fresh_from: u64,
    /// The storage's length in bytes, as far as slots may rely on it.
    len: u64,
    /// Whether the end of the file is ours to cut: slots were added or given up.
    may_trim: bool,
}

/// A slot that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) slot: u64,
    /// Reads as zeros until it is written. Otherwise it holds stale bytes.
    pub(super) is_fresh: bool,
}

/// Slots that go back when this is dropped before [`Reservation::keep`].
#[derive(Debug)]
pub(super) struct Reservation<'s> {
    slots: &'s Slots,
    taken: Vec<Reserved>,
}

impl Reservation<'_> {
    pub(super) fn taken(&self) -> &[Reserved] {
        &self.taken
    }

    /// Behind the highest slot of the reservation.
    pub(super) fn end(&self) -> u64 {
        self.taken.iter().map(|reserved| reserved.slot + 1).max().unwrap_or(0)
    }

    /// The slots are in use from here on.
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

    /// Takes over what the map uses. `used` is consumed; `len` is the storage's length in bytes.
    pub(super) fn start(&self, used: SlotSet, len: u64) {
        let mut state = self.state();
        state.end = used.end();
        state.free = used.complement();
        state.limbo.clear();
        state.fresh_from = state.fresh_from.max(len);
        state.len = len;
        state.started = true;
    }

    /// Forgets the numbering, not the bytes: the map is scanned again before the next allocation.
    pub(super) fn restart(&self) {
        self.state().started = false;
    }

    /// Behind the highest slot in use.
    pub(super) fn end(&self) -> u64 {
        self.state().end
    }

    /// Hands out `count` slots from `lowest` on, those that were used before first. `None`: there are
    /// not that many, but slots in limbo will be free after the next publication.
    ///
    /// # Errors
    /// `NoSpace` when the format cannot address another slot.
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
                None if !state.limbo.is_empty() => {
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

    /// Nobody may get a slot below `end` any more.
    pub(super) fn withhold_below(&self, end: u64) {
        let mut state = self.state();
        while let Some(slot) = state.free.first().filter(|slot| *slot < end) {
            state.free.remove(slot);
        }
    }

    /// How many of the slots in `range`, all of which the format can address, are unused.
    pub(super) fn unused(&self, range: Range<u64>) -> u64 {
        let state = self.state();
        let known = range.start.min(state.end)..range.end.min(state.end);
        let free = known.filter(|slot| state.free.contains(*slot)).count() as u64;
        free + range.end - range.end.min(range.start.max(state.end))
    }

    /// A slot that was given up by an entry that is now pending.
    pub(super) fn give_up(&self, slot: u64) {
        let mut state = self.state();
        state.limbo.push(slot);
        state.may_trim = true;
    }

    /// The slots given up so far.
    pub(super) fn limbo(&self) -> Vec<u64> {
        self.state().limbo.clone()
    }

    /// The entries that gave up the first `count` slots in limbo are durable. Says whether the end of
    /// the slots in use moved down.
    ///
    /// # Errors
    /// `Internal` when one of them was given up twice, or was not in use.
    pub(super) fn release(&self, count: usize) -> Result<bool> {
        let mut state = self.state();
        if count > state.limbo.len() {
            return Err(bug("more slots are released than were given up"));
        }
        let released: Vec<u64> = state.limbo.drain(..count).collect();
        for slot in released {
            if slot >= state.end || state.free.insert_new(slot..slot + 1).is_some() {
                return Err(bug("a slot is given up that nobody uses"));
            }
        }
        Ok(state.drop_free_tail())
    }

    /// The storage's length that slots rely on, bytes.
    pub(super) fn len(&self) -> u64 {
        self.state().len
    }

    pub(super) fn set_len(&self, len: u64) {
        self.state().len = len;
    }

    /// The length that suffices for the slots in use, if the file is longer and its end is ours.
    /// The allocator relies on that length at once, so that nobody counts on what is about to be cut.
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

    /// The end of the file may be cut, whoever left it there.
    pub(super) fn own_tail(&self) {
        self.state().may_trim = true;
    }

    /// How many slots below the end nobody uses.
    pub(super) fn gaps(&self) -> u64 {
        let state = self.state();
        state.free.len() + state.limbo.len() as u64
    }

    /// How many slots are in use.
    pub(super) fn used(&self) -> u64 {
        let state = self.state();
        state.end - state.free.len() - state.limbo.len() as u64
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
    fn a_slot_in_limbo_is_not_handed_out_before_it_is_released() {
        let slots = Slots::default();
        slots.start(used(&[0, 1]), 4096 + (2 << 20));
        slots.give_up(0);
        assert_eq!(reserve(&slots, 1), [(2, true)]);
        slots.release(1).unwrap();
        assert_eq!(reserve(&slots, 1), [(0, false)]);
    }

    #[test]
    fn the_end_moves_down_over_free_slots_and_the_file_is_cut_there() {
        let slots = Slots::default();
        slots.start(used(&[0, 1, 2]), 4096 + (3 << 20));
        assert_eq!(slots.trim(&layout()), None, "a tail that is not ours stays");
        slots.give_up(1);
        slots.give_up(2);
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
        slots.give_up(0);
        slots.give_up(0);
        let released = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| slots.release(2)));
        assert!(!matches!(released, Ok(Ok(_))), "{released:?}");
    }

    #[test]
    fn a_full_format_says_so() {
        let slots = Slots::default();
        slots.start(used(&(0..100).collect::<Vec<_>>()), 4096 + (100 << 20));
        let error = slots.reserve(1, 0, &layout()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        slots.give_up(7);
        assert!(slots.reserve(1, 0, &layout()).unwrap().is_none());
    }
}
