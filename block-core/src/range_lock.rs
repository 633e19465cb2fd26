//! A lock on ranges of numbers, with any number of sharers or one owner, in first-come-first-served order.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Locks ranges of numbers, such as blocks or bytes.
///
/// A request waits for every overlapping request that came before it, so no request starves. Requests that do
/// not overlap never wait for each other. Guards own their share of the lock and may be kept for any time.
#[derive(Debug, Default)]
pub struct RangeLock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_ticket: u64,
    /// Held claims at the index that their guard stores. `None` if the guard was dropped.
    held: Vec<Option<LockRequest>>,
    /// Unused indices of `held`.
    free: Vec<usize>,
    /// Number of exclusive claims held. If it is 0, sharers need not search `held`.
    owners: usize,
    waiting: Vec<Waiter>,
}

#[derive(Debug, Clone)]
struct LockRequest {
    ticket: u64,
    range: Range<u64>,
    exclusive: bool,
}

#[derive(Debug)]
struct Waiter {
    request: LockRequest,
    waker: Option<Waker>,
}

impl LockRequest {
    fn conflicts(&self, other: &LockRequest) -> bool {
        (self.exclusive || other.exclusive)
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }
}

impl RangeLock {
    /// Creates a lock with nothing locked.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits until `range` can be shared with other sharers.
    pub fn lock_shared(self: &Arc<Self>, range: Range<u64>) -> Acquire {
        self.acquire(range, false)
    }

    /// Waits until `range` can be owned exclusively.
    pub fn lock_exclusive(self: &Arc<Self>, range: Range<u64>) -> Acquire {
        self.acquire(range, true)
    }

    /// Shares `range` without waiting. Returns `None` if that is not possible now.
    pub fn try_lock_shared(self: &Arc<Self>, range: Range<u64>) -> Option<RangeGuard> {
        self.try_acquire(range, false)
    }

    /// Owns `range` without waiting. Returns `None` if that is not possible now.
    pub fn try_lock_exclusive(self: &Arc<Self>, range: Range<u64>) -> Option<RangeGuard> {
        self.try_acquire(range, true)
    }

    #[inline]
    fn try_acquire(self: &Arc<Self>, range: Range<u64>, exclusive: bool) -> Option<RangeGuard> {
        let mut state = self.state();
        let request = state.request(range, exclusive);
        state
            .admit(&request, usize::MAX)
            .then(|| RangeGuard { lock: Arc::clone(self), place: state.hold(request) })
    }

    fn acquire(self: &Arc<Self>, range: Range<u64>, exclusive: bool) -> Acquire {
        let request = self.state().request(range, exclusive);
        Acquire { lock: Arc::clone(self), request, stage: Stage::New }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code in this file can panic while it holds the mutex.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, place: Option<usize>) {
        let mut state = self.state();
        if let Some(place) = place {
            state.release(place);
        }
        let woken = state.promote();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn request(&mut self, range: Range<u64>, exclusive: bool) -> LockRequest {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        LockRequest { ticket, range, exclusive }
    }

    /// Returns whether `request` conflicts with no holder and with none of the first `ahead` waiters.
    fn admit(&self, request: &LockRequest, ahead: usize) -> bool {
        let all_share = self.owners == 0 && !request.exclusive;
        (all_share || !self.held.iter().flatten().any(|held| held.conflicts(request)))
            && !self.waiting.iter().take(ahead).any(|waiter| waiter.request.conflicts(request))
    }

    /// Adds a holder and returns its index.
    fn hold(&mut self, request: LockRequest) -> usize {
        self.owners += usize::from(request.exclusive);
        let place = self.free.pop().unwrap_or(self.held.len());
        match self.held.get_mut(place) {
            Some(empty) => *empty = Some(request),
            None => self.held.push(Some(request)),
        }
        place
    }

    fn release(&mut self, place: usize) {
        let Some(request) = self.held.get_mut(place).and_then(Option::take) else {
            debug_assert!(false, "a range is given back twice");
            return;
        };
        self.owners -= usize::from(request.exclusive);
        self.free.push(place);
    }

    /// Returns the index of the holder with this ticket.
    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.held
            .iter()
            .position(|held| held.as_ref().is_some_and(|request| request.ticket == ticket))
    }

    /// Moves every waiter that can be admitted to the holders, and returns their wakers.
    fn promote(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        let mut index = 0;
        while let Some(waiter) = self.waiting.get(index) {
            if !self.admit(&waiter.request, index) {
                index += 1;
                continue;
            }
            let waiter = self.waiting.remove(index);
            self.hold(waiter.request);
            woken.extend(waiter.waker);
        }
        woken
    }
}

/// A locked range. Dropping the guard unlocks it.
#[derive(Debug)]
pub struct RangeGuard {
    lock: Arc<RangeLock>,
    /// Index of the request in the lock's `held`.
    place: usize,
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        self.lock.release(Some(self.place));
    }
}

/// A future that waits for a range. Dropping it leaves the queue.
#[derive(Debug)]
#[must_use = "a lock that is not awaited is not taken"]
pub struct Acquire {
    lock: Arc<RangeLock>,
    request: LockRequest,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Queued,
    Done,
}

impl Future for Acquire {
    type Output = RangeGuard;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RangeGuard> {
        let this = self.get_mut();
        let ticket = this.request.ticket;
        let mut state = this.lock.state();
        let place = match this.stage {
            Stage::New if state.admit(&this.request, usize::MAX) => {
                state.hold(this.request.clone())
            }
            Stage::New => {
                let waker = Some(cx.waker().clone());
                state.waiting.push(Waiter { request: this.request.clone(), waker });
                this.stage = Stage::Queued;
                return Poll::Pending;
            }
            Stage::Queued => {
                let waiter = state.waiting.iter_mut().find(|w| w.request.ticket == ticket);
                if let Some(waiter) = waiter {
                    waiter.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                // No longer queued: `promote` has admitted this waiter. Hands out its guard exactly once.
                let Some(place) = state.place_of(ticket) else {
                    debug_assert!(false, "a waiter is neither in the queue nor a holder");
                    return Poll::Pending;
                };
                place
            }
            // The guard was handed out. A further poll never completes.
            Stage::Done => return Poll::Pending,
        };
        this.stage = Stage::Done;
        drop(state);
        Poll::Ready(RangeGuard { lock: Arc::clone(&this.lock), place })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if self.stage != Stage::Queued {
            return;
        }
        let ticket = self.request.ticket;
        let mut state = self.lock.state();
        state.waiting.retain(|waiter| waiter.request.ticket != ticket);
        let place = state.place_of(ticket);
        drop(state);
        // Releases the range if this waiter was admitted since the last poll, and lets later waiters pass.
        self.lock.release(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn sharers_share_and_an_owner_waits_for_all_of_them() {
        let lock = RangeLock::new();
        let a = ready(&mut lock.lock_shared(0..10)).unwrap();
        let b = ready(&mut lock.lock_shared(5..15)).unwrap();
        assert!(lock.try_lock_exclusive(14..15).is_none());
        assert!(lock.try_lock_exclusive(15..16).is_some());
        let mut owner = lock.lock_exclusive(8..9);
        assert!(ready(&mut owner).is_none());
        drop(a);
        assert!(ready(&mut owner).is_none());
        drop(b);
        assert!(ready(&mut owner).is_some());
    }

    #[test]
    fn a_later_sharer_does_not_overtake_a_waiting_owner() {
        let lock = RangeLock::new();
        let first = ready(&mut lock.lock_shared(0..10)).unwrap();
        let mut owner = lock.lock_exclusive(0..10);
        assert!(ready(&mut owner).is_none());
        let mut late = lock.lock_shared(3..4);
        assert!(ready(&mut late).is_none());
        assert!(lock.try_lock_shared(3..4).is_none());
        assert!(lock.try_lock_shared(10..11).is_some(), "beside the range nobody waits");
        drop(first);
        let owned = ready(&mut owner).unwrap();
        assert!(ready(&mut late).is_none());
        drop(owned);
        assert!(ready(&mut late).is_some());
    }

    #[test]
    fn a_dropped_waiter_lets_those_behind_it_pass() {
        let lock = RangeLock::new();
        let first = ready(&mut lock.lock_shared(0..10)).unwrap();
        let mut owner = lock.lock_exclusive(0..10);
        assert!(ready(&mut owner).is_none());
        let mut late = lock.lock_shared(0..10);
        assert!(ready(&mut late).is_none());
        drop(owner);
        assert!(ready(&mut late).is_some());
        drop(first);
    }

    #[test]
    fn a_waiter_dropped_after_it_was_admitted_releases_the_range() {
        let lock = RangeLock::new();
        let first = ready(&mut lock.lock_exclusive(0..10)).unwrap();
        let mut second = lock.lock_exclusive(0..10);
        assert!(ready(&mut second).is_none());
        drop(first);
        drop(second);
        assert!(ready(&mut lock.lock_exclusive(0..10)).is_some());
    }

    #[test]
    fn what_was_given_back_takes_no_room_and_is_not_looked_at() {
        let lock = RangeLock::new();
        for round in 0..100 {
            let shared = ready(&mut lock.lock_shared(0..10)).unwrap();
            let owned = ready(&mut lock.lock_exclusive(20..30 + round)).unwrap();
            drop((shared, owned));
        }
        let state = lock.state();
        assert_eq!((state.held.len(), state.free.len(), state.owners), (2, 2, 0));
    }
}
