//! Hints: partition tables, file systems and volume managers. They support raw and never select a driver.

mod apple;
mod microsoft;
pub(crate) mod partition;
mod unix;
mod volume;

use block_core::probe::{LookForHints, RequestWindows};

/// All hints, grouped by family.
pub(crate) const ALL: &[&[LookForHints]] =
    &[partition::ALL, microsoft::ALL, unix::ALL, apple::ALL, volume::ALL];

/// The window requests of the hints beyond the first windows.
pub(crate) const WINDOWS: &[RequestWindows] = &[unix::wants, volume::wants, partition::wants];
