//! An executor for futures that wait for no other thread and no device.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `future` to its end. Storages in memory never wait, so a future that is pending without having been woken would
/// wait forever. That is a bug, which panics immediately instead of after a time limit.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        assert!(woken.0.swap(false, Ordering::AcqRel), "an operation waits for nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    #[should_panic(expected = "waits for nothing")]
    fn a_future_that_nobody_wakes_is_a_finding() {
        run(std::future::pending::<()>());
    }
}
