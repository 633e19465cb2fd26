//! Zeroes and preallocates ranges.

use std::ops::Range;

use block_core::{Error, ErrorKind, PageBuffer, Result, ZeroMode, give_way};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::io::Errno;

use crate::aligned::CAPACITY;
use crate::blocking::blocking;
use crate::direct::Change;
use crate::io::retry;
use crate::storage::{FileStorage, Kind};

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO_INSIDE: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Returns whether the kernel did it; `false` means that this file must be written instead.
fn done(result: Result<(), Errno>) -> Result<bool, Errno> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

impl FileStorage {
    /// Zeroes a range that is not empty and was found changeable.
    pub(crate) async fn zero(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let failed = |errno| {
            let len = range.end - range.start;
            self.error(format!("could not zero {len} bytes"), errno).at(range.start)
        };
        let left = {
            let _guard = match self.direct() {
                Some(direct) => Some(
                    direct
                        .guard(range.start, range.end, Change::Zeroes, || self.length())
                        .await
                        .map_err(failed)?,
                ),
                None => None,
            };
            blocking(|| match (self.kind(), mode) {
                (Kind::Device { block, .. }, _) => self.zero_device(&range, block, mode),
                (Kind::Regular, ZeroMode::Deallocate) => self.punch(&range),
                (Kind::Regular, ZeroMode::Allocate) => self.zero_range(&range),
            })
            .map_err(failed)?
        };
        for part in left {
            self.write_zeros(part).await?;
        }
        Ok(())
    }

    /// Preallocates a range without changing content or length.
    pub(crate) fn reserve(&self, range: Range<u64>) -> Result<()> {
        let len = range.end - range.start;
        blocking(|| self.fallocate(FallocateFlags::KEEP_SIZE, &range)).map_err(
            |errno| match errno {
                Errno::OPNOTSUPP | Errno::NOSYS => {
                    Error::new(ErrorKind::Unsupported, "the file system cannot set room aside")
                        .in_image(block_core::Storage::uri(self))
                }
                errno => {
                    self.error(format!("could not set {len} bytes aside"), errno).at(range.start)
                }
            },
        )
    }

    fn fallocate(&self, flags: FallocateFlags, range: &Range<u64>) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        retry(|| fallocate(self.fd(), flags, range.start, range.end - range.start))
    }

    /// Deallocates a range of a file and extends the file to the range's end. Returns the ranges left to be written.
    fn punch(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, Errno> {
        let len = self.length()?;
        let inside = range.start..range.end.min(len).max(range.start);
        let zeroed =
            done(self.fallocate(PUNCH, &inside))? || done(self.fallocate(ZERO_INSIDE, &inside))?;
        if range.end > len {
            let _alone = self.moving_end();
            let now = self.length()?;
            // Another task wrote there since, and those bytes may lie in the range.
            let appeared = range.start.max(len)..range.end.min(now);
            if appeared.start < appeared.end && !done(self.fallocate(PUNCH, &appeared))? {
                return Ok(vec![range.clone()]);
            }
            if now < range.end {
                retry(|| ftruncate(self.fd(), range.end))?;
            }
        }
        Ok(if zeroed { Vec::new() } else { vec![inside] })
    }

    /// Zeroes and allocates a range of a file, and extends the file to the range's end. Returns the ranges left to be
    /// written.
    fn zero_range(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, Errno> {
        let _writing = self.writing();
        let zeroed = done(self.fallocate(FallocateFlags::ZERO_RANGE, range))?
            // Without that call, a file system may still be able to punch a hole and then fill it.
            || (done(self.fallocate(PUNCH, range))?
                && done(self.fallocate(FallocateFlags::empty(), range))?);
        Ok(if zeroed { Vec::new() } else { vec![range.clone()] })
    }

    /// Zeroes the whole blocks of a device's range. Returns the ranges left to be written: blocks covered only in part.
    fn zero_device(
        &self,
        range: &Range<u64>,
        block: u32,
        mode: ZeroMode,
    ) -> Result<Vec<Range<u64>>, Errno> {
        let block = u64::from(block.max(512));
        let start = range.start.next_multiple_of(block).min(range.end);
        let whole = start..(range.end - range.end % block).max(start);
        let zeroed = (mode == ZeroMode::Deallocate && done(self.fallocate(PUNCH, &whole))?)
            || done(self.fallocate(ZERO_INSIDE, &whole))?;
        if !zeroed {
            return Ok(vec![range.clone()]);
        }
        let edges = [range.start..whole.start, whole.end..range.end];
        Ok(edges.into_iter().filter(|edge| !edge.is_empty()).collect())
    }

    /// Writes zeros from a buffer of at most [`CAPACITY`] bytes.
    async fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        let len = usize::try_from(range.end - range.start).unwrap_or(CAPACITY).min(CAPACITY);
        let zeros = PageBuffer::new(len);
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(len).min(len);
            self.put(at, zeros.get(..left).unwrap_or_default(), None).await?;
            at = at.saturating_add(left as u64);
            if at < range.end {
                give_way().await;
            }
        }
        Ok(())
    }
}
