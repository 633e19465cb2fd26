//! What a consistency check found: values that can be counted, tested, repaired and printed.

use serde::Serialize;

/// What a check may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckMode {
    /// Nothing.
    Report,
    /// Places nobody uses are given back; content is never touched.
    RepairLeaks,
    /// Everything that can be repaired without losing data.
    RepairAll,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Harms nobody; other tools may frown.
    Cosmetic,
    /// Space that nothing uses.
    Leak,
    /// Data is wrong or lost, or the next writer makes it so.
    Corruption,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable code: `vdi.map.duplicate`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, for people, with block numbers and offsets.
    pub message: String,
    /// The byte of the file it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The guest block it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// What a repair does about it, or `None` where no repair can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<&'static str>,
    /// Whether this check repaired it.
    pub fixed: bool,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The findings, in the order of the file; at most [`MAX_FINDINGS`](Self::MAX_FINDINGS).
    pub findings: Vec<Finding>,
    /// Findings beyond that number: counted, not kept.
    pub more_findings: u64,
    /// Corruptions left after any repair.
    pub corruptions: u64,
    /// Leaks left after any repair.
    pub leaks: u64,
    /// Corruptions repaired.
    pub corruptions_fixed: u64,
    /// Leaks repaired.
    pub leaks_fixed: u64,
    /// Errors that kept a part from being examined.
    pub check_errors: u64,
    /// Blocks of the disk.
    pub total_blocks: Option<u64>,
    /// Blocks that are stored.
    pub allocated_blocks: Option<u64>,
    /// Stored blocks that do not follow their neighbour in the file.
    pub fragmented_blocks: Option<u64>,
    /// The first byte behind everything in use.
    pub image_end_offset: Option<u64>,
}

impl CheckReport {
    /// How many findings are kept; a hostile image can make billions.
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

    /// Counts a finding that the list has no room for, without its words.
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

    /// Whether nothing worse than cosmetic findings is left.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0 && self.check_errors == 0
    }
}
