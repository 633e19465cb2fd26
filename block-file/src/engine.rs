//! Many reads and writes under way at once, driven by the runtime that asks for them.
//!
//! A request queues its entry and sleeps. A task of the same runtime, the driver, tells the kernel of all
//! that was queued since it last ran, in one call, sleeps until the ring is readable, and wakes whose
//! requests are done. No other thread is involved.
//!
//! A request whose future is dropped is waited for, there and then: nothing lands later.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use block_core::range_lock::RangeGuard;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use crate::aligned::BufferPool;
use crate::sys::{Finished, Freed, Op, Ring, Token};

/// A ring, and the drivers it has: one for each runtime that uses it.
#[derive(Debug)]
pub(crate) struct Engine(Mutex<State>);

#[derive(Debug)]
struct State {
    ring: Ring,
    drivers: Vec<Driver>,
}

#[derive(Debug)]
struct Driver {
    runtime: Id,
    /// Wakes the driver; `None` while it is going to run anyway.
    waker: Option<Waker>,
}

/// Runtimes that cannot drive a ring.
static WITHOUT_REACTOR: Mutex<Vec<Id>> = Mutex::new(Vec::new());

/// What goes on with a transfer that could not be queued.
pub(crate) type NotQueued = (Op, Option<RangeGuard>);

impl Engine {
    /// An engine for `file` whose requests use `buffers`, unless the kernel refuses.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> std::io::Result<Arc<Self>> {
        let state = State { ring: Ring::new(file, buffers)?, drivers: Vec::new() };
        Ok(Arc::new(Self(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transfers `len` bytes between the memory of `op` and the file at `offset`, from when it is first polled.
    /// `guard` is kept until the bytes have landed. Gives both back at once when no more can be queued, or
    /// nobody could drive it.
    pub(crate) async fn transfer(
        self: &Arc<Self>,
        op: Op,
        offset: u64,
        len: usize,
        guard: Option<RangeGuard>,
    ) -> Result<Finished, NotQueued> {
        let mut request = Some((op, guard));
        let mut under_way = None;
        std::future::poll_fn(|cx| match (&mut under_way, request.take()) {
            (None, Some((op, guard))) => match self.begin(op, offset, len, guard, cx.waker()) {
                Ok(begun) => {
                    under_way = Some(begun);
                    Poll::Pending
                }
                Err(back) => Poll::Ready(Err(back)),
            },
            (Some(under_way), _) => under_way.poll(cx.waker()).map(Ok),
            (None, None) => Poll::Pending,
        })
        .await
    }

    /// Queues a request that `waker` waits for.
    pub(crate) fn begin(
        self: &Arc<Self>,
        op: Op,
        offset: u64,
        len: usize,
        guard: Option<RangeGuard>,
        waker: &Waker,
    ) -> Result<UnderWay<'_>, NotQueued> {
        let Some((mut state, runtime)) = self.lock_with_driver() else { return Err((op, guard)) };
        let token = state.ring.push(op, offset, len, guard, waker)?;
        let freed = if state.ring.has_batch() { state.ring.submit() } else { Freed::default() };
        let driver = state.sleeping_driver(runtime);
        drop(state);
        freed.release();
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(UnderWay { engine: self, token: Some(token) })
    }

    /// The state, with a driver of the current runtime; `None` where there is no such runtime, or it cannot
    /// drive a ring.
    fn lock_with_driver(self: &Arc<Self>) -> Option<(MutexGuard<'_, State>, Id)> {
        let runtime = Handle::try_current().ok()?;
        let id = runtime.id();
        let mut state = self.lock();
        if !state.has_driver(id) {
            let readiness = state.add_driver(id)?;
            // A runtime that is shutting down drops what it is given, and that asks for the lock.
            drop(state);
            let registration = Registration { engine: Arc::downgrade(self), runtime: id };
            runtime.spawn(drive(readiness, registration));
            state = self.lock();
        }
        Some((state, id))
    }

    /// What a request came to, once it is done; until then `waker` is woken.
    #[inline(always)]
    fn poll(self: &Arc<Self>, token: Token, waker: &Waker) -> Poll<Finished> {
        let mut state = self.lock();
        if let Some(finished) = state.ring.take(token) {
            return Poll::Ready(finished);
        }
        let replaced = state.ring.wake_later(token, waker);
        drop(state);
        drop(replaced);
        // This may be another runtime than before.
        let Some((mut state, runtime)) = self.lock_with_driver() else {
            return Poll::Ready(self.finish(token));
        };
        let driver = state.sleeping_driver(runtime);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Pending
    }

    /// Waits for a request, in this thread.
    fn finish(&self, token: Token) -> Finished {
        loop {
            let mut state = self.lock();
            let reaped = state.ring.reap();
            let finished = state.ring.take(token);
            let failed = if finished.is_none() { state.ring.wait() } else { Freed::default() };
            drop(state);
            reaped.release();
            failed.release();
            if let Some(finished) = finished {
                return finished;
            }
        }
    }
}

impl State {
    fn has_driver(&self, runtime: Id) -> bool {
        self.drivers.iter().any(|driver| driver.runtime == runtime)
    }

    /// Makes what the driver of this runtime is to wait on, if the runtime has a reactor.
    fn add_driver(&mut self, runtime: Id) -> Option<AsyncFd<OwnedFd>> {
        let mut without_reactor = WITHOUT_REACTOR.lock().unwrap_or_else(PoisonError::into_inner);
        if without_reactor.contains(&runtime) {
            return None;
        }
        let readiness = self.ring.readiness().ok()?;
        // A runtime without a reactor says so by a panic, and nothing else tells.
        #[allow(deprecated, reason = "sound for an `OwnedFd`; what replaces it is unsafe to call")]
        let watch = || AsyncFd::with_interest(readiness, Interest::READABLE);
        let Ok(Ok(readiness)) = catch_unwind(AssertUnwindSafe(watch)) else {
            without_reactor.push(runtime);
            return None;
        };
        self.drivers.push(Driver { runtime, waker: None });
        Some(readiness)
    }

    /// Whom to wake so that what is queued is submitted; nobody, if that is going to happen.
    fn sleeping_driver(&mut self, runtime: Id) -> Option<Waker> {
        self.drivers.iter_mut().find(|driver| driver.runtime == runtime)?.waker.take()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for waker in state.drivers.iter_mut().filter_map(|driver| driver.waker.take()) {
            waker.wake();
        }
    }
}

/// A driver's entry; a driver that ends with its runtime takes itself off the list.
struct Registration {
    engine: Weak<Engine>,
    runtime: Id,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.lock().drivers.retain(|driver| driver.runtime != self.runtime);
        }
    }
}

/// Submits and reaps for as long as the engine lives.
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
        // Cleared before reaping: what completes behind our back makes it ready again.
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

/// A request that is queued. Waited for when it is dropped: nothing lands later.
pub(crate) struct UnderWay<'e> {
    engine: &'e Arc<Engine>,
    /// Until it is done.
    token: Option<Token>,
}

impl UnderWay<'_> {
    /// What it came to, once; until then `waker` is woken when it is done.
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
