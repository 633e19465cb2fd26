//! The combined result of all probers for one file.

use super::claim::{Kind, Placement};
use super::evidence::{Effect, Evidence};
use super::hint::Hint;
use super::score::Score;
use serde::Serialize;

/// The outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// One format claims the file and its checks pass (75 or more).
    Selected,
    /// One format claims the file, but it is damaged or of an unknown version (60 to 74). It is never opened as raw.
    Broken,
    /// Two or more formats claim the file, and another program could see a different disk in it. It is refused.
    Ambiguous,
    /// No format claims the file, so it is raw.
    Raw,
    /// The file has no bytes.
    Empty,
}

/// One format with its score and evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The format's name.
    pub id: String,
    /// The sort of format.
    pub kind: Kind,
    /// A more precise description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How strongly the evidence supports the format.
    #[serde(flatten)]
    pub score: Score,
    /// The evidence, in the order it was collected.
    pub evidence: Vec<Evidence>,
    /// Names of the drivers that open it, the most specific first.
    pub drivers: Vec<String>,
    /// Where the format's own structures are.
    #[serde(skip)]
    pub placement: Placement,
}

/// How two matches on one file relate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// The kind of relation.
    pub kind: RelationKind,
    /// The match that is kept. Of an ambiguous pair, the first by name.
    pub outer: String,
    /// The match that is dropped, carried, or in conflict.
    pub inner: String,
}

/// How two simultaneous matches relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelationKind {
    /// The outer is a special case of the inner.
    Refinement,
    /// Both are names for the same bytes.
    SameBytes,
    /// The outer carries the inner as its content.
    Carrier,
    /// A trailer format around a container with its own header.
    NestedContainer,
    /// The file can be read as either.
    Ambiguous,
}

/// A window of the file that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowRead {
    /// Offset in bytes from the start of the file.
    pub offset: u64,
    /// Bytes read.
    pub len: u64,
}

/// The format of a file and the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// Length of the file in bytes.
    pub file_len: u64,
    /// The selected format, or `None` if the file is ambiguous. An empty file is a raw disk of 0 bytes.
    pub selected: Option<String>,
    /// The outcome.
    pub decision: Decision,
    /// All formats with any evidence, the highest score first, then by name. Raw is always among them.
    pub candidates: Vec<Candidate>,
    /// Partition tables and file systems that were seen.
    pub raw_hints: Vec<Hint>,
    /// How simultaneous matches relate.
    pub relations: Vec<Relation>,
    /// The windows that were read.
    pub windows_read: Vec<WindowRead>,
    /// Names of the limits that stopped the probe from reading more.
    pub limits_hit: Vec<String>,
}

impl ProbeReport {
    /// Returns the selected candidate.
    pub fn selected(&self) -> Option<&Candidate> {
        let selected = self.selected.as_deref()?;
        self.candidate(selected)
    }

    /// Returns the candidate named `id`.
    pub fn candidate(&self, id: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.id == id)
    }

    /// Returns the names of the drivers that may open the file, the most specific first: `vhd-diff` then `vhd`, or
    /// `iso9660` then `raw`. Empty if the file is ambiguous, a wrapper or not a disk.
    pub fn drivers(&self) -> &[String] {
        self.selected().map_or(&[], |candidate| &candidate.drivers)
    }

    /// Whether opening the file by detection selects the raw driver.
    pub fn is_raw(&self) -> bool {
        self.drivers().last().is_some_and(|driver| driver == "raw")
    }

    /// Whether the guest's disk begins at byte 0 of the file, so that the guest controls what the next probe finds
    /// there. True for a raw disk, and for one followed only by a trailer, such as a fixed VHD.
    pub fn is_written_by_guest(&self) -> bool {
        self.is_raw()
            || self.selected().is_some_and(|selected| selected.placement == Placement::Trailer)
    }

    /// Returns one line that explains the outcome:
    pub fn explain(&self) -> String {
        let mut parts = Vec::new();
        for candidate in
            self.candidates.iter().filter(|candidate| candidate.score.value >= 30).take(4)
        {
            let facts: Vec<String> = candidate
                .evidence
                .iter()
                .filter(|evidence| !matches!(evidence.effect, Effect::Note | Effect::Name))
                .take(6)
                .map(|evidence| {
                    let verdict = if evidence.is_against() {
                        format!(" (wanted {})", evidence.expected)
                    } else {
                        String::new()
                    };
                    format!(
                        "{}@{} {}{verdict}",
                        evidence.code,
                        evidence.place(),
                        evidence.found_hex()
                    )
                })
                .collect();
            parts.push(format!("{} {}: {}", candidate.id, candidate.score.value, facts.join("; ")));
        }
        if parts.is_empty() {
            parts.push(match self.decision {
                Decision::Empty => "raw: the file is empty".to_owned(),
                _ => "raw 1: nothing else claims the file".to_owned(),
            });
        }
        let line = parts.join(" | also ");
        if self.decision == Decision::Ambiguous { format!("{line} → AMBIGUOUS") } else { line }
    }
}
