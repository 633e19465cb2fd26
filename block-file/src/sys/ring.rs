//! An io_uring on one file: reads and writes whose memory belongs to them until the kernel is done.
//!
//! What makes this sound: a request's memory is kept in [`Ring::slots`], or with the buffers that the kernel
//! knows, from before the kernel hears of it until its completion has been taken off the queue. Nobody can
//! change it in between, nothing removes a request earlier, and the ring is not dropped while one is left.

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

use super::known::KnownBuffers;
use crate::aligned::{AlignedBuffer, BufferPool, CAPACITY, SMALLEST};

/// Entries of the submission queue; more requests than that are never under way.
const ENTRIES: u32 = 256;

/// So many queued requests are submitted without waiting for the driver: the disk begins while the next ones
/// are made. Fewer would have it begin earlier (8 of 64: 5 % less time), at more of the processor (1 %), which
/// comes back from the kernel to cold caches each time;
const BATCH: usize = 32;

/// so a disk that has something to do gets so many times as many.
const GROWTH: usize = 3;

/// After so many buffers that somebody still has, another one is taken that the kernel does not know.
const TRIES: usize = 4;

/// What a request does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transfer<'a> {
    /// Reads so many bytes, into memory that it gives.
    Read(usize),
    /// Writes a copy of these bytes.
    Write(&'a [u8]),
    /// Writes somebody's memory, who does not change it.
    WriteGiven(&'a Bytes),
}

/// What a finished request came to.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How many bytes it moved.
    pub(crate) result: Result<usize, Errno>,
    /// The memory of a read, at least as long as was asked for; of a write, nothing that is of use.
    pub(crate) bytes: Bytes,
    /// Gone when all bytes have landed, whether or not anybody has asked; there is something left to do
    /// under it otherwise.
    pub(crate) guard: Option<RangeGuard>,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

/// The ring.
pub(crate) struct Ring {
    uring: IoUring,
    /// Each at its number, which the kernel gives back. The first ones read and write the buffers that the
    /// kernel knows, of the same numbers.
    slots: Vec<Slot>,
    known: KnownBuffers,
    /// Slots with a buffer that the kernel knows, the one that has waited longest in front.
    free_known: VecDeque<u32>,
    /// The other ones.
    free: Vec<u32>,
    /// How many requests were ever queued,
    queued: u64,
    /// and how many of these the kernel has taken, in order.
    taken: u64,
    /// Taken by the kernel and not yet completed.
    running: usize,
    /// The kernel takes no more entries.
    broken: bool,
    file: Arc<OwnedFd>,
    /// Whether the file is registered for reading.
    reads_registered: bool,
    /// Where requests get memory that the kernel does not know.
    buffers: Arc<BufferPool>,
}

/// A request, or room for one.
#[derive(Default)]
struct Slot {
    /// There until its completion is taken, when this one is woken.
    waker: Option<Waker>,
    /// After that, what the kernel says of it.
    result: i32,
    /// How many bytes it is to move.
    len: u32,
    /// How many were queued before it.
    number: u64,
    memory: Memory,
    guard: Option<RangeGuard>,
}

/// The memory that a request keeps, and gives back.
#[derive(Default)]
enum Memory {
    /// None: a write from the buffer that the kernel knows, or the kernel may still look at it.
    #[default]
    None,
    /// The buffer of the slot's number that the kernel knows, for a read.
    Known,
    Read(AlignedBuffer),
    Write(AlignedBuffer),
    Given(Bytes),
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

impl Memory {
    /// What a request gives back that does without a buffer which the kernel knows.
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
    /// Notes what it came to, and says whom to wake; nobody, when that was known.
    #[inline]
    fn end(&mut self, result: i32) -> Option<Waker> {
        let waker = self.waker.take()?;
        self.result = result;
        Some(waker)
    }
}

/// What the kernel said: how many bytes were moved, or why none.
#[inline]
fn result_of(value: i32) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| Errno::from_raw_os_error(value.saturating_neg()))
}

impl Ring {
    /// A ring for `file`, unless the kernel refuses. Requests use memory of `buffers`.
    pub(crate) fn new(file: Arc<OwnedFd>, buffers: &Arc<BufferPool>) -> io::Result<Self> {
        let uring = IoUring::new(ENTRIES)?;
        let known = KnownBuffers::register(&uring).unwrap_or_else(|error| {
            tracing::debug!("no buffer is registered: {error}");
            KnownBuffers::default()
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

    /// A descriptor that is readable when a request has completed.
    pub(crate) fn readiness(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring owns this descriptor and is alive for the length of the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    /// Queues `transfer`, at `offset` of the file. The kernel hears of it at the next
    /// [`submit`](Self::submit). `waker` is woken when it is done. Gives the guard back when too many are under
    /// way.
    #[inline]
    pub(crate) fn push(
        &mut self,
        transfer: Transfer<'_>,
        offset: u64,
        guard: Option<RangeGuard>,
        waker: &Waker,
    ) -> Result<Token, Option<RangeGuard>> {
        // First: it may panic, and then nothing is queued.
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

    /// Queues a read in a free slot. `None` when there is none, or no buffer is so large.
    #[inline]
    fn push_read(&mut self, len: usize, offset: u64) -> Option<u32> {
        let (file, flags) = match self.reads_registered {
            true => (types::Fd(0), squeue::Flags::FIXED_FILE),
            false => (types::Fd(self.file.as_raw_fd()), squeue::Flags::empty()),
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

    /// Queues a write of a copy.
    fn push_write(&mut self, bytes: &[u8], offset: u64) -> Option<u32> {
        let file = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(bytes.len()).ok()?;
        if bytes.len() <= SMALLEST
            && let Some((index, number, start)) = self.take_known()
        {
            // SAFETY: a buffer that is known has at least so many bytes, and nobody else has it.
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

    /// Queues a write of what is given.
    fn push_given(&mut self, bytes: &Bytes, offset: u64) -> Option<u32> {
        let file = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(bytes.len()).ok()?;
        let index = self.take_free()?;
        let entry = opcode::Write::new(file, bytes.as_ptr(), len).offset(offset).build();
        self.push_entry(index, entry, len, Memory::Given(bytes.clone()))
    }

    /// Queues an entry that points at so many bytes of `memory`, or of the buffer that the kernel knows by the
    /// slot's number. The slot is a free one.
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
        // SAFETY: the memory stays in its slot, or with what is known, until the completion with this slot's
        // number has been taken. Until then nobody else is given it, and nobody changes what was given (nor
        // does that move). The file is open for as long as the ring is, by `self.file` or because it is
        // registered.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.free(index);
            return None;
        }
        slot.len = len;
        slot.memory = memory;
        Some(index)
    }

    /// A buffer of at least `len` bytes, if that is not too much.
    fn buffer(&self, len: usize) -> Option<AlignedBuffer> {
        (len <= CAPACITY).then(|| self.buffers.take(len))
    }

    /// A free slot whose buffer the kernel knows, by which number, and nobody else has any more.
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

    /// A free slot; the kernel need not know a buffer for it.
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

    /// Requests that the kernel has not been told of.
    #[inline]
    fn waiting(&self) -> usize {
        usize::try_from(self.queued - self.taken).unwrap_or(usize::MAX)
    }

    /// Whether enough is queued to be worth a [`submit`](Self::submit) of its own.
    #[inline]
    pub(crate) fn has_batch(&self) -> bool {
        self.waiting() >= self.running.saturating_mul(GROWTH).max(BATCH)
    }

    /// Tells the kernel of everything queued.
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
            // Where no completion is awaited, whatever this is, it is not ours to free.
            let Some(waker) = slot.end(result) else { continue };
            freed.wakers.push(waker);
            if slot.guard.is_some() && u32::try_from(result) == Ok(slot.len) {
                freed.guards.extend(slot.guard.take());
            }
            *running = running.saturating_sub(1);
        }
        freed
    }

    /// Waits, in this thread, until something completes, unless nothing is under way.
    pub(crate) fn wait(&mut self) -> Freed {
        self.enter(1)
    }

    /// What a request came to, once its completion has been taken. To be asked until it says so, and not
    /// again. Inlined where it is used up: on its way through several callers it would be copied in each.
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

    /// Has `waker` woken when a request is done that is not, and gives back the one that it replaces: what
    /// a waker does when it is dropped is not known.
    pub(crate) fn wake_later(&mut self, token: Token, waker: &Waker) -> Option<Waker> {
        let known = self.slots.get_mut(token.0 as usize)?.waker.as_mut()?;
        (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
    }

    /// Submits what is queued and waits for so many completions. Returns whom to wake, when the kernel
    /// refuses for good and what is queued has failed.
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
                // Interrupted, or the completion queue has to be emptied first.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Freed::default(),
                errno => self.fail(errno.unwrap_or(libc::EIO)),
            },
        }
    }

    /// Fails what the kernel has not taken. It takes nothing more either.
    fn fail(&mut self, errno: i32) -> Freed {
        self.broken = true;
        let mut freed = Freed::default();
        for slot in self.slots.iter_mut().filter(|slot| slot.number >= self.taken) {
            let Some(waker) = slot.end(errno.saturating_neg()) else { continue };
            // Its entry is still queued, so its memory is the kernel's should it ever look.
            std::mem::forget(std::mem::take(&mut slot.memory));
            freed.wakers.push(waker);
        }
        self.queued = self.taken;
        freed
    }

    /// Whether the kernel has taken nothing of what was submitted, being short of memory, and no completion
    /// is going to be the occasion to submit it again.
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
            // The kernel may still write into these; they are given to it.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(std::mem::take(&mut self.known));
        } else if self.reads_registered {
            // Left to the kernel, this happens some time later, and the file system stays busy meanwhile.
            let _ = self.uring.submitter().unregister_files();
        }
        freed.into_iter().for_each(Freed::release);
    }
}

#[cfg(test)]
mod tests;
