//! Direct I/O: requests of any alignment, performed in whole **units**. A unit is the kernel's alignment for offsets.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use block_core::range_lock::{RangeGuard, RangeLock};
use rustix::io::Errno;

use crate::aligned::{ALIGNMENT, BufferPool, CAPACITY, is_aligned};
use crate::io::{retry, write_all};

/// The alignment, locks and buffers of direct I/O on one file.
#[derive(Debug)]
pub(crate) struct Direct {
    /// Alignment of offsets and lengths that the kernel accepts: a power of two, in bytes.
    unit: usize,
    /// Alignment of memory that the kernel accepts: a power of two, in bytes.
    memory: usize,
    /// Locks on ranges: a write of part of a unit first reads the rest, and no other write may change it meanwhile.
    locks: Arc<RangeLock>,
    pool: Arc<BufferPool>,
}

/// The kind of change to a guarded range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The range will be written.
    Bytes,
    /// The range will be zeroed. Zeroing past the end sets the length.
    Zeroes,
}

impl Direct {
    /// Creates the state for a file or device with this unit and this memory alignment, in bytes. Returns `None` when
    /// our buffers do not satisfy them.
    pub(crate) fn new(unit: u32, memory: u32) -> Option<Self> {
        let unit = usize::try_from(unit).ok()?.max(512);
        let memory = usize::try_from(memory).ok()?.max(1);
        let usable = unit.is_power_of_two()
            && unit <= CAPACITY
            && memory.is_power_of_two()
            && memory <= ALIGNMENT;
        usable.then(|| Self { unit, memory, locks: RangeLock::new(), pool: Arc::default() })
    }

    /// Returns whether `memory` is aligned as the kernel requires.
    pub(crate) fn accepts(&self, memory: &[u8]) -> bool {
        is_aligned(memory, self.memory)
    }

    /// Returns the unit in bytes.
    pub(crate) fn unit(&self) -> u64 {
        self.unit as u64
    }

    /// Waits until no other change overlaps `offset..end` in a unit that either change covers only in part. `len`
    /// returns the file's length; it is called again while the lock is held.
    ///
    /// A change past the end locks everything after its start. Otherwise cutting the file back to its exact length
    /// could cut off another task's bytes.
    pub(crate) async fn guard(
        &self,
        offset: u64,
        end: u64,
        change: Change,
        len: impl Fn() -> Result<u64, Errno>,
    ) -> Result<RangeGuard, Errno> {
        let unit = self.unit();
        let start = offset - offset % unit;
        let stop = end.checked_next_multiple_of(unit).unwrap_or(u64::MAX);
        let whole = start == offset && stop == end;
        loop {
            let grows = stop > len()?;
            let range = start..if grows { u64::MAX } else { stop };
            let alone = !whole || (grows && change == Change::Zeroes);
            let guard = if alone {
                self.locks.lock_exclusive(range).await
            } else {
                self.locks.lock_shared(range).await
            };
            if grows || stop <= len()? {
                return Ok(guard);
            }
        }
    }

    /// Waits until no other task changes the file, and keeps the whole file locked.
    pub(crate) async fn guard_all(&self) -> RangeGuard {
        self.locks.lock_exclusive(0..u64::MAX).await
    }

    /// Fills `buf` from `offset` up to the end of the file. Returns the bytes read.
    pub(crate) fn read_up_to(
        &self,
        fd: BorrowedFd<'_>,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let mut done = 0;
        let mut bounce = None;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let skip = self.within(at);
            let whole = rest.len() - rest.len() % self.unit;
            if skip == 0 && whole > 0 && self.accepts(rest) {
                let direct = rest.get_mut(..whole).unwrap_or_default();
                let got = self.read_units(fd, at, direct)?;
                done += got;
                if got < whole {
                    break;
                }
                continue;
            }
            let bounce = bounce
                .get_or_insert_with(|| self.pool.take(rest.len().saturating_add(2 * self.unit)));
            let span = (skip + rest.len()).next_multiple_of(self.unit).min(CAPACITY);
            let units = bounce.get_mut(..span).unwrap_or_default();
            let got = self.read_units(fd, at - skip as u64, units)?;
            let useful = got.saturating_sub(skip).min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..useful), units.get(skip..skip + useful))
            {
                to.copy_from_slice(from);
            }
            done += useful;
            if got < span {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `buf` at `offset`. The caller holds the [`guard`](Self::guard) of the range. `len` is the file's
    /// length in bytes. `cut` restores the exact length after the last unit went past the end.
    pub(crate) fn write_all(
        &self,
        fd: BorrowedFd<'_>,
        offset: u64,
        buf: &[u8],
        len: u64,
        cut: impl FnOnce(u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let end = offset.saturating_add(buf.len() as u64);
        let mut done = 0;
        let mut bounce = None;
        while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let skip = self.within(at);
            let whole = rest.len() - rest.len() % self.unit;
            if skip == 0 && whole > 0 && self.accepts(rest) {
                write_all(fd, at, rest.get(..whole).unwrap_or_default())?;
                done += whole;
                continue;
            }
            let bounce = bounce
                .get_or_insert_with(|| self.pool.take(rest.len().saturating_add(2 * self.unit)));
            let span = (skip + rest.len()).next_multiple_of(self.unit).min(CAPACITY);
            let take = rest.len().min(span - skip);
            let units = bounce.get_mut(..span).unwrap_or_default();
            let start = at - skip as u64;
            self.fill_edges(fd, start, units, skip..skip + take)?;
            if let (Some(to), Some(from)) = (units.get_mut(skip..skip + take), rest.get(..take)) {
                to.copy_from_slice(from);
            }
            write_all(fd, start, units)?;
            done += take;
        }
        let exact = len.max(end);
        if end.next_multiple_of(self.unit()) > exact { cut(exact) } else { Ok(()) }
    }

    /// Reads the first and the last unit of `units` if `covered` does not cover them entirely.
    fn fill_edges(
        &self,
        fd: BorrowedFd<'_>,
        start: u64,
        units: &mut [u8],
        covered: std::ops::Range<usize>,
    ) -> Result<(), Errno> {
        let last = units.len() - self.unit;
        let head = covered.start > 0;
        let tail = covered.end < units.len() && !(head && last == 0);
        for at in [head.then_some(0), tail.then_some(last)].into_iter().flatten() {
            let unit = units.get_mut(at..at + self.unit).unwrap_or_default();
            let got = self.read_units(fd, start.saturating_add(at as u64), unit)?;
            unit.get_mut(got..).unwrap_or_default().fill(0);
        }
        Ok(())
    }

    /// Reads whole units into aligned memory. Returns the bytes read: a multiple of the unit, except at the end of the
    /// file.
    fn read_units(&self, fd: BorrowedFd<'_>, at: u64, units: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(rest) = units.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let got = retry(|| rustix::io::pread(fd, &mut *rest, at.saturating_add(done as u64)))?;
            done += got;
            if got == 0 || got % self.unit != 0 {
                break;
            }
        }
        Ok(done)
    }

    /// Returns how many bytes `at` lies past the start of its unit.
    #[inline]
    pub(crate) fn within(&self, at: u64) -> usize {
        // A mask, because the compiler does not know that the unit is a power of two and would divide.
        usize::try_from(at & self.unit().wrapping_sub(1)).unwrap_or(0)
    }
}
