//! Copying the pieces: reading, looking for zeros, and writing in order.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use block_core::{Bytes, PageBuffer, WriteFlags, ZeroFlags};
use tokio::sync::OwnedSemaphorePermit;

use super::buffers::{Buffers, Memory};
use super::convert::Conversion;
use super::copy_plan::{Piece, Segment, room_for};
use super::early_flush::EarlyFlush;
use super::error::{JobError, Result, Side, Step};
use super::fingerprint::{Fingerprint, Sum};
use super::job::Job;
use super::lost::Lost;
use super::order::Order;
use super::progress::JobProgress;
use super::zeros::zero_runs;
use super::{PIECE, difference, is_direct};

/// Bytes given up at a time when reading fails.
const SALVAGE: u64 = 4096;

/// From so many bytes on, a piece is written by the thread that has read it, for they are in its processor's
/// cache. With fewer, a thread need not wait for its turn, but leaves them to the one whose turn it is.
const LARGE: usize = 512 << 10;

/// Pieces at most whose bytes are left to another thread at a time.
const LEFT: usize = 4;

/// A copy under way.
pub(super) struct CopyJob {
    conversion: Conversion,
    /// What is read and not yet written, when it is to be written in order.
    order: Option<Order<Left>>,
    early_flush: EarlyFlush,
    /// Buffers for threads that leave theirs with its piece, made when they are first used.
    spare: Mutex<Vec<PageBuffer>>,
    progress: Arc<dyn JobProgress>,
    lost: Mutex<Lost>,
}

/// The error of a copy that does not know what it is doing: nothing is left out in silence.
fn missing() -> block_core::Error {
    let text = "bytes that were read are missing";
    block_core::Error::new(block_core::ErrorKind::Io, text)
}

/// The error of a part of the source that cannot be read at `offset`.
fn unread(part: usize, offset: u64, error: block_core::Error) -> JobError {
    JobError::new(Side::Source(part), Step::Read, error).at(offset)
}

/// A piece that has been read, left to another thread.
struct Left {
    parts: Vec<(Segment, Ready)>,
    /// Empty, where nothing of it is needed.
    buffer: PageBuffer,
    /// Given back when it has been written.
    _place: Option<OwnedSemaphorePermit>,
}

/// A segment that is ready to be written.
enum Ready {
    /// The layer below has copied it.
    Copied,
    /// Zeros, of which no bytes are written.
    Zeros,
    /// Bytes of the piece's buffer, and where in them are zeros that need not be written.
    Bytes(Range<usize>, Vec<(Range<usize>, bool)>),
    /// Bytes in the memory of the storage that has read them, and where in them are such zeros.
    Given(Bytes, Vec<(Range<usize>, bool)>),
}

#[async_trait]
impl Job for CopyJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let Piece { number, segments, place } = piece;
        let own = buffers.one().sized(PIECE);
        let mut used = 0;
        let mut parts = Vec::with_capacity(segments.len());
        for segment in segments {
            let room = own.get_mut(used..).unwrap_or_default();
            let (ready, len) = self.make_ready(&segment, room, used).await?;
            used += len;
            parts.push((segment, ready));
        }
        let Some(order) = &self.order else {
            return self.write(&parts, &self.memory_of(buffers)).await;
        };
        let left = match parts.iter().map(|(_, ready)| self.bytes_of(ready)).sum() {
            0 => Some(PageBuffer::default()),
            1..LARGE if !order.is_turn_of(number) => {
                self.spare().pop().map(|spare| buffers.exchange(spare))
            }
            _ => None,
        };
        let mut next = match left {
            Some(buffer) => order.leave(number, Left { parts, buffer, _place: place }),
            None => {
                order.turn_of(number).await;
                self.write(&parts, &self.memory_of(buffers)).await?;
                drop(place);
                order.done()
            }
        };
        while let Some(Left { parts, buffer, _place }) = next {
            self.write(&parts, &Memory::Lent(&buffer)).await?;
            if !buffer.is_empty() {
                self.spare().push(buffer);
            }
            next = order.done();
        }
        Ok(())
    }
}

impl CopyJob {
    /// Nothing is copied yet.
    pub fn new(conversion: Conversion, progress: Arc<dyn JobProgress>) -> Self {
        // Where blocks are stored in the order they are first written, the order of the guest reads fastest.
        // And writers of one file in the page cache would wait for each other inside the kernel, spinning.
        let has_blocks = conversion.target.info().block_size.is_some();
        let in_order = !conversion.options.any_order && (has_blocks || !conversion.is_direct());
        Self {
            conversion,
            order: in_order.then(Order::default),
            early_flush: EarlyFlush::default(),
            spare: Mutex::new((0..LEFT).map(|_| PageBuffer::default()).collect()),
            progress,
            lost: Mutex::default(),
        }
    }

    /// What could not be read so far.
    pub fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fingerprint of everything read so far, where it is taken.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.conversion.sum.as_ref().map(Sum::value)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<PageBuffer>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read into a thread's own buffer. It is given away where the target writes from there.
    fn memory_of<'a>(&self, buffers: &'a mut Buffers) -> Memory<'a> {
        if is_direct(&self.conversion.target) {
            Memory::Given(buffers.give_away())
        } else {
            Memory::Lent(buffers.one().sized(PIECE))
        }
    }

    /// How many bytes in memory a segment writes.
    fn bytes_of(&self, ready: &Ready) -> usize {
        let (len, runs) = match ready {
            Ready::Copied | Ready::Zeros => return 0,
            Ready::Bytes(range, runs) => (range.len(), runs),
            Ready::Given(bytes, runs) => (bytes.len(), runs),
        };
        // Without a list, all of them are written.
        if runs.is_empty() {
            len
        } else {
            runs.iter().filter(|(_, zero)| !zero).map(|(range, _)| range.len()).sum()
        }
    }

    /// Reads what has to be read of a segment into the beginning of `room`, which begins at `start` of the
    /// piece's buffer. Says how many bytes of it are taken.
    async fn make_ready(
        &self,
        segment: &Segment,
        room: &mut [u8],
        start: usize,
    ) -> Result<(Ready, usize)> {
        let writes_zeros =
            self.conversion.options.sparse == 0 && self.conversion.options.base.is_none();
        if segment.zero && !writes_zeros {
            return Ok((Ready::Zeros, 0));
        }
        if !segment.zero && self.conversion.options.offload && self.offload(segment).await? {
            return Ok((Ready::Copied, 0));
        }
        let len = segment.len as usize;
        if !segment.zero {
            let given = self.read_given(segment, len).await?;
            if let Some(mut bytes) = given {
                let runs = self.look_at(segment, &bytes);
                if !runs.is_empty() && runs.iter().all(|(_, zero)| *zero) {
                    // None of them is needed, and many such pieces may wait for their turn.
                    bytes = Bytes::new();
                }
                return Ok((Ready::Given(bytes, runs), 0));
            }
        }
        let Some(bytes) = room.get_mut(..len) else {
            return Err(JobError::internal("a piece of the copy is larger than its buffer"));
        };
        let mut runs = Vec::new();
        if segment.zero {
            bytes.fill(0)
        } else {
            runs = self.read(segment, bytes).await?
        }
        Ok((Ready::Bytes(start..start + len, runs), room_for(segment.len) as usize))
    }

    /// Writes a piece.
    async fn write(&self, parts: &[(Segment, Ready)], memory: &Memory<'_>) -> Result<()> {
        for (segment, ready) in parts {
            self.write_segment(segment, ready, memory)
                .await
                .map_err(|error| JobError::new(Side::Target, Step::Write, error).at(segment.to))?;
        }
        self.progress.done(parts.iter().map(|(segment, _)| segment.len).sum());
        Ok(())
    }

    async fn write_segment(
        &self,
        segment: &Segment,
        ready: &Ready,
        memory: &Memory<'_>,
    ) -> block_core::Result<()> {
        let target = &self.conversion.target;
        let (to, len) = (segment.to, segment.len);
        let (memory, runs) = match (ready, &self.conversion.options.base) {
            (Ready::Copied, _) => return Ok(()),
            (Ready::Zeros, Some(base)) => return difference::zero(base, target, to, len).await,
            (Ready::Zeros, None) => {
                return target.write_zeroes(to, len, ZeroFlags::MAY_UNMAP).await;
            }
            // A piece that is all zeros waits without its buffer.
            (Ready::Bytes(range, runs), _) => {
                (memory.part(range.clone()).unwrap_or(Memory::Lent(&[])), runs)
            }
            (Ready::Given(bytes, runs), _) => (Memory::Given(bytes.clone()), runs),
        };
        if runs.is_empty() && memory.len() as u64 != len {
            return Err(missing());
        }
        match &self.conversion.options.base {
            Some(base) => difference::write(base, target, to, &memory).await,
            None if self.conversion.options.sparse == 0 => self.write_bytes(to, memory).await,
            None => self.write_runs(to, &memory, runs).await,
        }
    }

    /// Fills `buf`, and says where in it are zeros that need not be written.
    async fn read(&self, segment: &Segment, buf: &mut [u8]) -> Result<Vec<(Range<usize>, bool)>> {
        self.read_bytes(segment, buf).await?;
        Ok(self.look_at(segment, buf))
    }

    /// Adds what was read to the fingerprint, and says where in it are zeros that need not be written.
    fn look_at(&self, segment: &Segment, bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
        if let Some(sum) = &self.conversion.sum {
            sum.add(segment.to, bytes);
        }
        let least = self.conversion.options.sparse as usize;
        let looks = least > 0 && self.conversion.options.base.is_none();
        if looks { zero_runs(bytes, least) } else { Vec::new() }
    }

    /// Takes the bytes where the storage has read them. `None`: it does not give them away, or what of them can
    /// be read is to be found out.
    async fn read_given(&self, segment: &Segment, len: usize) -> Result<Option<Bytes>> {
        let part = self.conversion.source.part(segment.part);
        let Some(part) = part.filter(|part| is_direct(&part.disk)) else { return Ok(None) };
        match part.disk.read_bytes(segment.from, len).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) if self.conversion.options.salvage => Ok(None),
            Err(error) => Err(unread(segment.part, segment.from, error)),
        }
    }

    /// Reads a segment, or what of it can be read.
    async fn read_bytes(&self, segment: &Segment, buf: &mut [u8]) -> Result<()> {
        let Some(part) = self.conversion.source.part(segment.part) else { return Ok(()) };
        let mut from = segment.from;
        let whole = part.disk.read_at(from, buf).await;
        let Err(error) = whole else { return Ok(()) };
        if !self.conversion.options.salvage {
            return Err(unread(segment.part, from, error));
        }
        for unit in buf.chunks_mut(SALVAGE as usize) {
            if let Err(error) = part.disk.read_at(from, unit).await {
                unit.fill(0);
                self.lost().add(from, unit.len() as u64, error);
            }
            from += unit.len() as u64;
        }
        Ok(())
    }

    /// Writes what is not zero; zeros only where the target does not have them.
    async fn write_runs(
        &self,
        to: u64,
        memory: &Memory<'_>,
        runs: &[(Range<usize>, bool)],
    ) -> block_core::Result<()> {
        let target = &self.conversion.target;
        for (range, zero) in runs.iter().cloned() {
            let at = to + range.start as u64;
            let len = range.len() as u64;
            match (zero, self.conversion.options.target_is_zero) {
                (true, true) => {}
                (true, false) => target.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await?,
                (false, _) => {
                    let part = memory.part(range).ok_or_else(missing)?;
                    self.write_bytes(at, part).await?;
                }
            }
        }
        Ok(())
    }

    async fn write_bytes(&self, to: u64, memory: Memory<'_>) -> block_core::Result<()> {
        let target = &self.conversion.target;
        let len = memory.len() as u64;
        match memory {
            Memory::Lent(bytes) => target.write_at(to, bytes, WriteFlags::empty()).await?,
            Memory::Given(bytes) => target.write_bytes(to, bytes, WriteFlags::empty()).await?,
        }
        self.early_flush.wrote(target, len);
        Ok(())
    }

    /// Lets the layer below copy, where both sides lie at fixed places of storages that can.
    async fn offload(&self, segment: &Segment) -> Result<bool> {
        let Some(part) = self.conversion.source.part(segment.part) else { return Ok(false) };
        let range = segment.from..segment.from + segment.len;
        let copied =
            super::offload::copy(&part.disk, range, &self.conversion.target, segment.to).await;
        copied.map_err(|error| JobError::new(Side::Neither, Step::Copy, error).at(segment.to))
    }
}
