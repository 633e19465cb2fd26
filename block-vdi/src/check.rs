//! Checks and repairs an image.

mod repair;
mod scan;

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;

use block_core::{
    Access, CheckMode, CheckReport, Error, Finding, OpenContext, Options, Result, Severity, Storage,
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
            if let Lower::Opened(child) = over_parent(storage, scan, Access::ReadWrite, cx).await {
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
    let link_at = scan.header.fields().parent_uuid as u64;
    match over_parent(storage, scan, Access::Read, cx).await {
        Lower::NotAsked => {}
        Lower::Opened(child) => {
            if let Some(left) = parents_end::find(&child).await? {
                let message = format!(
                    "{} blocks are left to the parent, which ends at {:#x} and does not hold them; VirtualBox cannot read them",
                    left.count, left.parent_end
                );
                let repair = Some("make them zero, and store the one where the parent ends");
                let (code, severity) = ("vdi.child.past-parent", Severity::Cosmetic);
                report.push(finding(
                    code,
                    severity,
                    message,
                    left.entry_at,
                    Some(left.block),
                    repair,
                ));
            }
        }
        Lower::Missing(why) => {
            let message =
                format!("the child is not checked against its parent: {}", with_causes(&why));
            let (code, severity) = ("vdi.child.unchecked", Severity::Cosmetic);
            report.push(finding(code, severity, message, link_at, None, None));
        }
    }
    Ok(report)
}

/// A child and its parent, as far as they can be looked at together.
enum Lower {
    /// The image has no parent, or its own map is not sound.
    NotAsked,
    /// The child over its parent.
    Opened(Box<VdiMap>),
    /// The parent cannot be opened.
    Missing(Error),
}

/// Opens the parent of a child with a sound map.
async fn over_parent(
    storage: &Arc<dyn Storage>,
    scan: Scan,
    access: Access,
    cx: &OpenContext,
) -> Lower {
    if !scan.header.needs_parent() || !scan.map_is_sound() {
        return Lower::NotAsked;
    }
    let lineage = match chain::open(&**storage, &scan.header, &Options::new(), cx).await {
        Ok((_, lineage)) => lineage,
        Err(why) => return Lower::Missing(why),
    };
    let (head, header, file_len) = (scan.head, scan.header, scan.file_len);
    let map = VdiMap::new(Arc::clone(storage), head, header, file_len, access, 0, lineage);
    Lower::Opened(Box::new(map))
}

/// An error and its causes in one line: a finding is text.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
