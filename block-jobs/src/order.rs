//! Things that become ready in any order, and are worked on one at a time in the order of their numbers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What is ready, and whose turn it is.
#[derive(Debug)]
pub(super) struct Order<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    /// The number whose turn it is: what is worked on, or else not ready.
    turn: u64,
    ready: BTreeMap<u64, Ready<T>>,
}

#[derive(Debug)]
enum Ready<T> {
    /// Whoever comes to it works on it.
    Left(T),
    /// Somebody waits to work on it.
    Awaited(oneshot::Sender<()>),
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self(Mutex::new(State { turn: 0, ready: BTreeMap::new() }))
    }
}

/// Numbers begin with 0, and none is left out. Whoever works on a thing calls [`Order::done`] afterwards.
impl<T> Order<T> {
    /// Leaves a thing that is ready to whoever works on one before. If it is its turn, the caller gets it
    /// back and works on it.
    pub fn leave(&self, number: u64, thing: T) -> Option<T> {
        let mut state = self.state();
        if state.turn == number {
            return Some(thing);
        }
        state.ready.insert(number, Ready::Left(thing));
        None
    }

    /// Whether it is the turn of the caller's own thing.
    pub fn is_turn_of(&self, number: u64) -> bool {
        self.state().turn == number
    }

    /// Waits until it is the turn of the caller's own thing. After a failure it may never be.
    pub async fn turn_of(&self, number: u64) {
        let turn = {
            let mut state = self.state();
            if state.turn == number {
                return;
            }
            let (sender, turn) = oneshot::channel();
            state.ready.insert(number, Ready::Awaited(sender));
            turn
        };
        // The sender is kept until it is used.
        let _ = turn.await;
    }

    /// Says that the thing whose turn it was is done. The caller gets the next one to work on, if that was
    /// left.
    pub fn done(&self) -> Option<T> {
        let mut state = self.state();
        state.turn += 1;
        let turn = state.turn;
        match state.ready.remove(&turn)? {
            Ready::Left(thing) => Some(thing),
            Ready::Awaited(sender) => {
                drop(state);
                // Whoever waited may be gone, and then the work has ended.
                let _ = sender.send(());
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_comes_in_order_and_one_at_a_time() {
        let order = Order::default();
        assert_eq!(order.leave(1, 'b'), None, "the first is not ready");
        assert_eq!(order.leave(0, 'a'), Some('a'));
        assert_eq!(order.leave(2, 'c'), None, "the first is worked on");
        assert_eq!(order.done(), Some('b'));
        assert_eq!(order.done(), Some('c'));
        assert_eq!(order.done(), None, "the fourth is not ready");
        assert_eq!(order.leave(3, 'd'), Some('d'));
    }

    #[test]
    fn who_waits_is_woken_when_it_is_his_turn() {
        let order = Order::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            order.turn_of(0).await;
            assert!(order.is_turn_of(0) && !order.is_turn_of(1));
            let mut second = std::pin::pin!(order.turn_of(1));
            let early = std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx)));
            assert!(early.await.is_pending(), "the first is worked on");
            assert_eq!(order.leave(2, 'c'), None);
            assert_eq!(order.done(), None, "somebody else works on the second");
            second.await;
            assert_eq!(order.done(), Some('c'));
        });
    }
}
