//! An inspection returns a report that is the same each time, sorted, printable, and no milder than its findings.

use block_core::MemStorage;
use block_inspect::{Finding, InspectOptions, InspectReport, Policy, Verdict, inspect_deep};

use crate::drivers::{Memory, registry};
use crate::run::run;

/// Inspects the input as a file.
pub(crate) fn body(file: &[u8]) {
    let strict = report(file, Policy::untrusted());
    let mild = report(file, Policy::trusted());
    agrees_with_itself(&strict);
    assert!(mild.verdict <= strict.verdict, "trust makes it worse");
    let told = |report: &InspectReport| -> Vec<String> {
        report.findings.iter().map(|f| format!("{} {:?} {}", f.code, f.offset, f.message)).collect()
    };
    let sorted = |mut told: Vec<String>| {
        told.sort();
        told
    };
    assert_eq!(sorted(told(&mild)), sorted(told(&strict)), "the policy changes the findings");
    assert_eq!(told(&report(file, Policy::untrusted())), told(&strict), "told differently");
}

fn report(file: &[u8], policy: Policy) -> InspectReport {
    let storage = MemStorage::from_bytes(file);
    let registry = registry(&Memory::default());
    let report = run(inspect_deep(storage.clone(), &InspectOptions::new(policy), &registry));
    assert!(storage.to_bytes().as_deref() == Some(file), "looking has changed the file");
    report.expect("a storage in memory is read")
}

fn agrees_with_itself(report: &InspectReport) {
    assert_eq!(report.format, report.probe.selected, "two answers to what it is");
    let worst = report.findings.iter().map(|finding| finding.verdict).max();
    assert_eq!(report.verdict, worst.unwrap_or(Verdict::Accept), "not the worst of all findings");
    for pair in report.findings.windows(2) {
        assert!(pair[0].severity >= pair[1].severity, "findings out of order");
    }
    for finding in &report.findings {
        is_printable(finding);
        let inside = finding.offset.is_none_or(|offset| offset <= report.file_len);
        let hex = finding.found.chars().all(|c| c.is_ascii_hexdigit() || c == ' ');
        assert!(hex && (inside || finding.found.is_empty()), "found outside the file: {finding:?}");
    }
    if let Some(guest) = &report.guest {
        agrees_with_itself(guest);
    }
}

/// Asserts that text from a file is escaped.
fn is_printable(finding: &Finding) {
    for text in [&finding.message, &finding.format, finding.name.as_ref().unwrap_or(&String::new())]
    {
        assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    }
}
