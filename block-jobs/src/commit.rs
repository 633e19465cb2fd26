//! Writing what a child holds into its parent.

use std::sync::atomic::{AtomicU64, Ordering};

use block_core::chain::{self, Moved};
use block_core::{DeviceCaps, Disk, Error, ErrorKind, OptionSpec};

use super::error::{JobError, Result, Side, Step};
use super::progress::JobProgress;
use super::throttle::at_rate;

/// How [`commit`] works.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CommitOptions {
    /// Whether the child keeps its data. If not, it is emptied where its format can do that.
    pub keep: bool,
    /// Maximum number of bytes per second, on average; `None` and 0 set no limit.
    pub rate: Option<u64>,
}

impl CommitOptions {
    /// Without a limit; the child is emptied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the child keeps its data.
    pub fn keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Sets the maximum number of bytes per second.
    pub fn rate(mut self, bytes_per_second: Option<u64>) -> Self {
        self.rate = bytes_per_second;
        self
    }
}

/// Writes everything that `child` holds into its parent, empties the child unless it keeps its data, and closes both.
/// Both are open for writing; `specs` are the amend options of the child's format.
///
/// The child reads as before at every moment. An interrupted commit is [settled](settle) and begun again. With a rate,
/// the runtime needs its timer.
///
/// # Errors
/// [`Side::Source`] 0 is the child and [`Side::Target`] its parent. A failure of [`Step::Copy`] is about either.
/// [`Step::Check`]: the child has no parent.
pub async fn commit(
    child: &Disk,
    specs: &[OptionSpec],
    options: &CommitOptions,
    progress: &dyn JobProgress,
) -> Result<Moved> {
    let Some(parent) = child.parent() else {
        let error = Error::new(ErrorKind::InvalidInput, "the image has no parent");
        return Err(JobError::new(Side::Source(0), Step::Check, error));
    };
    progress.total(child.size());
    let steps = Steps::new(progress);
    let report = |done, _| steps.report(done);
    // The parent has everything, durably, before the child forgets it. And it is closed before the child records its
    // identity, which closing may change a last time.
    let written = AtomicU64::new(0);
    let work = chain::commit_counted(child, &report, &written);
    let moved = at_rate(options.rate, &written, work).await;
    let moved = moved.map_err(|error| JobError::new(Side::Neither, Step::Copy, error))?;
    let failed = |error| JobError::new(Side::Target, Step::Finish, error);
    parent.close().await.map_err(failed)?;
    if !options.keep && child.info().caps.contains(DeviceCaps::MAKE_EMPTY) {
        let emptied = child.device().make_empty().await;
        emptied.map_err(|error| JobError::new(Side::Source(0), Step::Finish, error))?;
    }
    settle(child, specs).await?;
    Ok(moved)
}

/// Has a child record its parent as it is now, and closes the child. The parent was closed before.
///
/// The caller does this after a [`commit`] that stopped half way: the parent has received only what the child shows, and
/// the child finds its parent again.
///
/// # Errors
/// [`Side::Source`] 0 is the child.
pub async fn settle(child: &Disk, specs: &[OptionSpec]) -> Result<()> {
    let failed = |error| JobError::new(Side::Source(0), Step::Finish, error);
    chain::acknowledge(child, specs).await.map_err(failed)?;
    child.flush().await.map_err(failed)?;
    child.close().await.map_err(failed)
}

/// Turns the reports of `block_core::chain`, of bytes done since the beginning, into those of a job.
pub(super) struct Steps<'p> {
    done: AtomicU64,
    progress: &'p dyn JobProgress,
}

impl<'p> Steps<'p> {
    pub fn new(progress: &'p dyn JobProgress) -> Self {
        Self { done: AtomicU64::new(0), progress }
    }

    /// Reports; the work always goes on.
    pub fn report(&self, done: u64) -> bool {
        let before = self.done.swap(done, Ordering::Relaxed);
        self.progress.done(done.saturating_sub(before));
        true
    }
}
