//! The outcome of an inspection.

use super::finding::Finding;
use super::partitions::Partition;
use super::policy::{Policy, Verdict};
use crate::probe::ProbeReport;
use serde::Serialize;

/// What a file is and whether it is safe.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectReport {
    /// The storage that was read.
    pub uri: String,
    /// Length of the file in bytes.
    pub file_len: u64,
    /// What it is; `None` when it is ambiguous or empty.
    pub format: Option<String>,
    /// A closer description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Size of the disk in bytes as the file states it, believed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// What to do with it: the worst verdict of all findings.
    pub verdict: Verdict,
    /// The policy behind the verdict.
    pub policy: Policy,
    /// What was found, the worst first, then by place.
    pub findings: Vec<Finding>,
    /// Limits that kept the examination from being complete.
    pub limits_hit: Vec<String>,
    /// How the file was named, with all evidence, partition tables and file systems.
    pub probe: ProbeReport,
    /// The partitions of a raw disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
    /// The same about the guest's disk inside, from [`inspect_deep`](super::inspect_deep).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Box<InspectReport>>,
}
