//! Comparing two disks: where their contents first differ.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use block_core::{Disk, Extent, ExtentFlags};

use super::buffers::{Buffer, Buffers, Memory};
use super::error::{JobError, Result, Side, Step};
use super::job::{Job, Plan, run};
use super::pairs::{Pair, PairStream};
use super::progress::{Expected, JobProgress};
use super::zeros::{first_difference, first_nonzero};
use super::{PIECE, THREADS};

/// How [`compare`] compares two disks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompareOptions {
    /// Whether the disks must agree on which ranges are allocated, too.
    pub strict: bool,
    /// Number of threads that read.
    pub threads: usize,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { strict: false, threads: THREADS }
    }
}

impl CompareOptions {
    /// The contents alone, by four threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the disks must agree on which ranges are allocated, too.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets the number of threads that read.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// The disks hold the same.
    Identical,
    /// The contents differ.
    Differ {
        /// First byte of the first sector that differs.
        at: u64,
    },
    /// A strict comparison found a range that one disk has allocated or holds as zeros, and the other not.
    AllocationDiffers {
        /// First byte of the range.
        at: u64,
    },
}

impl Comparison {
    /// The first byte of the difference; `None` for identical disks.
    pub fn at(self) -> Option<u64> {
        match self {
            Self::Identical => None,
            Self::Differ { at } | Self::AllocationDiffers { at } => Some(at),
        }
    }
}

/// Compares two disks and returns their first difference.
///
/// The shorter disk is compared as if zeros followed its end, so disks of different sizes can be identical. A strict
/// comparison finds the end of the shorter disk to be a difference.
///
/// # Errors
/// [`Side::Source`] 0 is `a` and 1 is `b`. A failure to read either map is of [`Side::Neither`].
pub async fn compare(
    a: &Disk,
    b: &Disk,
    options: &CompareOptions,
    progress: Arc<dyn JobProgress>,
) -> Result<Comparison> {
    let found =
        Arc::new(Found { at: AtomicU64::new(u64::MAX), what: Mutex::new(Comparison::Identical) });
    let plan = ComparePlan {
        pairs: PairStream::new(a, b, options.strict),
        left: None,
        strict: options.strict,
        found: Arc::clone(&found),
        expected: Expected::new(Arc::clone(&progress), a.size().max(b.size())),
    };
    let job = CompareJob { a: a.clone(), b: b.clone(), found: Arc::clone(&found), progress };
    run(plan, Arc::new(job), options.threads).await?;
    Ok(*found.what.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The first difference so far. Pieces are begun in order, so everything before it is looked at.
struct Found {
    /// The first byte of the difference; `u64::MAX` while none is found.
    at: AtomicU64,
    what: Mutex<Comparison>,
}

impl Found {
    /// Keeps `difference` where it lies before the one that is kept.
    fn set(&self, difference: Comparison) {
        let mut what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = difference.at() else { return };
        if what.at().is_none_or(|known| at < known) {
            self.at.store(at, Ordering::Relaxed);
            *what = difference;
        }
    }

    fn any(&self) -> bool {
        self.at.load(Ordering::Relaxed) != u64::MAX
    }
}

/// A range of which at least one side has to be read.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    len: u64,
    read_a: bool,
    read_b: bool,
}

struct ComparePlan {
    pairs: PairStream,
    left: Option<Piece>,
    strict: bool,
    found: Arc<Found>,
    expected: Expected,
}

#[async_trait]
impl Plan for ComparePlan {
    type Piece = Piece;

    async fn next(&mut self) -> Result<Option<Piece>> {
        while !self.found.any() {
            if let Some(mut left) = self.left.take() {
                let len = left.len.min(PIECE - left.start % PIECE);
                let piece = Piece { len, ..left };
                left.start += len;
                left.len -= len;
                self.left = (left.len > 0).then_some(left);
                return Ok(Some(piece));
            }
            let next = self.pairs.next().await;
            let next = next.map_err(|error| JobError::new(Side::Neither, Step::Map, error))?;
            let Some(pair) = next else { break };
            self.take(pair);
        }
        Ok(None)
    }
}

impl ComparePlan {
    fn take(&mut self, pair: Pair) {
        if self.strict && status(pair.a) != status(pair.b) {
            self.found.set(Comparison::AllocationDiffers { at: pair.start });
            return;
        }
        let data = |extent: Option<Extent>| extent.is_some_and(|extent| extent.is_data());
        let (read_a, read_b) = (data(pair.a), data(pair.b));
        if read_a || read_b {
            self.left = Some(Piece { start: pair.start, len: pair.len, read_a, read_b });
        } else {
            self.expected.skip(pair.len)
        }
    }
}

/// What strict mode compares besides the content.
fn status(extent: Option<Extent>) -> Option<ExtentFlags> {
    let told = ExtentFlags::PRESENT | ExtentFlags::ZERO | ExtentFlags::DATA;
    extent.map(|extent| extent.flags & told)
}

struct CompareJob {
    a: Disk,
    b: Disk,
    found: Arc<Found>,
    progress: Arc<dyn JobProgress>,
}

#[async_trait]
impl Job for CompareJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let (first, second) = buffers.two();
        let in_a = if piece.read_a { Some(read(&self.a, 0, &piece, first).await?) } else { None };
        let in_b = if piece.read_b { Some(read(&self.b, 1, &piece, second).await?) } else { None };
        let difference = match (&in_a, &in_b) {
            (Some(in_a), Some(in_b)) => first_difference(in_a, in_b),
            (Some(only), None) | (None, Some(only)) => first_nonzero(only),
            (None, None) => None,
        };
        if let Some(at) = difference {
            self.found.set(Comparison::Differ { at: piece.start + at as u64 });
        }
        self.progress.done(piece.len);
        Ok(())
    }
}

/// Reads a piece of the disk with this number.
async fn read<'b>(
    disk: &Disk,
    number: usize,
    piece: &Piece,
    buffer: &'b mut Buffer,
) -> Result<Memory<'b>> {
    let read = buffer.read(disk, piece.start, piece.len).await;
    read.map_err(|error| JobError::new(Side::Source(number), Step::Read, error).at(piece.start))
}
