//! Things that become ready in any order, and are worked on one at a time in the order of their numbers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is ready, and whose turn it is.
#[derive(Debug)]
pub(super) struct Order<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    /// The number whose turn it is: what is worked on, or else not ready.
    turn: u64,
    ready: BTreeMap<u64, T>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self(Mutex::new(State { turn: 0, ready: BTreeMap::new() }))
    }
}

impl<T> Order<T> {
    /// Says that a thing is ready. If it is its turn, the caller gets it back, works on it and calls
    /// [`Order::done`]; otherwise whoever works on one before gets it then. Numbers begin with 0, and none
    /// is left out.
    pub fn ready(&self, number: u64, thing: T) -> Option<T> {
        let mut state = self.state();
        if state.turn == number {
            return Some(thing);
        }
        state.ready.insert(number, thing);
        None
    }

    /// Says that the thing whose turn it was is done. The caller gets the next one to work on, if it is
    /// ready.
    pub fn done(&self) -> Option<T> {
        let mut state = self.state();
        state.turn += 1;
        let turn = state.turn;
        state.ready.remove(&turn)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_in_order_and_one_at_a_time() {
        let order = Order::default();
        assert_eq!(order.ready(1, 'b'), None, "the first is not ready");
        assert_eq!(order.ready(0, 'a'), Some('a'));
        assert_eq!(order.ready(2, 'c'), None, "the first is worked on");
        assert_eq!(order.done(), Some('b'));
        assert_eq!(order.done(), Some('c'));
        assert_eq!(order.done(), None, "the fourth is not ready");
        assert_eq!(order.ready(3, 'd'), Some('d'));
    }
}
