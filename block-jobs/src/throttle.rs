//! Rate limit for work: the work is polled only when the rate permits it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Runs `work`, which counts the bytes it has moved in `moved`, at no more than `rate` bytes per second on average.
/// `None` and 0 mean no limit. `work` must return pending from time to time.
pub(super) async fn at_rate<T>(
    rate: Option<u64>,
    moved: &AtomicU64,
    work: impl Future<Output = T>,
) -> T {
    let Some(rate) = rate.filter(|rate| *rate > 0) else { return work.await };
    let started = Instant::now();
    let mut work = pin!(work);
    let mut pause = pin!(sleep_until(started));
    poll_fn(|cx| {
        loop {
            ready!(pause.as_mut().poll(cx));
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let seconds = moved.load(Ordering::Relaxed) as f64 / rate as f64;
            let due = started + Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER);
            if due <= Instant::now() {
                return Poll::Pending;
            }
            pause.as_mut().reset(due);
        }
    })
    .await
}

/// Pause for a rate near zero: one year.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_takes_as_long_as_its_bytes() {
        let moved = AtomicU64::new(0);
        let work = async {
            for _ in 0..5 {
                moved.fetch_add(1000, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            7
        };
        let begun = Instant::now();
        assert_eq!(at_rate(Some(50_000), &moved, work).await, 7);
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        let begun = Instant::now();
        at_rate(None, &moved, async { moved.fetch_add(1 << 40, Ordering::Relaxed) }).await;
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
