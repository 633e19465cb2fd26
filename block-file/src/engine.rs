//! Many reads and writes under way at once, driven by the runtime that asks for them.
//!
//! A request queues its entry and sleeps. A task of the same runtime, the driver, tells the kernel of all
//! that was queued since it last ran, in one call, sleeps until the ring is readable, and wakes whose
//! requests are done. No other thread is involved.
//!
//! A request whose future is dropped is waited for, there and then: nothing lands later.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use block_core::range_lock::RangeGuard;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use crate::aligned::BufferPool;
use crate::sys::{Finished, Op, Ring, Token};

/// A ring, and the drivers it has: one for each runtime that uses it.
#[derive(Debug)]
pub(crate) struct Engine {
    ring: Ring,
    drivers: Mutex<Vec<Driver>>,
}

#[derive(Debug)]
struct Driver {
    runtime: Id,
    /// Wakes the driver; `None` before it has run, and it will.
    waker: Option<Waker>,
    /// It has been woken and has not run since.
    woken: bool,
}

/// Runtimes that cannot drive a ring.
static WITHOUT_REACTOR: Mutex<Vec<Id>> = Mutex::new(Vec::new());

/// What goes on with a transfer that could not be queued.
pub(crate) type NotQueued = (Op, Option<RangeGuard>);

impl Engine {
    /// An engine for `file` whose requests use `buffers`, unless the kernel refuses.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self { ring: Ring::new(file, buffers)?, drivers: Mutex::default() }))
    }

    fn drivers(&self) -> MutexGuard<'_, Vec<Driver>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transfers `len` bytes between the memory of `op` and the file at `offset`, from when it is first polled.
    /// `guard` is kept until the bytes have landed. Gives both back at once when no more can be queued, or
    /// nobody could drive it.
    pub(crate) fn transfer(
        self: &Arc<Self>,
        op: Op,
        offset: u64,
        len: usize,
        guard: Option<RangeGuard>,
    ) -> Transfer<'_> {
        Transfer { engine: self, stage: Stage::New { op, offset, len, guard } }
    }

    /// Queues a request that `waker` waits for.
    fn queue(self: &Arc<Self>, request: Stage, waker: Waker) -> Result<Stage, NotQueued> {
        let Stage::New { op, offset, len, guard } = request else { return Ok(request) };
        let Ok(runtime) = Handle::try_current() else { return Err((op, guard)) };
        if !self.have_driver(&runtime) {
            return Err((op, guard));
        }
        let token = self.ring.push(op, offset, len, guard, waker)?;
        self.wake_driver(runtime.id());
        Ok(Stage::Queued(token))
    }

    /// Makes sure that this runtime drives the ring.
    fn have_driver(self: &Arc<Self>, runtime: &Handle) -> bool {
        let id = runtime.id();
        let mut drivers = self.drivers();
        if drivers.iter().any(|driver| driver.runtime == id) {
            return true;
        }
        let mut without_reactor = WITHOUT_REACTOR.lock().unwrap_or_else(PoisonError::into_inner);
        if without_reactor.contains(&id) {
            return false;
        }
        let Ok(readiness) = self.ring.readiness() else {
            return false;
        };
        // A runtime without a reactor says so by a panic, and nothing else tells.
        #[allow(deprecated, reason = "sound for an `OwnedFd`; what replaces it is unsafe to call")]
        let watch = || AsyncFd::with_interest(readiness, Interest::READABLE);
        let Ok(Ok(readiness)) = catch_unwind(AssertUnwindSafe(watch)) else {
            without_reactor.push(id);
            return false;
        };
        drivers.push(Driver { runtime: id, waker: None, woken: true });
        drop(drivers);
        let registration = Registration { engine: Arc::downgrade(self), runtime: id };
        runtime.spawn(drive(readiness, registration));
        true
    }

    /// Lets the driver of this runtime submit what is queued.
    fn wake_driver(&self, runtime: Id) {
        let mut drivers = self.drivers();
        let driver = drivers.iter_mut().find(|driver| driver.runtime == runtime);
        if let Some(driver) = driver.filter(|driver| !driver.woken) {
            driver.woken = true;
            if let Some(waker) = &driver.waker {
                waker.wake_by_ref();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let drivers = self.drivers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for waker in drivers.iter_mut().filter_map(|driver| driver.waker.take()) {
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
            engine.drivers().retain(|driver| driver.runtime != self.runtime);
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
        if let Some(driver) = engine.drivers().iter_mut().find(|driver| driver.runtime == me) {
            driver.waker = Some(cx.waker().clone());
            driver.woken = false;
        }
        engine.ring.submit();
        // Cleared before reaping: what completes behind our back makes it ready again.
        while let Poll::Ready(ready) = readiness.poll_read_ready(cx) {
            match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return Poll::Ready(()),
            }
            engine.ring.reap();
        }
        engine.ring.reap();
        Poll::Pending
    })
    .await;
}

/// A transfer. One future that holds nothing else: it is what all that wait for a disk are made of, and
/// each line of memory that has to be looked at again when the disk is done is a cache miss.
pub(crate) struct Transfer<'e> {
    engine: &'e Arc<Engine>,
    stage: Stage,
}

enum Stage {
    New { op: Op, offset: u64, len: usize, guard: Option<RangeGuard> },
    Queued(Token),
    Ended,
}

impl Future for Transfer<'_> {
    type Output = Result<Finished, NotQueued>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Stage::Queued(token) = this.stage else {
            let request = std::mem::replace(&mut this.stage, Stage::Ended);
            return match this.engine.queue(request, cx.waker().clone()) {
                Ok(queued) => {
                    this.stage = queued;
                    Poll::Pending
                }
                Err(back) => Poll::Ready(Err(back)),
            };
        };
        let finished = match this.engine.ring.poll(token, cx.waker()) {
            Poll::Ready(finished) => finished,
            // This may be another runtime than before.
            Poll::Pending => match Handle::try_current() {
                Ok(runtime) if this.engine.have_driver(&runtime) => {
                    this.engine.wake_driver(runtime.id());
                    return Poll::Pending;
                }
                _ => this.engine.ring.finish(token),
            },
        };
        this.stage = Stage::Ended;
        Poll::Ready(Ok(finished))
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if let Stage::Queued(token) = self.stage {
            drop(self.engine.ring.finish(token));
        }
    }
}
