//! Checks and repairs an image.

mod repair;
mod scan;

use std::collections::HashSet;
use std::sync::Arc;

use block_core::{
    Access, CheckMode, CheckReport, Finding, OpenContext, Options, Result, Severity, Storage,
};

use self::scan::Scan;
use crate::map::VdiMap;
use crate::{chain, parents_end};

/// Checks an image, and repairs it as far as `mode` allows.
///
/// An image whose header is not sound cannot be checked. That is an error, not a finding.
pub(crate) async fn check(
    storage: &Arc<dyn Storage>,
    mode: CheckMode,
    cx: &OpenContext,
) -> Result<CheckReport> {
    let before = examine(storage, cx).await?;
    match mode {
        CheckMode::Report => return Ok(before),
        CheckMode::RepairLeaks => repair::leaks(storage).await?,
        CheckMode::RepairAll => {
            repair::all(storage).await?;
            let scan = Scan::run(storage, |_| true).await?;
            let slots_end = scan.used.end();
            if let Some(child) = over_parent(storage, scan, Access::ReadWrite, cx).await {
                parents_end::store(&child, slots_end).await?;
            }
        }
    }
    let after = examine(storage, cx).await?;
    Ok(compare(before, after))
}

/// Returns the findings in the image itself, and those that show only together with its parent.
async fn examine(storage: &Arc<dyn Storage>, cx: &OpenContext) -> Result<CheckReport> {
    let mut scan = Scan::run(storage, |_| true).await?;
    let mut report = std::mem::take(&mut scan.report);
    let child = over_parent(storage, scan, Access::Read, cx).await;
    if let Some(child) = child
        && let Some(left) = parents_end::find(&child).await?
    {
        let message = format!(
            "{} blocks are left to the parent, which ends at {:#x} and does not hold them; VirtualBox cannot read them",
            left.count, left.parent_end
        );
        let repair = Some("make them zero, and store the one where the parent ends");
        let (code, severity) = ("vdi.child.past-parent", Severity::Cosmetic);
        report.push(finding(code, severity, message, left.entry_at, Some(left.block), repair));
    }
    Ok(report)
}

/// Opens a child with a sound map over its parent. Returns `None` if the parent cannot be opened: nothing can then be
/// said about the two.
async fn over_parent(
    storage: &Arc<dyn Storage>,
    scan: Scan,
    access: Access,
    cx: &OpenContext,
) -> Option<VdiMap> {
    if !scan.header.needs_parent() || !scan.map_is_sound() {
        return None;
    }
    let opened = chain::open(&**storage, &scan.header, &Options::new(), cx).await;
    let (_, lineage) = opened.ok()?;
    let (head, header, file_len) = (scan.head, scan.header, scan.file_len);
    Some(VdiMap::new(Arc::clone(storage), head, header, file_len, access, 0, lineage))
}

/// Merges the reports from before and after a repair. Findings that are gone count as fixed.
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

/// Returns a finding that is not fixed.
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
