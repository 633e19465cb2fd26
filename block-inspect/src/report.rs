//! The outcome of an inspection.

use super::finding::Finding;
use super::general;
use super::options::InspectOptions;
use super::partitions::Partition;
use super::policy::{Policy, Verdict};
use block_core::inspect::Examination;
use block_core::probe::ProbeReport;

use serde::Serialize;

/// The format of a file and whether it is safe to use.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectReport {
    /// URI of the storage that was read.
    pub uri: String,
    /// Length of the file in bytes.
    pub file_len: u64,
    /// The format, or `None` if the file is ambiguous.
    pub format: Option<String>,
    /// A more precise description of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Disk size in bytes as the file states it, plausible or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// The most severe verdict of all findings.
    pub verdict: Verdict,
    /// The policy behind the verdict.
    pub policy: Policy,
    /// The findings, the most severe first, then by location.
    pub findings: Vec<Finding>,
    /// Names of the limits that cut the examination short.
    pub limits_hit: Vec<String>,
    /// The result of probing, with all evidence, partition tables and file systems.
    pub probe: ProbeReport,
    /// The partitions of a raw disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
    /// The report on the guest's disk inside the image, from [`inspect_deep`](super::inspect_deep).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Box<InspectReport>>,
}

impl InspectReport {
    /// Creates the report of a finished examination, with all findings judged and sorted.
    pub(crate) fn new(
        mut examination: Examination<'_>,
        probe: ProbeReport,
        options: &InspectOptions,
    ) -> Self {
        for limit in &probe.limits_hit {
            examination.limit(limit);
        }
        let uri = examination.storage().uri().to_owned();
        let file_len = examination.input.len();
        let virtual_size = examination.virtual_size().or_else(|| general::raw_size(&probe));
        let (found, limits_hit) = examination.finish();
        let mut findings: Vec<Finding> =
            found.into_iter().map(|found| Finding::new(found, &options.policy)).collect();
        findings.sort_by(|a, b| {
            (b.verdict, b.severity, a.code, a.from_end, a.offset)
                .cmp(&(a.verdict, a.severity, b.code, b.from_end, b.offset))
        });
        Self {
            uri,
            file_len,
            format: probe.selected.clone(),
            variant: probe.selected().and_then(|selected| selected.variant.clone()),
            virtual_size,
            verdict: findings.iter().map(|found| found.verdict).max().unwrap_or(Verdict::Accept),
            policy: options.policy.clone(),
            findings,
            limits_hit,
            probe,
            partitions: Vec::new(),
            guest: None,
        }
    }
}
