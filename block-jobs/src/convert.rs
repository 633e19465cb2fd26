//! Copying a source into a disk: holes are never read, zeros never written where zeros are.

use std::sync::Arc;

use block_core::{Disk, Error, ErrorKind};

use super::copy_job::CopyJob;
use super::copy_plan::CopyPlan;
use super::error::{JobError, Result, Side, Step};
use super::fingerprint::{Fingerprint, Sum};
use super::job::run;
use super::lost::Lost;
use super::progress::JobProgress;
use super::source::Source;
use super::{is_direct, pieces_at_a_time};

/// How [`convert`] copies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// Whether the target reads as zeros before anything is written. Zeros of the source are then left out.
    pub target_is_zero: bool,
    /// The target's parent, when only the content that differs from it is to be written.
    pub base: Option<Disk>,
    /// Minimum length, in bytes, of a run of zeros that is not written as data; 0 writes everything as data.
    pub sparse: u64,
    /// Number of threads that copy; `None` takes 2, or 8 where a side bypasses the page cache.
    pub threads: Option<usize>,
    /// Whether pieces may be written in any order.
    pub any_order: bool,
    /// Whether the storages may copy among themselves, without zeros being looked for.
    pub offload: bool,
    /// Whether zeros take the place of bytes that cannot be read.
    pub salvage: bool,
    /// Maximum number of bytes per second, on average; `None` and 0 set no limit.
    pub rate: Option<u64>,
    /// Whether the fingerprint of the bytes that are read is taken.
    pub fingerprint: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            target_is_zero: false,
            base: None,
            sparse: 4096,
            threads: None,
            any_order: false,
            offload: false,
            salvage: false,
            rate: None,
            fingerprint: false,
        }
    }
}

impl ConvertOptions {
    /// Copying into a target of unknown content, in order, with runs of 4096 zeros and more left out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the target reads as zeros before anything is written.
    pub fn target_is_zero(mut self, target_is_zero: bool) -> Self {
        self.target_is_zero = target_is_zero;
        self
    }

    /// Sets the target's parent: only the content that differs from it is written.
    pub fn base(mut self, base: Option<Disk>) -> Self {
        self.base = base;
        self
    }

    /// Sets the minimum length, in bytes, of a run of zeros that is not written as data; 0 writes everything as data.
    pub fn sparse(mut self, bytes: u64) -> Self {
        self.sparse = bytes;
        self
    }

    /// Sets the number of threads that copy.
    pub fn threads(mut self, threads: Option<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// Sets whether pieces may be written in any order.
    pub fn any_order(mut self, any_order: bool) -> Self {
        self.any_order = any_order;
        self
    }

    /// Sets whether the storages may copy among themselves.
    pub fn offload(mut self, offload: bool) -> Self {
        self.offload = offload;
        self
    }

    /// Sets whether zeros take the place of bytes that cannot be read.
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Sets the maximum number of bytes per second.
    pub fn rate(mut self, bytes_per_second: Option<u64>) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// Sets whether the fingerprint of the bytes that are read is taken.
    pub fn fingerprint(mut self, fingerprint: bool) -> Self {
        self.fingerprint = fingerprint;
        self
    }
}

/// A finished copy.
#[derive(Debug)]
#[non_exhaustive]
pub struct Converted {
    /// What could not be read, and is zeros in the target. Only a copy that salvages has any.
    pub lost: Lost,
    /// The fingerprint of the bytes that were read, where the options ask for it.
    pub fingerprint: Option<Fingerprint>,
}

/// Copies `source` to the beginning of `target`.
///
/// The target is neither flushed nor closed: that is the caller's next step. If the copy fails, or its future is
/// dropped, the target holds a part of the source.
///
/// A copy that offloads reads nothing itself, so the fingerprint lacks the ranges that the storages copied.
///
/// # Errors
/// [`Side::Source`] counts the parts of the source. [`Step::Check`]: the target is smaller than the source.
pub async fn convert(
    source: &Source,
    target: &Disk,
    options: &ConvertOptions,
    progress: Arc<dyn JobProgress>,
) -> Result<Converted> {
    if target.size() < source.len() {
        let text = format!("the target has {} bytes, the source {}", target.size(), source.len());
        let error = Error::new(ErrorKind::InvalidInput, text);
        return Err(JobError::new(Side::Target, Step::Check, error));
    }
    let conversion = Conversion {
        source: source.clone(),
        target: target.clone(),
        options: options.clone(),
        sum: options.fingerprint.then(Sum::default),
    };
    let threads = conversion.threads();
    let plan = CopyPlan::new(&conversion, Arc::clone(&progress));
    let job = Arc::new(CopyJob::new(conversion, progress));
    run(plan, Arc::clone(&job), threads).await?;
    Ok(Converted { lost: std::mem::take(&mut *job.lost()), fingerprint: job.fingerprint() })
}

/// What a copy works on.
#[derive(Debug)]
pub(super) struct Conversion {
    pub source: Source,
    pub target: Disk,
    pub options: ConvertOptions,
    /// Taken of everything read, where the options ask for it.
    pub sum: Option<Sum>,
}

impl Conversion {
    /// Whether a side is read or written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.source.disks().chain([&self.target]).any(is_direct)
    }

    /// How many threads work at a time.
    pub fn threads(&self) -> usize {
        self.options.threads.unwrap_or_else(|| pieces_at_a_time(self.is_direct()))
    }
}
