//! Copying a source into a disk: holes are never read, zeros never written where zeros are.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use block_core::{Disk, PageBuffer, WriteFlags, ZeroFlags};
use tokio::sync::oneshot;

use super::difference;
use super::job::{Buffers, Job, Plan, run};
use super::rate::Rate;
use super::source::{Source, Walk};
use super::zeros::zero_runs;
use super::{Fingerprint, PIECE};
use crate::console::Console;
use crate::error::{Failure, Result, reasons};
use crate::progress::Progress;

/// What to copy, and how.
#[derive(Debug)]
pub(crate) struct Conversion {
    /// From where.
    pub source: Source,
    /// To where; at least as large as the source.
    pub target: Disk,
    /// Whether the target reads as zeros before anything is written.
    pub target_is_zero: bool,
    /// The target's parent, when only what differs from it is to be written.
    pub base: Option<Disk>,
    /// Runs of zeros from this many bytes on are not written as data; 0: everything is written.
    pub sparse: u64,
    /// How many pieces are worked on at a time.
    pub tasks: usize,
    /// Whether both sides go through the page cache.
    pub cached: bool,
    /// Whether pieces may be written in any order.
    pub any_order: bool,
    /// Whether the storages may copy among themselves, without zeros being looked for.
    pub offload: bool,
    /// Whether what cannot be read becomes zeros.
    pub salvage: bool,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Taken of everything read, when the copy is to be verified.
    pub fingerprint: Option<Arc<Fingerprint>>,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copied {
    /// Bytes that could not be read and became zeros.
    pub lost: u64,
}

/// Copies.
pub(crate) async fn convert(
    conversion: Conversion,
    progress: &Arc<Progress>,
    console: &Console,
) -> Result<Copied> {
    // Where blocks are stored in the order they are first written, the order of the guest reads fastest.
    // And writers of one file in the page cache would wait for each other inside the kernel, spinning.
    let has_blocks = conversion.target.info().block_size.is_some();
    let in_order = !conversion.any_order && (has_blocks || conversion.cached);
    let plan = CopyPlan {
        walk: conversion.source.walk(),
        source: conversion.source.clone(),
        left: None,
        skip_zeros: conversion.target_is_zero && conversion.sparse > 0,
        zeros_as_data: conversion.sparse == 0 && conversion.base.is_none(),
        rate: Rate::new(conversion.rate),
        previous: None,
        in_order,
        progress: Arc::clone(progress),
    };
    let tasks = conversion.tasks;
    let job = Arc::new(CopyJob {
        conversion,
        progress: Arc::clone(progress),
        lost: std::sync::Mutex::new(Vec::new()),
    });
    run(plan, Arc::clone(&job), tasks).await?;
    let lost = job.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (offset, why) in lost.iter().take(20) {
        console.say(format_args!("warning: error while reading offset {offset}: {why}"));
    }
    Ok(Copied { lost: lost.len() as u64 * SALVAGE })
}

/// Bytes given up at a time when reading fails.
const SALVAGE: u64 = 4096;

/// A piece of the copy: what one thread reads, and then writes when its turn has come.
#[derive(Debug)]
pub(crate) struct Piece {
    segments: Vec<Segment>,
    turn: Option<Turn>,
}

/// A run of bytes that are copied alike.
#[derive(Debug, Clone, Copy)]
struct Segment {
    part: usize,
    /// First byte in the part's disk.
    from: u64,
    /// First byte in the target.
    to: u64,
    len: u64,
    zero: bool,
}

/// Segments in a piece at most.
const MANY: usize = 64;

/// A place in the order of writing.
#[derive(Debug)]
struct Turn {
    mine: Option<oneshot::Receiver<()>>,
    next: oneshot::Sender<()>,
}

struct CopyPlan {
    source: Source,
    walk: Walk,
    /// What is left of the extent in hand.
    left: Option<Segment>,
    skip_zeros: bool,
    zeros_as_data: bool,
    rate: Rate,
    previous: Option<oneshot::Receiver<()>>,
    in_order: bool,
    progress: Arc<Progress>,
}

#[async_trait]
impl Plan for CopyPlan {
    type Piece = Piece;

    /// As many segments as fit into a buffer: small extents do not each cost a turn.
    async fn next(&mut self) -> Result<Option<Piece>> {
        let mut segments = Vec::new();
        let mut room = PIECE;
        while segments.len() < MANY {
            self.advance().await?;
            let Some(left) = &mut self.left else { break };
            let buffered = !left.zero || self.zeros_as_data;
            let len = match buffered {
                true => left.len.min(PIECE - left.to % PIECE),
                false => left.len,
            };
            let takes = if buffered { room_for(len) } else { 0 };
            if takes > room {
                break;
            }
            room -= takes;
            let segment = Segment { len, ..*left };
            left.from += len;
            left.to += len;
            left.len -= len;
            if !segment.zero {
                self.rate.take(len).await;
            }
            segments.push(segment);
        }
        match segments.is_empty() {
            true => Ok(None),
            false => Ok(Some(Piece { segments, turn: self.turn() })),
        }
    }
}

impl CopyPlan {
    /// Takes the next extent that is not skipped in hand, where none is. None is at the end.
    async fn advance(&mut self) -> Result<()> {
        while self.left.is_none_or(|left| left.len == 0) {
            self.left = None;
            let next = self.walk.next().await;
            let next =
                next.map_err(|error| Failure::because("error while reading the map", &error))?;
            let Some((index, extent)) = next else { return Ok(()) };
            let Some(part) = self.source.part(index) else { return Ok(()) };
            let to = part.start + (extent.start - part.range.start);
            let zero = !extent.is_data();
            if zero && self.skip_zeros {
                self.progress.skip(extent.len);
            } else {
                let (from, len) = (extent.start, extent.len);
                self.left = Some(Segment { part: index, from, to, len, zero });
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Option<Turn> {
        if !self.in_order {
            return None;
        }
        let (next, following) = oneshot::channel();
        Some(Turn { mine: self.previous.replace(following), next })
    }
}

/// Bytes of a buffer that a segment takes: each begins on a page.
fn room_for(len: u64) -> u64 {
    len.next_multiple_of(PageBuffer::ALIGNMENT as u64)
}

struct CopyJob {
    conversion: Conversion,
    progress: Arc<Progress>,
    /// What could not be read, and why.
    lost: std::sync::Mutex<Vec<(u64, String)>>,
}

/// A segment that is ready to be written.
enum Ready<'b> {
    /// The layer below has copied it.
    Copied,
    /// Zeros, of which no bytes are written.
    Zeros,
    /// Bytes, and where in them are zeros that need not be written.
    Bytes(&'b [u8], Vec<(Range<usize>, bool)>),
}

#[async_trait]
impl Job for CopyJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let mut room = buffers.one(PIECE);
        let mut ready = Vec::with_capacity(piece.segments.len());
        for segment in &piece.segments {
            let bytes;
            (bytes, room) = self.make_ready(segment, room).await?;
            ready.push(bytes);
        }
        let next = match piece.turn {
            Some(Turn { mine, next }) => {
                // The one before has failed and said why.
                let Ok(()) = (match mine {
                    Some(mine) => mine.await,
                    None => Ok(()),
                }) else {
                    return Ok(());
                };
                Some(next)
            }
            None => None,
        };
        for (segment, ready) in piece.segments.iter().zip(ready) {
            self.write(segment, ready).await.map_err(|error| {
                Failure::because(format_args!("error while writing at byte {}", segment.to), &error)
            })?;
        }
        if let Some(next) = next {
            // Nobody waits behind the last piece.
            let _ = next.send(());
        }
        self.progress.advance(piece.segments.iter().map(|segment| segment.len).sum());
        Ok(())
    }
}

impl CopyJob {
    /// Reads what has to be read of a segment into the beginning of `room`, and gives the rest back.
    async fn make_ready<'b>(
        &self,
        segment: &Segment,
        room: &'b mut [u8],
    ) -> Result<(Ready<'b>, &'b mut [u8])> {
        let writes_zeros = self.conversion.sparse == 0 && self.conversion.base.is_none();
        if segment.zero && !writes_zeros {
            return Ok((Ready::Zeros, room));
        }
        if !segment.zero && self.conversion.offload && self.offload(segment).await? {
            return Ok((Ready::Copied, room));
        }
        let taken = (room_for(segment.len) as usize).min(room.len());
        let (bytes, rest) = room.split_at_mut(taken);
        let Some(bytes) = bytes.get_mut(..segment.len as usize) else {
            return Err(Failure::new("a piece of the copy is larger than its buffer"));
        };
        let mut runs = Vec::new();
        match segment.zero {
            true => bytes.fill(0),
            false => runs = self.read(segment, bytes).await?,
        }
        Ok((Ready::Bytes(bytes, runs), rest))
    }

    async fn write(&self, segment: &Segment, ready: Ready<'_>) -> block_core::Result<()> {
        let target = &self.conversion.target;
        let (to, len) = (segment.to, segment.len);
        match (&self.conversion.base, ready) {
            (_, Ready::Copied) => Ok(()),
            (Some(base), Ready::Zeros) => difference::zero(base, target, to, len).await,
            (None, Ready::Zeros) => target.write_zeroes(to, len, ZeroFlags::MAY_UNMAP).await,
            (Some(base), Ready::Bytes(bytes, _)) => {
                difference::write(base, target, to, bytes).await
            }
            (None, Ready::Bytes(bytes, _)) if self.conversion.sparse == 0 => {
                target.write_at(to, bytes, WriteFlags::empty()).await
            }
            (None, Ready::Bytes(bytes, runs)) => self.write_runs(to, bytes, runs).await,
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
                let mut lost = self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                lost.push((from, reasons(&error)));
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
        runs: Vec<(Range<usize>, bool)>,
    ) -> block_core::Result<()> {
        let target = &self.conversion.target;
        for (range, zero) in runs {
            let at = to + range.start as u64;
            let bytes = buf.get(range).unwrap_or_default();
            match (zero, self.conversion.target_is_zero) {
                (true, true) => {}
                (true, false) => {
                    target.write_zeroes(at, bytes.len() as u64, ZeroFlags::MAY_UNMAP).await?;
                }
                (false, _) => target.write_at(at, bytes, WriteFlags::empty()).await?,
            }
        }
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
