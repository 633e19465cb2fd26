//! Reading: a run of adjacent blocks is one request to the storage.

use std::ops::Range;

use super::write::slot_start;
use super::{BlockMapper, Layout, Mapped, Slot, blocks_of};
use crate::range_lock::RangeGuard;
use crate::sync::atomic::Ordering;
use crate::{
    Access, BoxFuture, Bytes, Disk, Error, ErrorKind, PageBuffer, Result, SECTOR_SIZE, bug,
};

/// After a read that would have blocked, the number of reads that skip the inline attempt. Page cache misses
/// come in clusters, and a storage that bypasses the page cache always blocks.
pub(super) const LONG_WAY: usize = 16;

/// The source of a run of guest bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The storage, at this offset in bytes.
    Stored(u64),
    /// Not stored: zeros.
    Zero,
    /// The parent, at the same guest offset.
    Parent,
}

/// A run of bytes in the storage, pinned while it is read.
struct StoredRun {
    /// Offset in the storage, in bytes.
    offset: u64,
    len: usize,
    /// Block of the first byte.
    block: u64,
}

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn read(&self, sector: u64, buf: &mut [u8]) -> Result<()> {
        let range = self.request(sector, buf.len() as u64 / SECTOR_SIZE)?;
        let layout = self.layout();
        let _guard = self.hold(&range, &layout).await;
        self.read_locked(&layout, range, buf).await
    }

    /// Locks the blocks of a read so that they do not move. Blocks of a read-only image never move, so its
    /// readers take no lock.
    async fn hold(&self, range: &Range<u64>, layout: &Layout) -> Option<RangeGuard> {
        match self.access {
            Access::Read => None,
            Access::ReadWrite => {
                Some(self.blocks.lock_shared(blocks_of(range, layout.block_size)).await)
            }
        }
    }

    /// Locks the blocks as [`hold`](Self::hold) does, without waiting. Returns `None` if the lock is not
    /// available.
    fn try_hold(&self, range: &Range<u64>, layout: &Layout) -> Option<Option<RangeGuard>> {
        match self.access {
            Access::Read => Some(None),
            Access::ReadWrite => {
                self.blocks.try_lock_shared(blocks_of(range, layout.block_size)).map(Some)
            }
        }
    }

    /// Reads into memory that the storage chooses, if the whole range is one run there. Work that needs no
    /// waiting is done in this call. Every read in flight holds this future, so the future keeps as little as
    /// it can.
    pub(super) fn read_given(&self, sector: u64, count: u64) -> BoxFuture<'_, Result<Bytes>> {
        let range = match self.request(sector, count) {
            Ok(range) => range,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let Some((StoredRun { offset, len, block }, guard)) = self.try_stored(&range) else {
            return Box::pin(self.read_parts(range));
        };
        let given = self.storage.read_bytes(offset, len);
        if guard.is_none() {
            // Waiting here would only improve the message about a file that was truncated after it was
            // opened.
            return given;
        }
        Box::pin(async move {
            let _guard = guard;
            given.await.map_err(|error| self.explain_short(error, block))
        })
    }

    /// Returns the location of a request that is stored in one run, if known without waiting.
    fn try_stored(&self, range: &Range<u64>) -> Option<(StoredRun, Option<RangeGuard>)> {
        let layout = self.layout();
        let guard = self.try_hold(range, &layout)?;
        let first = self.lookup(layout.block_at(range.start).0)?;
        // `read_parts`, which may wait, reports the error.
        Some((self.in_one_run(&layout, range, first).ok()??, guard))
    }

    /// Returns the location of a request that is stored in one run. `first` is the entry of its first block.
    #[inline(always)]
    fn in_one_run(
        &self,
        layout: &Layout,
        range: &Range<u64>,
        first: Slot,
    ) -> Result<Option<StoredRun>> {
        if range.is_empty() {
            return Ok(None);
        }
        match self.source(layout, first, range.start, range.end)? {
            (Source::Stored(offset), end) if end == range.end => {
                let len = length(range.end - range.start)?;
                Ok(Some(StoredRun { offset, len, block: layout.block_at(range.start).0 }))
            }
            _ => Ok(None),
        }
    }

    /// Reads as [`read_given`](Self::read_given) does, for a request that has to wait or is stored in several
    /// runs. Several runs are read into a new buffer.
    async fn read_parts(&self, range: Range<u64>) -> Result<Bytes> {
        let layout = self.layout();
        let _guard = self.hold(&range, &layout).await;
        if !range.is_empty() {
            let first = self.slot_of(layout.block_at(range.start).0).await?;
            let run = self.in_one_run(&layout, &range, first)?;
            if let Some(StoredRun { offset, len, block }) = run {
                let given = self.storage.read_bytes(offset, len).await;
                return given.map_err(|error| self.explain_short(error, block));
            }
        }
        let mut buffer = PageBuffer::new(length(range.end - range.start)?);
        self.read_locked(&layout, range, &mut buffer).await?;
        Ok(Bytes::from(buffer))
    }

    /// Reads as `read` does. The caller holds a lock on the blocks.
    pub(super) async fn read_locked(
        &self,
        layout: &Layout,
        range: Range<u64>,
        mut buf: &mut [u8],
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (block, _) = layout.block_at(at);
            let first = self.slot_of(block).await?;
            let (source, end) = self.source(layout, first, at, range.end)?;
            let (head, rest) = split(buf, length(end - at)?)?;
            match source {
                Source::Zero => head.fill(0),
                Source::Parent => read_parent(self.parent.as_ref(), at, head).await?,
                Source::Stored(offset) => {
                    let done = match self.storage.try_read_at(offset, head) {
                        Some(done) => done,
                        None => self.storage.read_at(offset, head).await,
                    };
                    done.map_err(|error| self.explain_short(error, block))?;
                }
            }
            buf = rest;
            at = end;
        }
        filled(buf)
    }

    /// Reads as `read` does, without waiting. Returns `None` if it would have to wait.
    pub(super) fn try_read(&self, sector: u64, mut buf: &mut [u8]) -> Option<Result<()>> {
        let skips = self.long_way.load(Ordering::Relaxed);
        if skips > 0 {
            self.long_way.store(skips - 1, Ordering::Relaxed);
            return None;
        }
        let range = match self.request(sector, buf.len() as u64 / SECTOR_SIZE) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        let layout = self.layout();
        let _guard = self.try_hold(&range, &layout)?;
        let mut at = range.start;
        while at < range.end {
            let (block, _) = layout.block_at(at);
            let first = self.lookup(block)?;
            let (source, end) = match self.source(&layout, first, at, range.end) {
                Ok(source) => source,
                Err(error) => return Some(Err(error)),
            };
            let (head, rest) = match split(buf, length(end - at).ok()?) {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            let done = match source {
                Source::Zero => {
                    head.fill(0);
                    Ok(())
                }
                Source::Parent => try_read_parent(self.parent.as_ref(), at, head)?,
                Source::Stored(offset) => match self.storage.try_read_at(offset, head) {
                    Some(done) => done.map_err(|error| self.explain_short(error, block)),
                    None => {
                        self.long_way.store(LONG_WAY, Ordering::Relaxed);
                        return None;
                    }
                },
            };
            if done.is_err() {
                return Some(done);
            }
            buf = rest;
            at = end;
        }
        Some(filled(buf))
    }

    /// Returns the source of the bytes at `at`, and the end (at most `end`) of their run in that source.
    /// `first` is the entry of the block at `at`. Inlined: a caller that also looks up the block then
    /// computes it only once.
    #[inline(always)]
    pub(super) fn source(
        &self,
        layout: &Layout,
        first: Slot,
        at: u64,
        end: u64,
    ) -> Result<(Source, u64)> {
        let (block, within) = layout.block_at(at);
        let source = match first {
            Slot::Data(slot) => Source::Stored(slot_start(layout, slot)? + layout.lead + within),
            Slot::Free if self.parent.is_some() => Source::Parent,
            Slot::Free | Slot::Zero => Source::Zero,
        };
        let rest = layout.block_size - within;
        if end - at <= rest {
            Ok((source, end))
        } else {
            Ok((source, self.run_end(layout, (block, first, source), at + rest, end)))
        }
    }

    /// Returns the end (at most `end`) of the run that a block starts. The tuple holds the block's number,
    /// its entry and the source of its bytes. The block itself ends at `run_end`.
    fn run_end(
        &self,
        layout: &Layout,
        (block, first, source): (u64, Slot, Source),
        mut run_end: u64,
        end: u64,
    ) -> u64 {
        let contiguous = layout.stride == layout.block_size;
        let mut step = 1;
        while run_end < end {
            let follows = match (self.lookup(block + step), source) {
                (Some(next @ Slot::Data(_)), Source::Stored(_)) => {
                    contiguous && next == first.step(step)
                }
                (Some(Slot::Free), Source::Parent) => true,
                (Some(Slot::Free), Source::Zero) => self.parent.is_none(),
                (Some(Slot::Zero), Source::Zero) => true,
                _ => false,
            };
            if !follows {
                break;
            }
            run_end = (run_end + layout.block_size).min(end);
            step += 1;
        }
        run_end
    }

    /// Explains an out-of-range read. With a valid entry, it only happens if another program truncated the
    /// file.
    fn explain_short(&self, error: Error, block: u64) -> Error {
        if error.kind() != ErrorKind::OutOfRange {
            return error;
        }
        Error::new(ErrorKind::Corrupt, format!("block {block} is stored past the end of the file"))
            .in_image(self.storage.uri())
            .because(error)
    }
}

pub(super) fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::new(ErrorKind::Limit, "the request is too large"))
}

/// Splits off the first `len` bytes of a buffer.
fn split(buf: &mut [u8], len: usize) -> Result<(&mut [u8], &mut [u8])> {
    buf.split_at_mut_checked(len).ok_or_else(|| bug("a read goes past the buffer it fills"))
}

/// Checks that the whole buffer was filled.
fn filled(rest: &[u8]) -> Result<()> {
    if rest.is_empty() { Ok(()) } else { Err(bug("a read leaves the end of its buffer as it was")) }
}

/// Returns the part of `range` that lies on the parent. Past the parent's end, everything reads as zeros.
pub(super) fn on_parent(parent: Option<&Disk>, range: Range<u64>) -> Range<u64> {
    let size = parent.map_or(0, Disk::size);
    range.start.min(size)..range.end.min(size)
}

/// Reads whole sectors of a parent that may be smaller than its child.
pub(super) async fn read_parent(parent: Option<&Disk>, at: u64, buf: &mut [u8]) -> Result<()> {
    let covered = on_parent(parent, at..at + buf.len() as u64);
    let (head, rest) = split(buf, length(covered.end - covered.start)?)?;
    rest.fill(0);
    match parent {
        Some(parent) if !head.is_empty() => parent.read_at(at, head).await,
        _ => Ok(()),
    }
}

fn try_read_parent(parent: Option<&Disk>, at: u64, buf: &mut [u8]) -> Option<Result<()>> {
    let covered = on_parent(parent, at..at + buf.len() as u64);
    let (head, rest) = match split(buf, length(covered.end - covered.start).ok()?) {
        Ok(parts) => parts,
        Err(error) => return Some(Err(error)),
    };
    rest.fill(0);
    match parent {
        Some(parent) if !head.is_empty() => {
            parent.device().try_read_sectors(at / SECTOR_SIZE, head)
        }
        _ => Some(Ok(())),
    }
}
