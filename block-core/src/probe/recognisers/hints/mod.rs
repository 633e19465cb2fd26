//! Partition tables, file systems and volume managers: what supports raw and never selects a driver.

mod apple;
mod microsoft;
pub(crate) mod partition;
mod unix;
mod volume;

use crate::probe::hint::Hint;
use crate::probe::input::ProbeInput;
use crate::probe::plan::Wants;

/// Looks for one or more things.
type Look = fn(&ProbeInput) -> Vec<Hint>;

const ALL: &[&[Look]] = &[partition::ALL, microsoft::ALL, unix::ALL, apple::ALL, volume::ALL];

/// Partition tables, file systems and volume managers in the windows.
pub fn hints(input: &ProbeInput) -> Vec<Hint> {
    ALL.iter().copied().flatten().flat_map(|look| look(input)).collect()
}

/// The windows that hints need beyond the first ones.
pub(in crate::probe) fn wants(input: &ProbeInput, wants: &mut Wants) {
    unix::wants(input, wants);
    volume::wants(input, wants);
    partition::wants(input, wants);
}
