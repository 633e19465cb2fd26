//! Copying the pieces: reading, looking for zeros, and writing in order.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use block_core::{PageBuffer, WriteFlags, ZeroFlags};
use tokio::sync::OwnedSemaphorePermit;

use super::convert::Conversion;
use super::copy_plan::{Piece, Segment, room_for};
use super::early_flush::EarlyFlush;
use super::job::{Buffers, Job};
use super::order::Order;
use super::pace::Pace;
use super::zeros::zero_runs;
use super::{PIECE, difference};
use crate::error::{Failure, Result, reasons};
use crate::progress::Progress;

/// Bytes given up at a time when reading fails.
pub(super) const SALVAGE: u64 = 4096;

/// A copy under way.
pub(super) struct CopyJob {
    conversion: Conversion,
    pace: Pace,
    /// What is read and not yet written, when it is to be written in order.
    order: Option<Order<Filled>>,
    early_flush: EarlyFlush,
    /// Buffers of pieces that another thread than the one that read them has written.
    spare: Mutex<Vec<PageBuffer>>,
    progress: Arc<Progress>,
    /// What could not be read, and why.
    lost: Mutex<Vec<(u64, String)>>,
}

/// A piece that has been read.
struct Filled {
    parts: Vec<(Segment, Ready)>,
    buffer: PageBuffer,
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
}

#[async_trait]
impl Job for CopyJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let began = self.pace.begin();
        let mut buffer = self.take_buffer(buffers);
        let mut used = 0;
        let mut parts = Vec::with_capacity(piece.segments.len());
        for segment in piece.segments {
            let room = buffer.get_mut(used..).unwrap_or_default();
            let (ready, len) = self.make_ready(&segment, room, used).await?;
            used += len;
            parts.push((segment, ready));
        }
        let read = began.map(|began| (began, Instant::now()));
        if parts.iter().all(|(_, ready)| self.needs_no_bytes(ready)) {
            self.give_back(std::mem::take(&mut buffer), buffers);
        }
        let filled = Filled { parts, buffer, _place: piece.place };
        let mut turn = match &self.order {
            Some(order) => order.ready(piece.number, filled),
            None => Some(filled),
        };
        while let Some(filled) = turn {
            self.write(&filled.parts, &filled.buffer).await?;
            self.give_back(filled.buffer, buffers);
            turn = self.order.as_ref().and_then(Order::done);
        }
        if let Some((began, read)) = read {
            self.pace.end(began, read);
        }
        Ok(())
    }

    fn wants_help(&self) -> bool {
        self.pace.wants_help()
    }
}

impl CopyJob {
    /// Nothing is copied yet.
    pub fn new(conversion: Conversion, progress: Arc<Progress>) -> Self {
        // Where blocks are stored in the order they are first written, the order of the guest reads fastest.
        // And writers of one file in the page cache would wait for each other inside the kernel, spinning.
        let has_blocks = conversion.target.info().block_size.is_some();
        let in_order = !conversion.any_order && (has_blocks || conversion.cached);
        Self {
            pace: Pace::new(!conversion.begins_alone),
            conversion,
            order: in_order.then(Order::default),
            early_flush: EarlyFlush::default(),
            spare: Mutex::default(),
            progress,
            lost: Mutex::default(),
        }
    }

    /// Where what could not be read lies, and why.
    pub fn lost(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's own buffer, which is in its processor's cache; another, where that is with its piece.
    fn take_buffer(&self, buffers: &mut Buffers) -> PageBuffer {
        let buffer = buffers.take().or_else(|| self.spare().pop());
        buffer.unwrap_or_else(|| PageBuffer::new(PIECE as usize))
    }

    fn give_back(&self, buffer: PageBuffer, buffers: &mut Buffers) {
        if let Some(buffer) = Some(buffer).filter(|buffer| !buffer.is_empty())
            && let Some(spare) = buffers.put(buffer)
        {
            self.spare().push(spare);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<PageBuffer>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether writing a segment takes nothing from the piece's buffer.
    fn needs_no_bytes(&self, ready: &Ready) -> bool {
        match ready {
            Ready::Copied | Ready::Zeros => true,
            // Without a list, all of them are written.
            Ready::Bytes(_, runs) => !runs.is_empty() && runs.iter().all(|(_, zero)| *zero),
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
        let writes_zeros = self.conversion.sparse == 0 && self.conversion.base.is_none();
        if segment.zero && !writes_zeros {
            return Ok((Ready::Zeros, 0));
        }
        if !segment.zero && self.conversion.offload && self.offload(segment).await? {
            return Ok((Ready::Copied, 0));
        }
        let len = segment.len as usize;
        let Some(bytes) = room.get_mut(..len) else {
            return Err(Failure::new("a piece of the copy is larger than its buffer"));
        };
        let mut runs = Vec::new();
        match segment.zero {
            true => bytes.fill(0),
            false => runs = self.read(segment, bytes).await?,
        }
        Ok((Ready::Bytes(start..start + len, runs), room_for(segment.len) as usize))
    }

    /// Writes a piece.
    async fn write(&self, parts: &[(Segment, Ready)], buffer: &[u8]) -> Result<()> {
        for (segment, ready) in parts {
            self.write_segment(segment, ready, buffer).await.map_err(|error| {
                Failure::because(format_args!("error while writing at byte {}", segment.to), &error)
            })?;
        }
        self.progress.advance(parts.iter().map(|(segment, _)| segment.len).sum());
        Ok(())
    }

    async fn write_segment(
        &self,
        segment: &Segment,
        ready: &Ready,
        buffer: &[u8],
    ) -> block_core::Result<()> {
        let target = &self.conversion.target;
        let (to, len) = (segment.to, segment.len);
        let (range, runs) = match (ready, &self.conversion.base) {
            (Ready::Copied, _) => return Ok(()),
            (Ready::Zeros, Some(base)) => return difference::zero(base, target, to, len).await,
            (Ready::Zeros, None) => {
                return target.write_zeroes(to, len, ZeroFlags::MAY_UNMAP).await;
            }
            (Ready::Bytes(range, runs), _) => (range.clone(), runs),
        };
        let bytes = buffer.get(range).unwrap_or_default();
        match &self.conversion.base {
            Some(base) => difference::write(base, target, to, bytes).await,
            None if self.conversion.sparse == 0 => self.write_bytes(to, bytes).await,
            None => self.write_runs(to, bytes, runs).await,
        }
    }

    /// Fills `buf`, and says where in it are zeros that need not be written.
    async fn read(&self, segment: &Segment, buf: &mut [u8]) -> Result<Vec<(Range<usize>, bool)>> {
        let least = self.conversion.sparse as usize;
        let looks = least > 0 && self.conversion.base.is_none();
        self.read_bytes(segment, buf).await?;
        if let Some(fingerprint) = &self.conversion.fingerprint {
            fingerprint.add(segment.to, buf);
        }
        Ok(if looks { zero_runs(buf, least) } else { Vec::new() })
    }

    /// Reads a segment, or what of it can be read.
    async fn read_bytes(&self, segment: &Segment, buf: &mut [u8]) -> Result<()> {
        let Some(part) = self.conversion.source.part(segment.part) else { return Ok(()) };
        let mut from = segment.from;
        let whole = part.disk.read_at(from, buf).await;
        let Err(error) = whole else { return Ok(()) };
        if !self.conversion.salvage {
            let place = format!("error while reading {} at byte {from}", part.name);
            return Err(Failure::because(place, &error));
        }
        for unit in buf.chunks_mut(SALVAGE as usize) {
            if let Err(error) = part.disk.read_at(from, unit).await {
                unit.fill(0);
                self.lost().push((from, reasons(&error)));
            }
            from += unit.len() as u64;
        }
        Ok(())
    }

    /// Writes what is not zero; zeros only where the target does not have them.
    async fn write_runs(
        &self,
        to: u64,
        buf: &[u8],
        runs: &[(Range<usize>, bool)],
    ) -> block_core::Result<()> {
        let target = &self.conversion.target;
        for (range, zero) in runs.iter().cloned() {
            let at = to + range.start as u64;
            let len = range.len() as u64;
            match (zero, self.conversion.target_is_zero) {
                (true, true) => {}
                (true, false) => target.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await?,
                (false, _) => {
                    let bytes = buf.get(range).unwrap_or_default();
                    self.write_bytes(at, bytes).await?;
                }
            }
        }
        Ok(())
    }

    async fn write_bytes(&self, to: u64, bytes: &[u8]) -> block_core::Result<()> {
        let target = &self.conversion.target;
        target.write_at(to, bytes, WriteFlags::empty()).await?;
        self.early_flush.wrote(target, bytes.len() as u64);
        Ok(())
    }

    /// Lets the layer below copy, where both sides lie at fixed places of storages that can.
    async fn offload(&self, segment: &Segment) -> Result<bool> {
        let Some(part) = self.conversion.source.part(segment.part) else { return Ok(false) };
        let range = segment.from..segment.from + segment.len;
        super::offload::copy(&part.disk, range, &self.conversion.target, segment.to).await.map_err(
            |error| {
                Failure::because(format_args!("error while copying at byte {}", segment.to), &error)
            },
        )
    }
}
