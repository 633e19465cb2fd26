//! An io_uring on one file. A request owns its memory until the kernel is done with it.
//!
//! This is sound because a request's memory stays in [`Ring::slots`], or in the registered buffers, from before the
//! kernel sees the request until its completion has been taken off the queue. No code changes the memory or removes the
//! request in between, and the ring is not dropped while a request is left.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

use block_core::Bytes;
use block_core::range_lock::RangeGuard;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::registered::RegisteredBuffers;
use crate::aligned::{AlignedBuffer, BufferPool, CAPACITY, SMALLEST};

/// Entries of the submission queue, and greatest number of requests in flight.
const ENTRIES: u32 = 256;

/// Minimum number of queued requests that are submitted immediately instead of by the driver task, so that the disk
/// starts while the next ones are made. With fewer the disk starts earlier (8 of 64: 5 % less time), but the processor
/// is busier (1 %), because it returns from the kernel to cold caches each time.
const BATCH: usize = 32;

/// While requests are in flight, a batch must be this many times their number.
const GROWTH: usize = 3;

/// Registered buffers to try. If readers still hold all of them, the request uses an unregistered buffer.
const TRIES: usize = 4;

/// The operation of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transfer<'a> {
    /// Reads this many bytes into memory that it returns.
    Read(usize),
    /// Writes a copy of these bytes.
    Write(&'a [u8]),
    /// Writes the caller's shared memory, which never changes.
    WriteGiven(&'a Bytes),
}

/// The outcome of a finished request.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Bytes transferred.
    pub(crate) result: Result<usize, Errno>,
    /// A read's memory, at least as long as requested. A write's is of no use.
    pub(crate) bytes: Bytes,
    /// The guard, if the request did not transfer all its bytes: the caller still has work to do under it. Otherwise
    /// the guard was released when the bytes landed, even before any task asked.
    pub(crate) guard: Option<RangeGuard>,
}

/// A request in flight, by the number of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

/// An io_uring with its requests and registered buffers.
pub(crate) struct Ring {
    uring: IoUring,
    /// All slots. A slot's index is its entry's user data. The first slots use the registered buffers of the same
    /// numbers.
    slots: Vec<Slot>,
    known: RegisteredBuffers,
    /// Free slots with a registered buffer, the one freed longest ago in front.
    free_known: VecDeque<u32>,
    /// The other free slots.
    free: Vec<u32>,
    /// How many requests were ever queued.
    queued: u64,
    /// How many queued requests the kernel has taken, in order.
    taken: u64,
    /// How many requests the kernel has taken and not completed.
    running: usize,
    /// Whether submitting has failed for good.
    broken: bool,
    file: Arc<OwnedFd>,
    /// Whether the file is registered for reading.
    reads_registered: bool,
    /// The pool of unregistered buffers.
    buffers: Arc<BufferPool>,
}

/// A request, or room for one.
#[derive(Default)]
struct Slot {
    /// Wakes the task that waits. `None` once the completion has been taken.
    waker: Option<Waker>,
    /// The kernel's result, after the completion has been taken.
    result: i32,
    /// Bytes to transfer.
    len: u32,
    /// How many requests were queued before this one.
    number: u64,
    memory: Memory,
    guard: Option<RangeGuard>,
}

/// The memory that a request keeps and later returns.
#[derive(Default)]
enum Memory {
    /// No memory: for a write from a registered buffer, or when the kernel may still access the memory.
    #[default]
    None,
    /// The registered buffer of the slot's number, for a read.
    Known,
    Read(AlignedBuffer),
    Write(AlignedBuffer),
    Given(Bytes),
}

/// Wakers of completed requests, and guards of ranges no longer needed. Waking and dropping may run foreign code.
#[derive(Default)]
#[must_use = "who waits has to be woken"]
pub(crate) struct Freed {
    wakers: Vec<Waker>,
    guards: Vec<RangeGuard>,
}

impl Freed {
    /// Drops the guards and wakes the tasks. The caller must hold no lock.
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

/// Registers a file for direct reads, so the kernel need not look it up for each request. Where the kernel refuses, the
/// ring works without.
///
/// The file is opened again, read-only and without locks. The kernel releases a ring's files some time after its
/// process died, and locks on the registered file would last as long. Reads through the new descriptor do not update
/// the access time: the plain calls that precede a ring have done so.
fn register_for_reading(uring: &IoUring, file: &OwnedFd) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)? & OFlags::DIRECT;
    if flags.is_empty() {
        return Err(io::Error::other("it is not read past the page cache"));
    }
    flags |= OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let open = |flags| rustix::fs::open(&path, flags, Mode::empty());
    // Only the owner may open a file with `NOATIME`.
    let again = open(flags | OFlags::NOATIME).or_else(|_| open(flags))?;
    let (one, other) = (rustix::fs::fstat(file)?, rustix::fs::fstat(&again)?);
    if (one.st_dev, one.st_ino, one.st_rdev) != (other.st_dev, other.st_ino, other.st_rdev) {
        return Err(io::Error::other("/proc leads to another file"));
    }
    uring.submitter().register_files(&[again.as_raw_fd()])
}

impl Memory {
    /// Returns the memory of a request that does not use a registered buffer.
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Read(buffer) => Bytes::from_owner(buffer),
            Self::Given(bytes) => bytes,
            Self::Write(buffer) => {
                drop(buffer);
                Bytes::new()
            }
            Self::None | Self::Known => Bytes::new(),
        }
    }
}

impl Slot {
    /// Stores the result and returns the waker; `None` if the result was stored before.
    #[inline]
    fn end(&mut self, result: i32) -> Option<Waker> {
        let waker = self.waker.take()?;
        self.result = result;
        Some(waker)
    }
}

/// Returns the bytes transferred, or the error, from a kernel's result.
#[inline]
fn result_of(value: i32) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| Errno::from_raw_os_error(value.saturating_neg()))
}

impl Ring {
    /// Creates a ring for `file`, unless the kernel refuses. Requests use memory from `buffers`.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> io::Result<Self> {
        let uring = IoUring::new(ENTRIES)?;
        let known = RegisteredBuffers::register(&uring).unwrap_or_else(|error| {
            tracing::debug!("no buffer is registered: {error}");
            RegisteredBuffers::default()
        });
        let registered = register_for_reading(&uring, &file);
        if let Err(error) = &registered {
            tracing::debug!("the file is not registered: {error}");
        }
        let mut slots = Vec::new();
        slots.resize_with(ENTRIES as usize, Slot::default);
        let with_buffer = u32::try_from(known.len()).unwrap_or(0);
        Ok(Self {
            uring,
            slots,
            known,
            free_known: (0..with_buffer).collect(),
            free: (with_buffer..ENTRIES).rev().collect(),
            queued: 0,
            taken: 0,
            running: 0,
            broken: false,
            file,
            reads_registered: registered.is_ok(),
            buffers: Arc::clone(buffers),
        })
    }

    /// Returns a descriptor that is readable when a request has completed.
    pub(crate) fn readiness(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring owns this descriptor and is alive for the length of the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    /// Queues `transfer` at `offset` of the file, in bytes. The kernel sees it at the next [`submit`](Self::submit).
    /// Its completion wakes `waker`. Returns the guard when the request cannot be queued.
    #[inline]
    pub(crate) fn push(
        &mut self,
        transfer: Transfer<'_>,
        offset: u64,
        guard: Option<RangeGuard>,
        waker: &Waker,
    ) -> Result<Token, Option<RangeGuard>> {
        // Clone first: it may panic, and then nothing is queued.
        let waker = waker.clone();
        let index = match transfer {
            _ if self.broken => None,
            Transfer::Read(len) => self.push_read(len, offset),
            Transfer::Write(bytes) => self.push_write(bytes, offset),
            Transfer::WriteGiven(bytes) => self.push_given(bytes, offset),
        };
        let Some((index, slot)) =
            index.and_then(|index| Some((index, self.slots.get_mut(index as usize)?)))
        else {
            return Err(guard);
        };
        slot.waker = Some(waker);
        slot.number = self.queued;
        slot.guard = guard;
        self.queued += 1;
        Ok(Token(index))
    }

    /// Queues a read in a free slot. Returns `None` if there is none, or no buffer is large enough.
    #[inline]
    fn push_read(&mut self, len: usize, offset: u64) -> Option<u32> {
        let (file, flags) = if self.reads_registered {
            (types::Fd(0), squeue::Flags::FIXED_FILE)
        } else {
            (types::Fd(self.file.as_raw_fd()), squeue::Flags::empty())
        };
        let bytes = u32::try_from(len).ok()?;
        if len <= SMALLEST
            && let Some((index, number, start)) = self.take_known()
        {
            let entry = opcode::ReadFixed::new(file, start, bytes, number).offset(offset).build();
            return self.push_entry(index, entry.flags(flags), bytes, Memory::Known);
        }
        let mut buffer = self.buffer(len)?;
        let index = self.take_free()?;
        let entry = opcode::Read::new(file, buffer.as_mut_ptr(), bytes).offset(offset).build();
        self.push_entry(index, entry.flags(flags), bytes, Memory::Read(buffer))
    }

    /// Queues a write of a copy of `bytes`.
    fn push_write(&mut self, bytes: &[u8], offset: u64) -> Option<u32> {
        let file = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(bytes.len()).ok()?;
        if bytes.len() <= SMALLEST
            && let Some((index, number, start)) = self.take_known()
        {
            // SAFETY: a registered buffer has at least so many bytes, and no reader holds it.
            unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            let entry = opcode::WriteFixed::new(file, start, len, number).offset(offset).build();
            return self.push_entry(index, entry, len, Memory::None);
        }
        let mut buffer = self.buffer(bytes.len())?;
        buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let index = self.take_free()?;
        let entry = opcode::Write::new(file, buffer.as_ptr(), len).offset(offset).build();
        self.push_entry(index, entry, len, Memory::Write(buffer))
    }

    /// Queues a write of shared memory.
    fn push_given(&mut self, bytes: &Bytes, offset: u64) -> Option<u32> {
        let file = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(bytes.len()).ok()?;
        let index = self.take_free()?;
        let entry = opcode::Write::new(file, bytes.as_ptr(), len).offset(offset).build();
        self.push_entry(index, entry, len, Memory::Given(bytes.clone()))
    }

    /// Queues an entry that points at `len` bytes of `memory`, or of the registered buffer with the slot's number. The
    /// slot must be free.
    #[inline(always)]
    fn push_entry(
        &mut self,
        index: u32,
        entry: squeue::Entry,
        len: u32,
        memory: Memory,
    ) -> Option<u32> {
        let slot = self.slots.get_mut(index as usize)?;
        let entry = entry.user_data(u64::from(index));
        // SAFETY: the memory stays in its slot, or in the registered buffers, until the completion with this slot's
        // number has been taken. Until then no other request or reader gets it. Shared memory is neither changed nor
        // moved. The file stays open as long as the ring, by `self.file` or because it is registered.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.free(index);
            return None;
        }
        slot.len = len;
        slot.memory = memory;
        Some(index)
    }

    /// Returns a buffer of at least `len` bytes, if the pool has one so large.
    fn buffer(&self, len: usize) -> Option<AlignedBuffer> {
        (len <= CAPACITY).then(|| self.buffers.take(len))
    }

    /// Takes a free slot whose registered buffer no reader holds. Returns its index, the buffer's number and its start.
    #[inline]
    fn take_known(&mut self) -> Option<(u32, u16, *mut u8)> {
        for _ in 0..TRIES.min(self.free_known.len()) {
            let index = self.free_known.pop_front()?;
            if let (Some(start), Ok(number)) =
                (self.known.free(index as usize), u16::try_from(index))
            {
                return Some((index, number, start.as_ptr()));
            }
            self.free_known.push_back(index);
        }
        None
    }

    /// Takes a free slot, with or without a registered buffer.
    fn take_free(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| self.free_known.pop_back())
    }

    #[inline]
    fn free(&mut self, index: u32) {
        if (index as usize) < self.known.len() {
            self.free_known.push_back(index);
        } else {
            self.free.push(index);
        }
    }

    /// Returns how many queued requests the kernel has not taken.
    #[inline]
    fn waiting(&self) -> usize {
        usize::try_from(self.queued - self.taken).unwrap_or(usize::MAX)
    }

    /// Returns whether enough requests are queued for a [`submit`](Self::submit) of their own.
    #[inline]
    pub(crate) fn has_batch(&self) -> bool {
        self.waiting() >= self.running.saturating_mul(GROWTH).max(BATCH)
    }

    /// Submits all queued requests.
    pub(crate) fn submit(&mut self) -> Freed {
        self.enter(0)
    }

    /// Takes completions off the queue.
    pub(crate) fn reap(&mut self) -> Freed {
        let Self { uring, slots, running, .. } = self;
        let completed = uring.completion();
        let mut freed = Freed { wakers: Vec::with_capacity(completed.len()), guards: Vec::new() };
        for completion in completed {
            let Ok(index) = usize::try_from(completion.user_data()) else { continue };
            let Some(slot) = slots.get_mut(index) else { continue };
            let result = completion.result();
            // A slot without a waker awaits no completion, so it must not be freed.
            let Some(waker) = slot.end(result) else { continue };
            freed.wakers.push(waker);
            if slot.guard.is_some() && u32::try_from(result) == Ok(slot.len) {
                freed.guards.extend(slot.guard.take());
            }
            *running = running.saturating_sub(1);
        }
        freed
    }

    /// Blocks this thread until a request completes. Returns without blocking if none is in flight.
    pub(crate) fn wait(&mut self) -> Freed {
        self.enter(1)
    }

    /// Returns the outcome of a request once its completion has been taken. Call it until it returns `Some`, and not
    /// again. Inlined, because otherwise each caller on the outcome's way copies it.
    #[inline(always)]
    pub(crate) fn take(&mut self, token: Token) -> Option<Finished> {
        let Token(index) = token;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.waker.is_some() {
            return None;
        }
        let result = result_of(slot.result);
        let guard = slot.guard.take();
        let bytes = match slot.memory {
            Memory::Known => self.known.bytes(index as usize),
            _ => std::mem::take(&mut slot.memory).into_bytes(),
        };
        self.free(index);
        Some(Finished { result, bytes, guard })
    }

    /// Replaces the waker of an uncompleted request. Returns the old waker, because its drop may run any code.
    pub(crate) fn wake_later(&mut self, token: Token, waker: &Waker) -> Option<Waker> {
        let known = self.slots.get_mut(token.0 as usize)?.waker.as_mut()?;
        (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
    }

    /// Submits the queue and waits for `want` completions. If the kernel refuses for good, fails the queued requests
    /// and returns their wakers.
    fn enter(&mut self, want: usize) -> Freed {
        let want = want.min(self.running + self.waiting());
        if self.waiting() == 0 && want == 0 {
            return Freed::default();
        }
        match self.uring.submit_and_wait(want) {
            Ok(taken) => {
                let taken = taken.min(self.waiting());
                self.running += taken;
                self.taken += taken as u64;
                Freed::default()
            }
            Err(error) => match error.raw_os_error() {
                // Interrupted, out of memory, or the completion queue must be emptied first.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Freed::default(),
                errno => self.fail(errno.unwrap_or(libc::EIO)),
            },
        }
    }

    /// Fails the requests that the kernel has not taken. It takes none from now on.
    fn fail(&mut self, errno: i32) -> Freed {
        self.broken = true;
        let mut freed = Freed::default();
        for slot in self.slots.iter_mut().filter(|slot| slot.number >= self.taken) {
            let Some(waker) = slot.end(errno.saturating_neg()) else { continue };
            // Leak the memory: its entry is still queued, so the kernel might yet access it.
            std::mem::forget(std::mem::take(&mut slot.memory));
            freed.wakers.push(waker);
        }
        self.queued = self.taken;
        freed
    }

    /// Returns whether the kernel took none of the submitted requests for lack of memory, and no completion will come
    /// that leads to another submit.
    pub(crate) fn is_stuck(&self) -> bool {
        self.running == 0 && self.waiting() > 0
    }

    fn busy(&self) -> bool {
        self.running > 0 || self.waiting() > 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut freed = Vec::new();
        while self.busy() && !self.broken {
            freed.push(self.enter(1));
            freed.push(self.reap());
        }
        if self.broken {
            // The kernel may still write to these buffers: leak them.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(std::mem::take(&mut self.known));
        } else if self.reads_registered {
            // Otherwise the kernel does this some time later, and the file system stays busy until then.
            let _ = self.uring.submitter().unregister_files();
        }
        freed.into_iter().for_each(Freed::release);
    }
}

#[cfg(test)]
mod tests;
