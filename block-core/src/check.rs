//! The findings of a consistency check, as values that can be counted, tested, repaired and printed.

use serde::Serialize;

/// What a check may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckMode {
    /// Changes nothing.
    Report,
    /// Frees space that no block uses. Never changes content.
    RepairLeaks,
    /// Repairs everything that can be repaired without losing data.
    RepairAll,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Harmless, but other tools may complain.
    Cosmetic,
    /// Space that nothing uses.
    Leak,
    /// Data is wrong or lost, or will be after the next write.
    Corruption,
}

/// One defect of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable code: `vdi.map.duplicate`.
    pub code: &'static str,
    /// Severity of the defect.
    pub severity: Severity,
    /// Description for people, with block numbers and offsets.
    pub message: String,
    /// Offset in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Guest block concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// What a repair does about the defect. `None` if no repair can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<&'static str>,
    /// Whether this check repaired it.
    pub fixed: bool,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The findings in the order of the file, at most [`MAX_FINDINGS`](Self::MAX_FINDINGS).
    pub findings: Vec<Finding>,
    /// Number of further findings, which are counted but not listed.
    pub more_findings: u64,
    /// Corruptions left after any repair.
    pub corruptions: u64,
    /// Leaks left after any repair.
    pub leaks: u64,
    /// Corruptions repaired.
    pub corruptions_fixed: u64,
    /// Leaks repaired.
    pub leaks_fixed: u64,
    /// Errors that prevented a part of the image from being examined.
    pub check_errors: u64,
    /// Number of blocks of the disk.
    pub total_blocks: Option<u64>,
    /// Number of stored blocks.
    pub allocated_blocks: Option<u64>,
    /// Number of stored blocks that do not directly follow their predecessor in the file.
    pub fragmented_blocks: Option<u64>,
    /// Offset of the first byte past everything in use.
    pub image_end_offset: Option<u64>,
}

impl CheckReport {
    /// Maximum number of findings that are listed, because a hostile image can cause billions.
    pub const MAX_FINDINGS: usize = 10_000;

    /// Adds a finding to the list and to the counts.
    pub fn push(&mut self, finding: Finding) {
        self.count(finding.severity, finding.fixed);
        if self.findings.len() < Self::MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings = self.more_findings.saturating_add(1);
        }
    }

    /// Counts a finding without adding it to the list.
    pub fn push_unlisted(&mut self, severity: Severity) {
        self.count(severity, false);
        self.more_findings = self.more_findings.saturating_add(1);
    }

    fn count(&mut self, severity: Severity, is_fixed: bool) {
        let counter = match (severity, is_fixed) {
            (Severity::Corruption, false) => &mut self.corruptions,
            (Severity::Corruption, true) => &mut self.corruptions_fixed,
            (Severity::Leak, false) => &mut self.leaks,
            (Severity::Leak, true) => &mut self.leaks_fixed,
            (Severity::Cosmetic, _) => return,
        };
        *counter = counter.saturating_add(1);
    }

    /// Returns whether only cosmetic findings are left.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0 && self.check_errors == 0
    }
}
