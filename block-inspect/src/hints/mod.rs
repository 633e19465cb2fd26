//! Partition tables, file systems and volume managers: what supports raw and never selects a driver.

mod apple;
mod microsoft;
pub(crate) mod partition;
mod unix;
mod volume;

use block_core::probe::{LookForHints, RequestWindows};

/// All that is looked for, family by family.
pub(crate) const ALL: &[&[LookForHints]] =
    &[partition::ALL, microsoft::ALL, unix::ALL, apple::ALL, volume::ALL];

/// The windows that hints need beyond the first ones.
pub(crate) const WINDOWS: &[RequestWindows] = &[unix::wants, volume::wants, partition::wants];
