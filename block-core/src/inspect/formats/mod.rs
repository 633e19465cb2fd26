//! What can do harm in each format: one file for each family.

use super::examination::Examination;
use crate::Result;
use crate::probe::ProbeReport;

/// A candidate at or above this score is a claim, and is examined whether it was selected or not.
const CLAIM: u8 = 60;

/// Examines the metadata of every format that claims the file.
pub(super) async fn examine(cx: &mut Examination<'_>, probe: &ProbeReport) -> Result<()> {
    for candidate in probe.candidates.iter().filter(|c| c.score.value >= CLAIM) {
        cx.of_format(&candidate.id);
        match candidate.id.as_str() {
            "qcow2" => qcow2::examine(cx).await?,
            _ => {}
        }
    }
    Ok(())
}

mod qcow2;
