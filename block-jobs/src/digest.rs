//! A digest of a disk's content that is the same in every format.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use block_core::{Disk, is_zero};

use super::buffers::Buffers;
use super::error::{JobError, Result, Side, Step};
use super::extents::ExtentStream;
use super::job::{Job, Plan, run};
use super::merkle::{LEAF, Merkle, leaf};
use super::progress::{Expected, JobProgress};
use super::{PIECE, THREADS};

/// How [`digest`] reads a disk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DigestOptions {
    /// Number of threads that read.
    pub threads: usize,
}

impl Default for DigestOptions {
    fn default() -> Self {
        Self { threads: THREADS }
    }
}

impl DigestOptions {
    /// Reading by four threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads that read.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// The digest of a disk: the root of a BLAKE3 tree over its content, hashed with its size.
///
/// It is displayed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Returns the digest of a disk's content and size. Zeros count the same whether they are stored or not.
///
/// # Errors
/// [`Side::Source`] 0 is the disk.
pub async fn digest(
    disk: &Disk,
    options: &DigestOptions,
    progress: Arc<dyn JobProgress>,
) -> Result<Digest> {
    let size = disk.size();
    let plan = LeafPlan {
        stream: ExtentStream::with_holes(disk.clone(), 0..u64::MAX),
        left: 0..0,
        done_to: 0,
        size,
        number: 0,
        expected: Expected::new(Arc::clone(&progress), size),
    };
    let job = Arc::new(DigestJob {
        disk: disk.clone(),
        collector: Mutex::new(Collector { tree: Merkle::new(), next: 0, early: BTreeMap::new() }),
        progress,
    });
    run(plan, Arc::clone(&job), options.threads).await?;
    let job = Arc::into_inner(job).ok_or_else(|| JobError::internal("a task kept its work"))?;
    let collector = job.collector.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Digest(collector.tree.finish(size)))
}

/// Whole leaves that hold data, the last one cut at the end of the disk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    number: u64,
    start: u64,
    len: u64,
}

struct LeafPlan {
    stream: ExtentStream,
    /// Leaves (by their bytes) still to be given out.
    left: Range<u64>,
    done_to: u64,
    size: u64,
    number: u64,
    expected: Expected,
}

#[async_trait]
impl Plan for LeafPlan {
    type Piece = Piece;

    async fn next(&mut self) -> Result<Option<Piece>> {
        while self.left.is_empty() {
            let next = self.stream.next().await;
            let next = next.map_err(|error| JobError::new(Side::Source(0), Step::Map, error))?;
            match next {
                None => return Ok(None),
                Some(extent) if extent.is_data() => {
                    // Two extents in one leaf are one piece of work.
                    let start = (extent.start / LEAF * LEAF).max(self.done_to);
                    let end = extent.end().next_multiple_of(LEAF).min(self.size);
                    self.left = start..end.max(start);
                    self.done_to = end.max(self.done_to);
                }
                Some(extent) => self.expected.skip(extent.len),
            }
        }
        let start = self.left.start;
        let len = (self.left.end - start).min(PIECE - start % PIECE);
        self.left.start += len;
        self.number += 1;
        Ok(Some(Piece { number: self.number - 1, start, len }))
    }
}

type Leaves = Vec<(u64, [u8; 32])>;

/// Puts the leaves of pieces that end out of order into the tree in order.
struct Collector {
    tree: Merkle,
    next: u64,
    early: BTreeMap<u64, Leaves>,
}

impl Collector {
    fn add(&mut self, number: u64, leaves: Leaves) {
        self.early.insert(number, leaves);
        while let Some(leaves) = self.early.remove(&self.next) {
            self.next += 1;
            for (index, hash) in leaves {
                self.tree.add(index, hash);
            }
        }
    }
}

struct DigestJob {
    disk: Disk,
    collector: Mutex<Collector>,
    progress: Arc<dyn JobProgress>,
}

#[async_trait]
impl Job for DigestJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let read = buffers.one().read(&self.disk, piece.start, piece.len).await;
        let bytes = read
            .map_err(|error| JobError::new(Side::Source(0), Step::Read, error).at(piece.start))?;
        let first = piece.start / LEAF;
        let leaves = (first..)
            .zip(bytes.chunks(LEAF as usize))
            .filter(|(_, bytes)| !is_zero(bytes))
            .map(|(index, bytes)| (index, leaf(bytes)))
            .collect();
        let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.add(piece.number, leaves);
        drop(collector);
        self.progress.done(piece.len);
        Ok(())
    }
}
