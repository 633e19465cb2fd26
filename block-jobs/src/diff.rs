//! The ranges in which two disks differ.

use std::collections::VecDeque;
use std::ops::Range;

use block_core::{Disk, Extent, SECTOR_SIZE};

use super::PIECE;
use super::buffers::Buffers;
use super::error::{JobError, Result, Side, Step};
use super::pairs::{Pair, PairStream};
use super::progress::JobProgress;

/// How [`diff`] compares two disks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiffOptions {
    /// Number of bytes compared as one unit: a power of two from 512 to [`PIECE`].
    pub granularity: u64,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { granularity: 4096 }
    }
}

impl DiffOptions {
    /// Units of 4096 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of bytes compared as one unit: a power of two from 512 to [`PIECE`].
    pub fn granularity(mut self, bytes: u64) -> Self {
        self.granularity = bytes;
        self
    }

    /// Whether the granularity is a power of two from 512 to [`PIECE`].
    pub fn is_valid(&self) -> bool {
        self.granularity.is_power_of_two() && (SECTOR_SIZE..=PIECE).contains(&self.granularity)
    }
}

/// Compares two disks and returns the stream of the ranges in which they differ.
///
/// The shorter disk is compared as if zeros followed its end. Nothing is read before the first call of
/// [`Differences::next`].
///
/// # Errors
/// [`Step::Check`]: the granularity is not a power of two from 512 to [`PIECE`].
pub fn diff<'p>(
    a: &Disk,
    b: &Disk,
    options: &DiffOptions,
    progress: &'p dyn JobProgress,
) -> Result<Differences<'p>> {
    if !options.is_valid() {
        let text = format!("the granularity is {}, no power of two in range", options.granularity);
        let error = block_core::Error::new(block_core::ErrorKind::InvalidInput, text);
        return Err(JobError::new(Side::Neither, Step::Check, error));
    }
    let size = a.size().max(b.size());
    progress.total(size);
    Ok(Differences {
        a: a.clone(),
        b: b.clone(),
        unit: options.granularity,
        pairs: PairStream::new(a, b, false),
        buffers: Buffers::default(),
        left: None,
        ready: VecDeque::new(),
        held: None,
        expected: size,
        progress,
    })
}

/// The ranges in which two disks differ, in order. Ranges that touch come as one.
pub struct Differences<'p> {
    a: Disk,
    b: Disk,
    /// Bytes compared as one.
    unit: u64,
    pairs: PairStream,
    buffers: Buffers,
    /// The rest of the pair of extents that is being compared.
    left: Option<Pair>,
    /// Ranges of the last piece that no later range touches.
    ready: VecDeque<Range<u64>>,
    /// The last range found, which the next one may touch.
    held: Option<Range<u64>>,
    /// Bytes to compare in all.
    expected: u64,
    progress: &'p dyn JobProgress,
}

impl Differences<'_> {
    /// Returns the next range, in bytes from the beginning of the disks; `None` at the end.
    ///
    /// # Errors
    /// [`Side::Source`] 0 is the first disk and 1 the second. A failure to read either map is of [`Side::Neither`].
    pub async fn next(&mut self) -> Result<Option<Range<u64>>> {
        loop {
            if let Some(range) = self.ready.pop_front() {
                return Ok(Some(range));
            }
            let Some(pair) = self.next_pair().await? else { return Ok(self.held.take()) };
            let start = pair.start;
            let take = pair.len.min(PIECE - start % PIECE);
            self.compare(&pair, take).await?;
            let (start, len) = (start + take, pair.len - take);
            self.left = (len > 0).then_some(Pair { start, len, ..pair });
            self.progress.done(take);
        }
    }

    /// The rest of the pair in hand, or the next one that has data.
    async fn next_pair(&mut self) -> Result<Option<Pair>> {
        if let Some(left) = self.left.take() {
            return Ok(Some(left));
        }
        loop {
            let next = self.pairs.next().await;
            let next = next.map_err(|error| JobError::new(Side::Neither, Step::Map, error))?;
            match next {
                Some(pair) if !is_data(pair.a) && !is_data(pair.b) => {
                    self.expected = self.expected.saturating_sub(pair.len);
                    self.progress.total(self.expected);
                }
                next => return Ok(next),
            }
        }
    }

    /// Compares the first `len` bytes of a pair, at most a piece.
    async fn compare(&mut self, pair: &Pair, len: u64) -> Result<()> {
        let at = pair.start;
        let (in_a, in_b) = self.buffers.two();
        let (in_a, in_b) = (in_a.sized(len), in_b.sized(len));
        let sides = [(&self.a, pair.a, &mut *in_a), (&self.b, pair.b, &mut *in_b)];
        for (number, (disk, extent, buffer)) in sides.into_iter().enumerate() {
            if is_data(extent) {
                disk.read_at(at, buffer).await.map_err(|error| {
                    JobError::new(Side::Source(number), Step::Read, error).at(at)
                })?;
            } else {
                buffer.fill(0);
            }
        }
        let unit = self.unit as usize;
        for (index, (a, b)) in in_a.chunks(unit).zip(in_b.chunks(unit)).enumerate() {
            if a == b {
                continue;
            }
            let from = at + (index * unit) as u64;
            let to = from + a.len() as u64;
            match &mut self.held {
                Some(held) if held.end == from => held.end = to,
                held => self.ready.extend(held.replace(from..to)),
            }
        }
        Ok(())
    }
}

fn is_data(extent: Option<Extent>) -> bool {
    extent.is_some_and(|extent| extent.is_data())
}
