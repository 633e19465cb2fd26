//! Copying a source into a disk: holes are never read, zeros never written where zeros are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use block_core::{Disk, WriteFlags, ZeroFlags};
use tokio::sync::oneshot;

use super::difference;
use super::job::{Buffers, Job, Plan, run};
use super::rate::Rate;
use super::source::{Source, Walk};
use super::zeros::zero_runs;
use super::{CACHED_PIECE, Fingerprint, PIECE};
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
    /// Bytes in a piece, a power of two up to [`PIECE`].
    pub piece: u64,
    /// Whether what is written is sent to the disk along the way, because the end waits for it.
    pub durable: bool,
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
    let is_cached = conversion.piece <= CACHED_PIECE;
    let has_blocks = conversion.target.info().block_size.is_some();
    let in_order = !conversion.any_order && (has_blocks || is_cached);
    let plan = CopyPlan {
        walk: conversion.source.walk(),
        source: conversion.source.clone(),
        left: None,
        skip_zeros: conversion.target_is_zero && conversion.sparse > 0,
        zeros_as_data: conversion.sparse == 0 && conversion.base.is_none(),
        rate: Rate::new(conversion.rate),
        previous: None,
        in_order,
        piece: conversion.piece.clamp(1, PIECE),
        progress: Arc::clone(progress),
    };
    let tasks = conversion.tasks;
    let job = Arc::new(CopyJob {
        conversion,
        progress: Arc::clone(progress),
        lost: std::sync::Mutex::new(Vec::new()),
        unsaved: AtomicU64::new(0),
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

/// Bytes after which a copy that ends durable has the disk begin to save.
const UNSAVED: u64 = 64 << 20;

/// A piece of the copy.
#[derive(Debug)]
pub(crate) struct Piece {
    part: usize,
    /// First byte in the part's disk.
    from: u64,
    /// First byte in the target.
    to: u64,
    len: u64,
    zero: bool,
    turn: Option<Turn>,
}

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
    left: Option<Piece>,
    skip_zeros: bool,
    zeros_as_data: bool,
    rate: Rate,
    previous: Option<oneshot::Receiver<()>>,
    in_order: bool,
    piece: u64,
    progress: Arc<Progress>,
}

#[async_trait]
impl Plan for CopyPlan {
    type Piece = Piece;

    async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some(mut left) = self.left.take() else {
                if !self.advance().await? {
                    return Ok(None);
                }
                continue;
            };
            // Zeros need no buffer, unless they are written as data.
            let most = match left.zero && !self.zeros_as_data {
                true => left.len,
                false => self.piece - left.to % self.piece,
            };
            let len = left.len.min(most);
            let piece = Piece { len, turn: self.turn(), ..left };
            left.from += len;
            left.to += len;
            left.len -= len;
            left.turn = None;
            self.left = (left.len > 0).then_some(left);
            if !piece.zero {
                self.rate.take(len).await;
            }
            return Ok(Some(piece));
        }
    }
}

impl CopyPlan {
    /// Takes the next extent that is not skipped in hand.
    async fn advance(&mut self) -> Result<bool> {
        let next = self.walk.next().await;
        let next = next.map_err(|error| Failure::because("error while reading the map", &error))?;
        let Some((index, extent)) = next else { return Ok(false) };
        let Some(part) = self.source.part(index) else { return Ok(false) };
        let to = part.start + (extent.start - part.range.start);
        let zero = !extent.is_data();
        if zero && self.skip_zeros {
            self.progress.skip(extent.len);
        } else {
            let (from, len) = (extent.start, extent.len);
            self.left = Some(Piece { part: index, from, to, len, zero, turn: None });
        }
        Ok(true)
    }

    fn turn(&mut self) -> Option<Turn> {
        if !self.in_order {
            return None;
        }
        let (next, following) = oneshot::channel();
        Some(Turn { mine: self.previous.replace(following), next })
    }
}

struct CopyJob {
    conversion: Conversion,
    progress: Arc<Progress>,
    /// What could not be read, and why.
    lost: std::sync::Mutex<Vec<(u64, String)>>,
    /// Bytes written since the disk was last told to save.
    unsaved: AtomicU64,
}

#[async_trait]
impl Job for CopyJob {
    type Piece = Piece;

    async fn work(&self, mut piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let turn = piece.turn.take();
        let mut read: &mut [u8] = &mut [];
        let copied = !piece.zero && self.conversion.offload && self.offload(&piece).await?;
        if !piece.zero && !copied {
            read = buffers.one(piece.len);
            self.read(&piece, read).await?;
            if let Some(fingerprint) = &self.conversion.fingerprint {
                fingerprint.add(piece.to, read);
            }
        } else if piece.zero && self.conversion.sparse == 0 && self.conversion.base.is_none() {
            read = buffers.one(piece.len);
            read.fill(0);
        }
        let next = match turn {
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
        let target = &self.conversion.target;
        let written = match (&self.conversion.base, piece.zero, self.conversion.sparse) {
            _ if copied => Ok(()),
            (Some(base), true, _) => difference::zero(base, target, piece.to, piece.len).await,
            (Some(base), false, _) => difference::write(base, target, piece.to, read).await,
            (None, true, 1..) => {
                target.write_zeroes(piece.to, piece.len, ZeroFlags::MAY_UNMAP).await
            }
            (None, _, 0) => target.write_at(piece.to, read, WriteFlags::empty()).await,
            (None, ..) => self.write_sparse(&piece, read).await,
        };
        written.map_err(|error| {
            Failure::because(format_args!("error while writing at byte {}", piece.to), &error)
        })?;
        if let Some(next) = next {
            // Nobody waits behind the last piece.
            let _ = next.send(());
        }
        self.progress.advance(piece.len);
        self.write_behind(piece.len).await
    }
}

impl CopyJob {
    /// Has the disk work beside the copy, instead of after it. While one task waits, others go on.
    async fn write_behind(&self, written: u64) -> Result<()> {
        let unsaved = self.unsaved.fetch_add(written, Ordering::Relaxed) + written;
        if !self.conversion.durable || unsaved < UNSAVED {
            return Ok(());
        }
        self.unsaved.store(0, Ordering::Relaxed);
        let saved = self.conversion.target.device().storage().flush().await;
        saved.map_err(|error| Failure::because("error while saving what was written", &error))
    }

    async fn read(&self, piece: &Piece, buf: &mut [u8]) -> Result<()> {
        let Some(part) = self.conversion.source.part(piece.part) else { return Ok(()) };
        let whole = part.disk.read_at(piece.from, buf).await;
        let Err(error) = whole else { return Ok(()) };
        if !self.conversion.salvage {
            let place = format!("error while reading {} at byte {}", part.name, piece.from);
            return Err(Failure::because(place, &error));
        }
        let mut from = piece.from;
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
    async fn write_sparse(&self, piece: &Piece, buf: &[u8]) -> block_core::Result<()> {
        let target = &self.conversion.target;
        let least = self.conversion.sparse as usize;
        for (range, zero) in zero_runs(buf, least.min(4096), least) {
            let at = piece.to + range.start as u64;
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
    async fn offload(&self, piece: &Piece) -> Result<bool> {
        let Some(part) = self.conversion.source.part(piece.part) else { return Ok(false) };
        let range = piece.from..piece.from + piece.len;
        super::offload::copy(&part.disk, range, &self.conversion.target, piece.to).await.map_err(
            |error| {
                Failure::because(format_args!("error while copying at byte {}", piece.to), &error)
            },
        )
    }
}
