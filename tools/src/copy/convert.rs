//! Copying a source into a disk: holes are never read, zeros never written where zeros are.

use std::sync::Arc;

use block_core::Disk;

use super::Fingerprint;
use super::copy_job::CopyJob;
use super::copy_plan::CopyPlan;
use super::job::run;
use super::lost::Lost;
use super::source::Source;
use super::{is_direct, pieces_at_a_time};
use crate::error::Result;
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
    /// How many pieces are under way, when somebody says.
    pub parallel: Option<usize>,
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

impl Conversion {
    /// Whether a side is read or written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.source.disks().chain([&self.target]).any(is_direct)
    }

    /// How many threads work at a time.
    pub fn threads(&self) -> usize {
        self.parallel.unwrap_or_else(|| pieces_at_a_time(self.is_direct()))
    }
}

/// Copies, and says what could not be read.
pub(crate) async fn convert(conversion: Conversion, progress: &Arc<Progress>) -> Result<Lost> {
    let threads = conversion.threads();
    let plan = CopyPlan::new(&conversion, Arc::clone(progress));
    let job = Arc::new(CopyJob::new(conversion, Arc::clone(progress)));
    run(plan, Arc::clone(&job), threads).await?;
    Ok(std::mem::take(&mut *job.lost()))
}
