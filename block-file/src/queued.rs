//! Decides which requests go through an engine and which are plain calls.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use block_core::range_lock::RangeGuard;
use block_core::{Bytes, Error, ErrorKind, Result};
use rustix::io::Errno;

use crate::direct::Direct;
use crate::storage::FileStorage;

#[cfg(feature = "io_uring")]
pub(crate) use with_engine::{Queue, Reading};
#[cfg(not(feature = "io_uring"))]
pub(crate) use without_engine::{Queue, Reading};

/// Returns the error of a file that must have an engine and cannot get one.
fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the engine io_uring cannot be had: {why}"))
        .with_hint("engine=auto does without")
}

#[cfg(feature = "io_uring")]
mod with_engine {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::aligned::{BufferPool, CAPACITY};
    use crate::sys::Transfer;
    use crate::uring::{UnderWay, UringQueue};

    /// Largest buffered read in bytes that is queued. The kernel reads ahead for larger ones, and copying them out of
    /// the engine's memory costs more than the queue saves.
    const CACHED_LIMIT: usize = 128 << 10;

    /// Requests that must wait before a file gets an engine. A caller that reads only the head and the end of a file
    /// makes no more. A caller that goes on reads its next windows concurrently.
    const PATIENCE: u32 = 2;

    /// A file's engine, created once it pays.
    #[derive(Debug)]
    pub(crate) struct Queue {
        fd: Arc<OwnedFd>,
        engine: OnceLock<Option<Arc<UringQueue>>>,
        /// How many more requests are plain calls before the engine is created.
        patience: AtomicU32,
        buffers: Arc<BufferPool>,
    }

    impl Queue {
        /// Creates the queue for the engine of this name: `auto`, `sync` or `io_uring`.
        pub(crate) fn new(fd: &Arc<OwnedFd>, engine: Option<&str>) -> Result<Self> {
            let buffers = Arc::default();
            let (made, patience) = match engine {
                Some("sync") => (OnceLock::from(None), 0),
                Some("io_uring") => {
                    let engine = UringQueue::new(Arc::clone(fd), &buffers).map_err(refused)?;
                    (OnceLock::from(Some(engine)), 0)
                }
                _ => (OnceLock::new(), PATIENCE),
            };
            Ok(Self {
                fd: Arc::clone(fd),
                engine: made,
                patience: AtomicU32::new(patience),
                buffers,
            })
        }

        #[inline]
        fn engine(&self) -> Option<&Arc<UringQueue>> {
            let less = |patience: u32| patience.checked_sub(1);
            if self.patience.load(Ordering::Relaxed) > 0
                && self.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
            {
                return None;
            }
            let make = || match UringQueue::new(Arc::clone(&self.fd), &self.buffers) {
                Ok(engine) => Some(engine),
                Err(error) => {
                    tracing::debug!("no io_uring, plain calls do: {error}");
                    None
                }
            };
            self.engine.get_or_init(make).as_ref()
        }
    }

    /// The whole units that hold a range of bytes.
    struct Units {
        /// Offset of the first unit in the file, in bytes.
        start: u64,
        /// Length of all units in bytes.
        span: usize,
    }

    /// A read of whole units that returns the bytes of its range which could be read. Kept small: every read that waits
    /// for a disk is one, and each cache line that its completion touches again is a miss.
    pub(crate) struct Reading<'s> {
        pub(crate) storage: &'s FileStorage,
        pub(crate) offset: u64,
        pub(crate) len: usize,
        /// `Some` once the read is queued.
        under_way: Option<UnderWay<'s>>,
    }

    impl Future for Reading<'_> {
        type Output = Option<Bytes>;

        #[inline(always)]
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let this = &mut *self;
            let Some(under_way) = &mut this.under_way else {
                this.under_way = this.begin(cx.waker());
                return match this.under_way {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(None),
                };
            };
            let Poll::Ready(finished) = under_way.poll(cx.waker()) else { return Poll::Pending };
            let skip = this.storage.skip_of(this.offset);
            // Drop the error: the plain call that follows meets it again and reports it.
            let read = finished.result.unwrap_or(0);
            let mut bytes = finished.bytes;
            bytes.truncate(read.min(skip.saturating_add(this.len)));
            Poll::Ready(Some(if skip == 0 { bytes } else { bytes.slice(skip.min(bytes.len())..) }))
        }
    }

    impl<'s> Reading<'s> {
        /// Queues the read.
        #[inline(always)]
        fn begin(&self, waker: &Waker) -> Option<UnderWay<'s>> {
            let engine = self.storage.queue().engine.get()?.as_ref()?;
            let Units { start, span } = self.storage.units_of(self.offset, self.len)?;
            engine.begin(Transfer::Read(span), start, None, waker).ok()
        }
    }

    impl FileStorage {
        /// Reads through the engine. Returns the bytes read: 0 where the engine is not used.
        pub(crate) async fn read_queued(&self, offset: u64, buf: &mut [u8]) -> usize {
            let Some(reading) = self.begin(offset, buf.len()) else { return 0 };
            let Some(bytes) = reading.await else { return 0 };
            match buf.get_mut(..bytes.len()) {
                Some(to) => to.copy_from_slice(&bytes),
                None => return 0,
            }
            bytes.len()
        }

        /// Starts a direct read through the engine, into memory that the caller then owns. Returns `None` where the
        /// engine is not used. The read may return fewer bytes than `len`.
        #[inline]
        pub(crate) fn reading(&self, offset: u64, len: usize) -> Option<Reading<'_>> {
            self.direct()?;
            self.begin(offset, len)
        }

        /// Returns the units that hold a range, if the engine reads that many bytes.
        #[inline]
        fn units_of(&self, offset: u64, len: usize) -> Option<Units> {
            let (unit, limit) = match self.direct() {
                Some(direct) => (direct.unit(), CAPACITY),
                None => (1, CACHED_LIMIT),
            };
            let skip = self.skip_of(offset);
            let rest = usize::try_from(unit).ok()?.checked_sub(1)?;
            let span = skip.checked_add(len)?.checked_add(rest)? & !rest;
            (span <= limit).then_some(Units { start: offset - skip as u64, span })
        }

        /// Returns how many bytes `offset` lies past the start of its unit.
        #[inline]
        fn skip_of(&self, offset: u64) -> usize {
            self.direct().map_or(0, |direct| direct.within(offset))
        }

        /// Returns a read that is queued at its first poll.
        #[inline]
        fn begin(&self, offset: u64, len: usize) -> Option<Reading<'_>> {
            self.units_of(offset, len)?;
            self.queue().engine()?;
            Some(Reading { storage: self, offset, len, under_way: None })
        }

        /// Writes whole units through the engine. Returns the bytes written, 0 where the engine is not used, and the
        /// guard that the request held while it was queued. Copies `buf`, unless `given` holds the same bytes in memory
        /// that the kernel accepts.
        pub(crate) async fn write_queued(
            &self,
            direct: &Direct,
            offset: u64,
            buf: &[u8],
            given: Option<&Bytes>,
            guard: RangeGuard,
        ) -> (Result<usize, Errno>, Option<RangeGuard>) {
            let len = buf.len();
            let whole = direct.within(offset) == 0 && direct.within(len as u64) == 0;
            let Some(engine) =
                Some(()).filter(|()| whole && len <= CAPACITY).and_then(|()| self.queue().engine())
            else {
                return (Ok(0), Some(guard));
            };
            let transfer = match given.filter(|given| direct.accepts(given)) {
                Some(given) => Transfer::WriteGiven(given),
                None => Transfer::Write(buf),
            };
            match engine.transfer(transfer, offset, Some(guard)).await {
                Ok(finished) => {
                    let result = match finished.result {
                        // Nothing was written. A plain call may succeed.
                        Err(
                            Errno::AGAIN
                            | Errno::INTR
                            | Errno::INVAL
                            | Errno::OPNOTSUPP
                            | Errno::CANCELED,
                        ) => Ok(0),
                        result => result,
                    };
                    (result, finished.guard)
                }
                Err(guard) => (Ok(0), guard),
            }
        }
    }
}

#[cfg(not(feature = "io_uring"))]
mod without_engine {
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// A read that never starts.
    pub(crate) struct Reading<'s> {
        pub(crate) storage: &'s FileStorage,
        pub(crate) offset: u64,
        pub(crate) len: usize,
        never: Infallible,
    }

    impl Future for Reading<'_> {
        type Output = Option<Bytes>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            match self.never {}
        }
    }

    /// No queue: every request is a plain call.
    #[derive(Debug)]
    pub(crate) struct Queue;

    impl Queue {
        /// Creates the queue for the engine of this name: `auto`, `sync` or `io_uring`.
        pub(crate) fn new(_: &Arc<OwnedFd>, engine: Option<&str>) -> Result<Self> {
            match engine {
                Some("io_uring") => Err(refused("it is not built in")),
                _ => Ok(Self),
            }
        }
    }

    impl FileStorage {
        pub(crate) async fn read_queued(&self, _: u64, _: &mut [u8]) -> usize {
            0
        }

        pub(crate) fn reading(&self, _: u64, _: usize) -> Option<Reading<'_>> {
            None
        }

        pub(crate) async fn write_queued(
            &self,
            _: &Direct,
            _: u64,
            _: &[u8],
            _: Option<&Bytes>,
            guard: RangeGuard,
        ) -> (Result<usize, Errno>, Option<RangeGuard>) {
            (Ok(0), Some(guard))
        }
    }
}
