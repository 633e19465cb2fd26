//! Many reads and writes in flight at once, driven by the runtime that issues them.
//!
//! A request queues an entry and sleeps. One task of the same runtime, the **driver task**, submits all queued entries
//! in one system call. It sleeps until the ring is readable, then wakes the requests that completed. No other thread is
//! involved.
//!
//! Dropping a request's future blocks the thread until the request has completed, so no write lands later.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use block_core::range_lock::RangeGuard;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use crate::aligned::BufferPool;
use crate::sys::{Finished, Ring, Token, Transfer};

/// A ring and its driver tasks: one for each runtime that uses the ring.
#[derive(Debug)]
pub(crate) struct UringQueue(Mutex<State>);

#[derive(Debug)]
struct State {
    ring: Ring,
    drivers: Vec<Driver>,
}

#[derive(Debug)]
struct Driver {
    runtime: Id,
    /// Wakes the driver task; `None` while the task is already scheduled to run.
    waker: Option<Waker>,
}

/// Runtimes without an I/O driver, which cannot drive a ring.
static WITHOUT_REACTOR: Mutex<Vec<Id>> = Mutex::new(Vec::new());

impl UringQueue {
    /// Creates an engine for `file`. Requests use `buffers`. Fails if the kernel refuses a ring.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> std::io::Result<Arc<Self>> {
        let state = State { ring: Ring::new(file, buffers)?, drivers: Vec::new() };
        Ok(Arc::new(Self(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transfers at `offset` of the file, starting at the first poll. The engine keeps `guard` until the bytes have
    /// landed. Returns it without waiting when the queue is full or no runtime can drive the ring.
    pub(crate) async fn transfer(
        self: &Arc<Self>,
        transfer: Transfer<'_>,
        offset: u64,
        guard: Option<RangeGuard>,
    ) -> Result<Finished, Option<RangeGuard>> {
        let mut guard = Some(guard);
        let mut under_way = None;
        std::future::poll_fn(|cx| match (&mut under_way, guard.take()) {
            (None, Some(guard)) => match self.begin(transfer, offset, guard, cx.waker()) {
                Ok(begun) => {
                    under_way = Some(begun);
                    Poll::Pending
                }
                Err(guard) => Poll::Ready(Err(guard)),
            },
            (Some(under_way), _) => under_way.poll(cx.waker()).map(Ok),
            (None, None) => Poll::Pending,
        })
        .await
    }

    /// Queues a request and wakes `waker` when it completes.
    #[inline]
    pub(crate) fn begin(
        self: &Arc<Self>,
        transfer: Transfer<'_>,
        offset: u64,
        guard: Option<RangeGuard>,
        waker: &Waker,
    ) -> Result<UnderWay<'_>, Option<RangeGuard>> {
        let Some((mut state, driver)) = self.lock_with_driver() else { return Err(guard) };
        let token = state.ring.push(transfer, offset, guard, waker)?;
        let freed = state.ring.has_batch().then(|| state.ring.submit());
        let driver = state.wake_driver(driver);
        drop(state);
        if let Some(freed) = freed {
            freed.release();
        }
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(UnderWay { engine: self, token: Some(token) })
    }

    /// Returns the locked state and the index of the current runtime's driver. Returns `None` outside a runtime and in
    /// a runtime that cannot drive a ring.
    #[inline]
    fn lock_with_driver(self: &Arc<Self>) -> Option<(MutexGuard<'_, State>, usize)> {
        let runtime = Handle::try_current().ok()?;
        let state = self.lock();
        match state.driver_of(runtime.id()) {
            Some(place) => Some((state, place)),
            None => self.lock_with_new_driver(state, &runtime),
        }
    }

    #[cold]
    fn lock_with_new_driver<'s>(
        self: &'s Arc<Self>,
        mut state: MutexGuard<'s, State>,
        runtime: &Handle,
    ) -> Option<(MutexGuard<'s, State>, usize)> {
        let id = runtime.id();
        let readiness = state.add_driver(id)?;
        // Unlock: a runtime that is shutting down drops the task inside `spawn`, and that drop takes the lock.
        drop(state);
        let registration = Registration { engine: Arc::downgrade(self), runtime: id };
        runtime.spawn(drive(readiness, registration));
        let state = self.lock();
        let place = state.driver_of(id)?;
        Some((state, place))
    }

    /// Returns the result of a completed request. Otherwise `waker` will be woken.
    #[inline(always)]
    fn poll(self: &Arc<Self>, token: Token, waker: &Waker) -> Poll<Finished> {
        let mut state = self.lock();
        if let Some(finished) = state.ring.take(token) {
            return Poll::Ready(finished);
        }
        let replaced = state.ring.wake_later(token, waker);
        drop(state);
        drop(replaced);
        // The runtime may be another one than at the last poll.
        let Some((mut state, driver)) = self.lock_with_driver() else {
            return Poll::Ready(self.finish(token));
        };
        let driver = state.wake_driver(driver);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Pending
    }

    /// Waits for a request, blocking this thread.
    fn finish(&self, token: Token) -> Finished {
        loop {
            let mut state = self.lock();
            let reaped = state.ring.reap();
            let finished = state.ring.take(token);
            let failed = finished.is_none().then(|| state.ring.wait());
            drop(state);
            reaped.release();
            if let Some(failed) = failed {
                failed.release();
            }
            if let Some(finished) = finished {
                return finished;
            }
        }
    }
}

impl State {
    /// Returns the index of this runtime's driver.
    #[inline]
    fn driver_of(&self, runtime: Id) -> Option<usize> {
        self.drivers.iter().position(|driver| driver.runtime == runtime)
    }

    /// Registers a driver for this runtime and returns the descriptor that it waits on. Returns `None` if the runtime
    /// has no I/O driver.
    fn add_driver(&mut self, runtime: Id) -> Option<AsyncFd<OwnedFd>> {
        let mut without_reactor = WITHOUT_REACTOR.lock().unwrap_or_else(PoisonError::into_inner);
        if without_reactor.contains(&runtime) {
            return None;
        }
        let readiness = self.ring.readiness().ok()?;
        // A runtime without an I/O driver panics here, and offers no other way to find out.
        #[allow(deprecated, reason = "sound for an `OwnedFd`; what replaces it is unsafe to call")]
        let watch = || AsyncFd::with_interest(readiness, Interest::READABLE);
        let Ok(Ok(readiness)) = catch_unwind(AssertUnwindSafe(watch)) else {
            without_reactor.push(runtime);
            return None;
        };
        self.drivers.push(Driver { runtime, waker: None });
        Some(readiness)
    }

    /// Takes the waker of this driver, which then submits the queue. Returns `None` if the driver will run anyway.
    #[inline]
    fn wake_driver(&mut self, place: usize) -> Option<Waker> {
        self.drivers.get_mut(place)?.waker.take()
    }
}

impl Drop for UringQueue {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for waker in state.drivers.iter_mut().filter_map(|driver| driver.waker.take()) {
            waker.wake();
        }
    }
}

/// A driver task's entry in the list. Dropping it, as when the runtime ends, removes the entry.
struct Registration {
    engine: Weak<UringQueue>,
    runtime: Id,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.lock().drivers.retain(|driver| driver.runtime != self.runtime);
        }
    }
}

/// Submits and reaps while the engine lives.
async fn drive(readiness: AsyncFd<OwnedFd>, registration: Registration) {
    std::future::poll_fn(|cx| {
        let Some(engine) = registration.engine.upgrade() else {
            return Poll::Ready(());
        };
        let me = registration.runtime;
        let mut state = engine.lock();
        let driver = state.drivers.iter_mut().find(|driver| driver.runtime == me);
        let replaced = driver.and_then(|driver| driver.waker.replace(cx.waker().clone()));
        let failed = state.ring.submit();
        drop(state);
        drop(replaced);
        failed.release();
        let reap = || {
            let reaped = engine.lock().ring.reap();
            reaped.release();
        };
        // Clear before reaping: a completion after that makes the descriptor ready again.
        while let Poll::Ready(ready) = readiness.poll_read_ready(cx) {
            match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return Poll::Ready(()),
            }
            reap();
        }
        reap();
        if engine.lock().ring.is_stuck() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// A request in flight. Dropping it waits for its completion, so no write lands later.
pub(crate) struct UnderWay<'e> {
    engine: &'e Arc<UringQueue>,
    /// `Some` until the result has been returned.
    token: Option<Token>,
}

impl UnderWay<'_> {
    /// Returns the result, once. Until then `waker` will be woken at completion.
    #[inline(always)]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Finished> {
        let Some(token) = self.token.take() else { return Poll::Pending };
        let polled = self.engine.poll(token, waker);
        if polled.is_pending() {
            self.token = Some(token);
        }
        polled
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            drop(self.engine.finish(token));
        }
    }
}
