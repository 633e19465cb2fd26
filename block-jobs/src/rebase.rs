//! Giving a child another parent, or none.

use block_core::chain::{self, Moved};
use block_core::{Disk, OptionSpec};

use super::commit::Steps;
use super::error::{JobError, Result, Side, Step};
use super::progress::JobProgress;

/// How [`rebase`] works.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RebaseOptions {
    /// Whether only the name of the parent changes: the caller knows that both parents hold the same.
    pub only_name: bool,
}

impl RebaseOptions {
    /// The child keeps its content: it gets a copy of what the new parent does not hold.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether only the name of the parent changes.
    pub fn only_name(mut self, only_name: bool) -> Self {
        self.only_name = only_name;
        self
    }
}

/// Makes `parent`, or no image, the parent of `child`, and closes the child. The child is open for writing; `specs` are
/// the amend options of its format.
///
/// The child holds, durably, whatever the new parent does not show before it names the new parent.
///
/// # Errors
/// [`Side::Target`] is the child. A failure of [`Step::Copy`] is about the child or either parent.
pub async fn rebase(
    child: &Disk,
    parent: Option<&Disk>,
    specs: &[OptionSpec],
    options: &RebaseOptions,
    progress: &dyn JobProgress,
) -> Result<Moved> {
    let mut moved = Moved::default();
    if !options.only_name {
        progress.total(child.size());
        let steps = Steps::new(progress);
        let rebased = chain::rebase(child, parent, &|done, _| steps.report(done)).await;
        moved = rebased.map_err(|error| JobError::new(Side::Neither, Step::Copy, error))?;
    }
    let failed = |error| JobError::new(Side::Target, Step::Finish, error);
    chain::adopt(child, specs, parent).await.map_err(failed)?;
    child.flush().await.map_err(failed)?;
    child.close().await.map_err(failed)?;
    Ok(moved)
}
