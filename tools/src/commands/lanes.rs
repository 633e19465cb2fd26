//! Many futures in flight in one task.
//!
//! A **lane** runs one future after another. A task per lane would behave the same. But a disk completes many requests
//! together, and a task's own memory is accessed when it is woken, queued and polled. Here a wake-up is one bit.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Lanes per word of wake-up bits.
const WORD: usize = u64::BITS as usize;

/// Runs the futures that `next` returns, one after another in each of `count` lanes, until it returns none. `next`
/// receives the lane's state, which begins as `state`, and the output of the lane's last future, at first `None`.
///
/// # Errors
/// Returns the first error of `next`, and drops all futures in flight.
pub(super) async fn run<S, F, E>(
    count: usize,
    state: S,
    mut next: impl FnMut(&mut S, Option<F::Output>) -> Result<Option<F>, E>,
) -> Result<(), E>
where
    S: Copy,
    F: Future + Unpin,
{
    let woken = Arc::new(Woken::new(count));
    let mut lanes = Vec::new();
    while lanes.len() < count {
        let mut state = state;
        let Some(future) = next(&mut state, None)? else { break };
        let lane = Arc::new(Lane { woken: Arc::clone(&woken), number: lanes.len() });
        lane.wake_by_ref();
        lanes.push((state, Some(future), Waker::from(lane)));
    }
    let mut left = lanes.len();
    std::future::poll_fn(|cx| {
        // This comes first, so that every later wake-up of a lane wakes this task again.
        woken.is_polled_by(cx.waker());
        for (lanes, bits) in lanes.chunks_mut(WORD).zip(&woken.bits) {
            let mut bits = bits.swap(0, Ordering::AcqRel);
            // Without a set bit, the index is past the end.
            while let Some(lane) = lanes.get_mut(bits.trailing_zeros() as usize) {
                let (state, future, waker) = lane;
                bits &= bits - 1;
                while let Some(running) = future {
                    let polled = Pin::new(running).poll(&mut Context::from_waker(waker));
                    let Poll::Ready(output) = polled else { break };
                    *future = match next(state, Some(output)) {
                        Ok(next) => next,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    left -= usize::from(future.is_none());
                }
            }
        }
        if left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// The lanes that are to be polled.
struct Woken {
    /// One bit per lane, [`WORD`] of them in a word.
    bits: Vec<AtomicU64>,
    /// Waker of the task that polls the lanes.
    task: Mutex<Option<Waker>>,
}

impl Woken {
    /// Creates the bits of `lanes` lanes, all clear.
    fn new(lanes: usize) -> Self {
        let bits = std::iter::repeat_with(AtomicU64::default).take(lanes.div_ceil(WORD));
        Self { bits: bits.collect(), task: Mutex::default() }
    }

    fn is_polled_by(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(task),
            None => *known = Some(task.clone()),
        }
    }
}

/// The waker of one lane.
struct Lane {
    woken: Arc<Woken>,
    number: usize,
}

impl Wake for Lane {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(bits) = self.woken.bits.get(self.number / WORD) else { return };
        // The lane that sets the first bit of a word wakes the task. The task then sees all bits set until it reads the
        // word.
        if bits.fetch_or(1 << (self.number % WORD), Ordering::AcqRel) == 0 {
            let task = self.woken.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use block_core::BoxFuture;
    use tokio::sync::oneshot;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let limited = async { tokio::time::timeout(Duration::from_secs(60), work).await };
        runtime.expect("a runtime").block_on(limited).expect("nobody sleeps for ever")
    }

    /// Asks `again` times to be polled again, then is ready.
    struct After<'p> {
        again: usize,
        number: usize,
        /// Number of polls of all futures.
        polls: &'p Cell<usize>,
    }

    impl Future for After<'_> {
        type Output = usize;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
            self.polls.set(self.polls.get() + 1);
            let Some(again) = self.again.checked_sub(1) else { return Poll::Ready(self.number) };
            self.again = again;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn each_runs_once_and_its_own_lane_is_told_what_it_came_to() {
        for (lanes, count) in [(1, 0), (1, 5), (3, 2), (64, 64), (65, 1000), (200, 1000)] {
            let mut begun = 0;
            let mut ended = vec![0; count];
            let polls = Cell::new(0);
            let ran = run(lanes, None, |running, output: Option<usize>| {
                assert_eq!(*running, output, "what ran there");
                output.into_iter().for_each(|number| ended[number] += 1);
                *running = (begun < count).then_some(begun);
                begun += 1;
                let future = |number| After { again: number % 7, number, polls: &polls };
                Ok::<_, ()>(running.map(future))
            });
            assert_eq!(block_on(ran), Ok(()));
            assert!(ended.iter().all(|times| *times == 1), "{lanes} lanes: {ended:?}");
            let wanted: usize = (0..count).map(|number| number % 7 + 1).sum();
            assert_eq!(polls.get(), wanted, "{lanes} lanes: nobody is polled who was not woken");
        }
    }

    #[test]
    fn who_is_woken_by_another_thread_is_polled() {
        let (to, from) = std::sync::mpsc::channel::<oneshot::Sender<usize>>();
        let waker = std::thread::spawn(move || {
            let mut held = Vec::new();
            for (number, sender) in from.into_iter().enumerate() {
                held.push((number, sender));
                // Sends several together, in reverse order.
                if held.len() == 5 {
                    for (number, sender) in held.drain(..).rev() {
                        sender.send(number).expect("a lane waits for it");
                    }
                }
            }
        });
        let mut left = 20_000;
        let mut sum = 0;
        let ran = run(100, (), |(), output: Option<Result<usize, _>>| {
            sum += output.map_or(0, |output: Result<usize, oneshot::error::RecvError>| {
                output.expect("it is sent")
            });
            if left == 0 {
                return Ok::<_, ()>(None);
            }
            left -= 1;
            let (sender, receiver) = oneshot::channel();
            to.send(sender).expect("the other thread listens");
            Ok(Some(receiver))
        });
        assert_eq!(block_on(ran), Ok(()));
        assert_eq!(sum, 20_000 * 19_999 / 2);
        drop(to);
        waker.join().expect("the other thread ends");
    }

    #[test]
    fn an_error_drops_what_is_under_way() {
        let all = Arc::new(());
        let mut begun = 0;
        let ran = run(10, (), |(), output: Option<usize>| {
            if output == Some(3) {
                return Err("the third");
            }
            begun += 1;
            let (number, held) = (begun, Arc::clone(&all));
            let future: BoxFuture<'static, usize> = Box::pin(async move {
                if number != 3 {
                    std::future::pending::<()>().await;
                }
                drop(held);
                number
            });
            Ok(Some(future))
        });
        assert_eq!(block_on(ran), Err("the third"));
        assert_eq!(Arc::strong_count(&all), 1);
    }
}
