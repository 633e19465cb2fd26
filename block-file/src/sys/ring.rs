//! An io_uring on one file: reads and writes whose memory belongs to them until the kernel is done.
//!
//! What makes this sound: a request's memory is kept in [`Ring::requests`] from before the kernel hears of it
//! until its completion has been taken off the queue. Nobody can change it in between, nothing removes a
//! request earlier, and the ring is not dropped while one is left.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

use block_core::range_lock::RangeGuard;
use block_core::{Bytes, PageBuffer};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::aligned::{AlignedBuffer, BufferPool, SMALLEST};

/// Entries of the submission queue; more requests than that are never under way.
const ENTRIES: u32 = 256;

/// Buffers whose pages the kernel looks up once, and not for each request. They count against the limit on
/// locked memory, which is 64 KiB on some systems: where they are refused, it goes without.
const KNOWN: usize = 64;

/// So many queued requests are submitted without waiting for the driver: the disk begins while the next ones
/// are made. Fewer would have it begin earlier (8 of 64: 5 % less time), at more of the processor (1 %), which
/// comes back from the kernel to cold caches each time;
const BATCH: usize = 32;

/// so a disk that has something to do gets so many times as many.
const GROWTH: usize = 3;

/// What a request does, with its memory.
#[derive(Debug)]
pub(crate) enum Op {
    Read(AlignedBuffer),
    Write(AlignedBuffer),
    /// From somebody's memory, who does not change it.
    WriteGiven(Box<Bytes>),
}

/// What a finished request gives back: how many bytes it moved, itself, and its range.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) result: Result<usize, Errno>,
    pub(crate) op: Op,
    /// Gone when all bytes have landed, whether or not anybody has asked; there is something left to do
    /// under it otherwise.
    pub(crate) guard: Option<RangeGuard>,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(usize);

/// The ring.
pub(crate) struct Ring {
    uring: IoUring,
    /// Each in the place that is its number.
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
    /// Pushed and not yet taken by the kernel, in order.
    pushed: VecDeque<usize>,
    /// Taken by the kernel and not yet completed.
    running: usize,
    /// The kernel takes no more entries, for this reason.
    broken: Option<Errno>,
    file: Arc<OwnedFd>,
    /// Whether the file is registered for reading.
    reads_registered: bool,
    /// What is registered lives longer than the ring.
    _buffers: Arc<BufferPool>,
}

struct Request {
    len: usize,
    op: Op,
    guard: Option<RangeGuard>,
    progress: Progress,
}

enum Progress {
    /// Until its completion is taken, when this one is woken.
    UnderWay(Waker),
    Done(Result<usize, Errno>),
}

/// Whom completions wake, and the ranges that are no longer needed. Both may run code of others.
#[derive(Default)]
#[must_use = "who waits has to be woken"]
pub(crate) struct Freed {
    wakers: Vec<Waker>,
    guards: Vec<RangeGuard>,
}

impl Freed {
    /// Wakes them all. No lock is to be held.
    pub(crate) fn release(self) {
        drop(self.guards);
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Makes some buffers known to the ring and gives them to the pool.
fn register(uring: &IoUring, pool: &BufferPool) -> io::Result<()> {
    let mut buffers = PageBuffer::several(KNOWN, SMALLEST);
    let parts = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
    let parts: Vec<_> = parts.collect();
    // SAFETY: the pool keeps these buffers, and the ring keeps the pool.
    unsafe { uring.submitter().register_buffers(&parts) }?;
    pool.add_known(buffers);
    Ok(())
}

/// Makes a file that is read past the page cache known to the ring, so that the kernel need not look it up
/// for each request; where that is refused, it goes without.
///
/// Not as it is: the kernel lets go of what a ring knows some time after the ring's process has died, and its
/// locks would last as long. So it is opened again, without a lock, and only to be read. Nor does each read look
/// after the time of the last access: the plain calls that come before a ring have done so.
fn register_for_reading(uring: &IoUring, file: &OwnedFd) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)? & OFlags::DIRECT;
    if flags.is_empty() {
        return Err(io::Error::other("it is not read past the page cache"));
    }
    flags |= OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let open = |flags| rustix::fs::open(&path, flags, Mode::empty());
    // Only the owner may leave the time alone.
    let again = open(flags | OFlags::NOATIME).or_else(|_| open(flags))?;
    let (one, other) = (rustix::fs::fstat(file)?, rustix::fs::fstat(&again)?);
    if (one.st_dev, one.st_ino, one.st_rdev) != (other.st_dev, other.st_ino, other.st_rdev) {
        return Err(io::Error::other("/proc leads to another file"));
    }
    uring.submitter().register_files(&[again.as_raw_fd()])
}

impl Op {
    /// What tells the kernel of it, without its number.
    fn entry(&mut self, file: types::Fd, bytes: u32, offset: u64) -> squeue::Entry {
        match self {
            Self::Read(buffer) => match (buffer.as_mut_ptr(), buffer.number()) {
                (start, None) => opcode::Read::new(file, start, bytes).offset(offset).build(),
                (start, Some(number)) => {
                    opcode::ReadFixed::new(file, start, bytes, number).offset(offset).build()
                }
            },
            Self::Write(buffer) => match (buffer.as_ptr(), buffer.number()) {
                (start, None) => opcode::Write::new(file, start, bytes).offset(offset).build(),
                (start, Some(number)) => {
                    opcode::WriteFixed::new(file, start, bytes, number).offset(offset).build()
                }
            },
            Self::WriteGiven(given) => {
                opcode::Write::new(file, given.as_ptr(), bytes).offset(offset).build()
            }
        }
    }

    fn memory_len(&self) -> usize {
        match self {
            Self::Read(buffer) | Self::Write(buffer) => buffer.len(),
            Self::WriteGiven(given) => given.len(),
        }
    }

    /// What can be given back in its place.
    fn another(&self) -> Self {
        match self {
            Self::Read(buffer) => Self::Read(buffer.another()),
            Self::Write(buffer) => Self::Write(buffer.another()),
            Self::WriteGiven(_) => Self::WriteGiven(Box::default()),
        }
    }
}

impl Request {
    /// Notes what it came to, and says whom to wake; nobody, when that was known.
    fn end(&mut self, result: Result<usize, Errno>) -> Option<Waker> {
        match std::mem::replace(&mut self.progress, Progress::Done(result)) {
            Progress::UnderWay(waker) => Some(waker),
            known => {
                self.progress = known;
                None
            }
        }
    }
}

impl Ring {
    /// A ring for `file`, unless the kernel refuses. Requests use `buffers`, and those of no other ring.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> io::Result<Self> {
        let uring = IoUring::new(ENTRIES)?;
        if let Err(error) = register(&uring, buffers) {
            tracing::debug!("no buffer is registered: {error}");
        }
        let registered = register_for_reading(&uring, &file);
        if let Err(error) = &registered {
            tracing::debug!("the file is not registered: {error}");
        }
        let mut requests = Vec::new();
        requests.resize_with(ENTRIES as usize, || None);
        Ok(Self {
            uring,
            free: (0..requests.len()).rev().collect(),
            requests,
            pushed: VecDeque::new(),
            running: 0,
            broken: None,
            file,
            reads_registered: registered.is_ok(),
            _buffers: Arc::clone(buffers),
        })
    }

    /// A descriptor that is readable when a request has completed.
    pub(crate) fn readiness(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring owns this descriptor and is alive for the length of the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    /// Queues `op` for the first `len` bytes of its memory, at `offset` of the file. The kernel hears of it
    /// at the next [`submit`](Self::submit). `waker` is woken when it is done. Gives everything back when too
    /// many are under way.
    pub(crate) fn push(
        &mut self,
        mut op: Op,
        offset: u64,
        len: usize,
        guard: Option<RangeGuard>,
        waker: &Waker,
    ) -> Result<Token, (Op, Option<RangeGuard>)> {
        let len = len.min(op.memory_len());
        let bytes = u32::try_from(len).ok().filter(|_| self.broken.is_none());
        let (Some(bytes), Some(index)) = (bytes, self.free.pop()) else {
            return Err((op, guard));
        };
        let (file, flags) = match op {
            Op::Read(_) if self.reads_registered => (0, squeue::Flags::FIXED_FILE),
            _ => (self.file.as_raw_fd(), squeue::Flags::empty()),
        };
        let entry = op.entry(types::Fd(file), bytes, offset).flags(flags).user_data(index as u64);
        // SAFETY: the entry points at `bytes` bytes of memory that is at least as long and that stays
        // in its slot, untouched, until the completion with this slot's number has been taken (what is
        // given does not move, and nobody changes it); the file is open for as long as the ring is, by
        // `self.file` or because it is registered. A number that is another buffer's is refused by the
        // kernel, which compares the addresses.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        if pushed.is_err() {
            self.free.push(index);
            return Err((op, guard));
        }
        self.pushed.push_back(index);
        if let Some(slot) = self.requests.get_mut(index) {
            *slot = Some(Request { len, op, guard, progress: Progress::UnderWay(waker.clone()) });
        }
        Ok(Token(index))
    }

    /// Whether enough is queued to be worth a [`submit`](Self::submit) of its own.
    pub(crate) fn has_batch(&self) -> bool {
        self.pushed.len() >= self.running.saturating_mul(GROWTH).max(BATCH)
    }

    /// Tells the kernel of everything queued.
    pub(crate) fn submit(&mut self) -> Freed {
        self.enter(0)
    }

    /// Takes completions off the queue.
    pub(crate) fn reap(&mut self) -> Freed {
        let Self { uring, requests, running, .. } = self;
        let completed = uring.completion();
        let mut freed = Freed { wakers: Vec::with_capacity(completed.len()), guards: Vec::new() };
        for completion in completed {
            let Ok(index) = usize::try_from(completion.user_data()) else { continue };
            let Some(Some(request)) = requests.get_mut(index) else { continue };
            let result = usize::try_from(completion.result())
                .map_err(|_| Errno::from_raw_os_error(completion.result().saturating_neg()));
            // Where no completion is awaited, whatever this is, it is not ours to free.
            let Some(waker) = request.end(result) else { continue };
            freed.wakers.push(waker);
            if result == Ok(request.len) {
                freed.guards.extend(request.guard.take());
            }
            *running = running.saturating_sub(1);
        }
        freed
    }

    /// Waits, in this thread, until something completes, unless nothing is under way.
    pub(crate) fn wait(&mut self) -> Freed {
        self.enter(1)
    }

    /// What a request came to, once its completion has been taken. Inlined where it is used up: on its way
    /// through several callers it would be copied in each.
    #[inline(always)]
    pub(crate) fn take(&mut self, token: Token) -> Option<Finished> {
        let place = self.requests.get_mut(token.0)?;
        let finished = place.take_if(|request| matches!(request.progress, Progress::Done(_)))?;
        let Request { op, guard, progress: Progress::Done(result), .. } = finished else {
            return None;
        };
        self.free.push(token.0);
        Some(Finished { result, op, guard })
    }

    /// Has `waker` woken when a request is done that is not, and gives back the one that it replaces: what
    /// a waker does when it is dropped is not known.
    pub(crate) fn wake_later(&mut self, token: Token, waker: &Waker) -> Option<Waker> {
        match self.requests.get_mut(token.0) {
            Some(Some(Request { progress: Progress::UnderWay(known), .. }))
                if !known.will_wake(waker) =>
            {
                Some(std::mem::replace(known, waker.clone()))
            }
            _ => None,
        }
    }

    /// Submits what is queued and waits for so many completions. Returns whom to wake, when the kernel
    /// refuses for good and what is queued has failed.
    fn enter(&mut self, want: usize) -> Freed {
        let want = want.min(self.running + self.pushed.len());
        if self.pushed.is_empty() && want == 0 {
            return Freed::default();
        }
        match self.uring.submit_and_wait(want) {
            Ok(taken) => {
                self.running += self.pushed.drain(..taken.min(self.pushed.len())).count();
                Freed::default()
            }
            Err(error) => match error.raw_os_error() {
                // Interrupted, or the completion queue has to be emptied first.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Freed::default(),
                errno => self.fail(errno.map_or(Errno::IO, Errno::from_raw_os_error)),
            },
        }
    }

    /// Fails what the kernel has not taken. It takes nothing more either.
    fn fail(&mut self, errno: Errno) -> Freed {
        self.broken = Some(errno);
        let mut freed = Freed::default();
        for index in std::mem::take(&mut self.pushed) {
            let Some(Some(request)) = self.requests.get_mut(index) else { continue };
            if let Some(waker) = request.end(Err(errno)) {
                // Its entry is still queued, so its memory is the kernel's should it ever look.
                let spare = request.op.another();
                std::mem::forget(std::mem::replace(&mut request.op, spare));
                freed.wakers.push(waker);
            }
        }
        freed
    }

    /// Whether the kernel has taken nothing of what was submitted, being short of memory, and no completion
    /// is going to be the occasion to submit it again.
    pub(crate) fn is_stuck(&self) -> bool {
        self.running == 0 && !self.pushed.is_empty()
    }

    fn busy(&self) -> bool {
        self.running > 0 || !self.pushed.is_empty()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut freed = Vec::new();
        while self.busy() && self.broken.is_none() {
            freed.push(self.enter(1));
            freed.push(self.reap());
        }
        if self.busy() {
            // The kernel may still write into these; they are given to it.
            std::mem::forget(std::mem::take(&mut self.requests));
        } else if self.reads_registered {
            // Left to the kernel, this happens some time later, and the file system stays busy meanwhile.
            let _ = self.uring.submitter().unregister_files();
        }
        freed.into_iter().for_each(Freed::release);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn registered_buffers_write_and_read_and_are_used_again() {
        let file = tempfile::tempfile().unwrap();
        let pool = Arc::default();
        let other = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        let mut ring = match Ring::new(other, &pool) {
            Ok(ring) if pool.take(1).number().is_some() => ring,
            _ => {
                eprintln!("SKIPPED: this kernel gives no ring with registered buffers");
                return;
            }
        };
        let mut run = |op| {
            let finished = finish(&mut ring, op);
            assert_eq!(finished.result, Ok(SMALLEST));
            let (Op::Read(buffer) | Op::Write(buffer)) = finished.op else {
                panic!("another operation")
            };
            buffer
        };
        for round in 0..2 * KNOWN {
            // Another one each time.
            let held: Vec<_> = (0..round % KNOWN).map(|_| pool.take(1)).collect();
            let mut buffer = pool.take(SMALLEST);
            assert!(buffer.number().is_some());
            buffer.fill(round as u8 + 1);
            drop(run(Op::Write(buffer)));
            assert_eq!(content(&file), [round as u8 + 1; SMALLEST]);
            file.write_all_at(&[round as u8; SMALLEST], 0).unwrap();
            let buffer = run(Op::Read(pool.take(SMALLEST)));
            assert_eq!(buffer[..], [round as u8; SMALLEST]);
            drop(held);
        }
        assert!(pool.take(SMALLEST + 1).number().is_none(), "they are too small");
        let many: Vec<_> = (0..KNOWN).map(|_| pool.take(1)).collect();
        assert!(pool.take(1).number().is_none(), "all {} are in use", many.len());
    }

    #[test]
    fn a_file_past_the_cache_is_registered_and_nobody_has_it_open_after_the_ring() {
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().write_all_at(&[7; SMALLEST], 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECT;
        let Ok(file) = rustix::fs::open(named.path(), flags, Mode::empty()) else {
            eprintln!("SKIPPED: this file system has no direct reads");
            return;
        };
        let file = Arc::new(file);
        let path = named.into_temp_path();
        let pool = Arc::default();
        let Ok(mut ring) = Ring::new(Arc::clone(&file), &pool) else {
            eprintln!("SKIPPED: this kernel gives no ring");
            return;
        };
        assert!(ring.reads_registered);
        let finished = finish(&mut ring, Op::Read(pool.take(SMALLEST)));
        let Op::Read(buffer) = finished.op else { panic!("another operation") };
        assert_eq!((finished.result, &buffer[..]), (Ok(SMALLEST), &[7; SMALLEST][..]));
        drop(file);
        // Given only to the file's only opener.
        let lease = |file: &File| {
            // SAFETY: no memory is passed, and the descriptor is open.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }
        };
        let other = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(lease(&other), -1, "the ring has it open");
        drop(ring);
        assert_eq!(lease(&other), 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn what_is_given_is_written() {
        let file = tempfile::tempfile().unwrap();
        let other = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        let Ok(mut ring) = Ring::new(other, &Arc::default()) else {
            eprintln!("SKIPPED: this kernel gives no ring");
            return;
        };
        let given = Bytes::from((0..=255).cycle().take(2 * SMALLEST).collect::<Vec<u8>>());
        let op = Op::WriteGiven(Box::new(given.slice(SMALLEST - 1..)));
        let finished = finish(&mut ring, op);
        assert_eq!(finished.result, Ok(SMALLEST));
        assert_eq!(content(&file), given[SMALLEST - 1..2 * SMALLEST - 1]);
    }

    /// Runs one request at the file's start.
    fn finish(ring: &mut Ring, op: Op) -> Finished {
        let token = ring.push(op, 0, SMALLEST, None, Waker::noop()).unwrap();
        loop {
            if let Some(finished) = ring.take(token) {
                return finished;
            }
            ring.wait().release();
            ring.reap().release();
        }
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; SMALLEST];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}
