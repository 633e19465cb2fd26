//! Checking an image: what is found, what a repair does about it, what is left.

mod repair;
mod scan;

use std::collections::HashSet;
use std::sync::Arc;

use block_core::{CheckMode, CheckReport, Finding, Result, Severity, Storage};

use self::scan::Scan;

/// Examines an image, and repairs it as far as `mode` allows.
///
/// An image whose header cannot be trusted cannot be examined: that is an error, not a finding.
pub(crate) async fn check(storage: &Arc<dyn Storage>, mode: CheckMode) -> Result<CheckReport> {
    let before = Scan::run(storage, |_| true).await?.report;
    match mode {
        CheckMode::Report => return Ok(before),
        CheckMode::RepairLeaks => repair::leaks(storage).await?,
        CheckMode::RepairAll => repair::all(storage).await?,
    }
    let after = Scan::run(storage, |_| true).await?.report;
    Ok(compare(before, after))
}

/// One report of two: what was found, and whether it is gone.
fn compare(before: CheckReport, after: CheckReport) -> CheckReport {
    let key = |finding: &Finding| (finding.code, finding.block, finding.offset);
    let left: HashSet<_> = after.findings.iter().map(key).collect();
    let mut findings = before.findings;
    let known: HashSet<_> = findings.iter().map(key).collect();
    let new: Vec<_> = after.findings.iter().filter(|f| !known.contains(&key(f))).cloned().collect();
    for finding in &mut findings {
        finding.fixed = !left.contains(&key(finding));
    }
    findings.extend(new);
    findings.truncate(CheckReport::MAX_FINDINGS);
    CheckReport {
        findings,
        more_findings: before.more_findings,
        corruptions: after.corruptions,
        leaks: after.leaks,
        corruptions_fixed: before.corruptions.saturating_sub(after.corruptions),
        leaks_fixed: before.leaks.saturating_sub(after.leaks),
        check_errors: after.check_errors,
        ..CheckReport::default()
    }
}

/// A finding that is not fixed.
fn finding(
    code: &'static str,
    severity: Severity,
    message: String,
    offset: u64,
    block: Option<u64>,
    repair: Option<&'static str>,
) -> Finding {
    Finding { code, severity, message, offset: Some(offset), block, repair, fixed: false }
}
