//! What all answers together say about a file.

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
    /// One format claims the file, and it is damaged or of an unknown version (60 to 74). It is never opened as raw.
    Broken,
    /// Two or more formats claim the file: some other program would see another disk in it. Refused.
    Ambiguous,
    /// Nothing claims the file: raw, by default of anything else.
    Raw,
    /// The file has no bytes.
    Empty,
}

/// One format with its score and evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The format's name.
    pub id: String,
    /// What sort of format it is.
    pub kind: Kind,
    /// A closer description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How sure the evidence makes us.
    #[serde(flatten)]
    pub score: Score,
    /// The evidence, in the order it was looked at.
    pub evidence: Vec<Evidence>,
    /// Names of drivers that open it, the closest first.
    pub drivers: Vec<String>,
    /// Where the format's own structures lie.
    #[serde(skip)]
    pub placement: Placement,
}

/// Two hits on one file and what they are to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// What the pair is.
    pub kind: RelationKind,
    /// The one that stands, or, of an ambiguous pair, the first by name.
    pub outer: String,
    /// The one that yields, is carried, or contradicts.
    pub inner: String,
}

/// What two simultaneous hits are to each other.
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
    /// Two readings of one file.
    Ambiguous,
}

/// A window of the file that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowRead {
    /// Bytes from the start.
    pub offset: u64,
    /// Bytes read.
    pub len: u64,
}

/// What a file is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// Length of the file in bytes.
    pub file_len: u64,
    /// The format the file is taken for; `None` when it is ambiguous. An empty file is a raw disk of 0 bytes.
    pub selected: Option<String>,
    /// The outcome.
    pub decision: Decision,
    /// All formats with any evidence, best first, then by name; raw is always among them.
    pub candidates: Vec<Candidate>,
    /// Partition tables and file systems seen.
    pub raw_hints: Vec<Hint>,
    /// How simultaneous hits relate.
    pub relations: Vec<Relation>,
    /// What was read.
    pub windows_read: Vec<WindowRead>,
    /// Limits that kept the probe from reading more.
    pub limits_hit: Vec<String>,
}

impl ProbeReport {
    /// The candidate the file is taken for.
    pub fn selected(&self) -> Option<&Candidate> {
        let selected = self.selected.as_deref()?;
        self.candidate(selected)
    }

    /// The candidate named `id`.
    pub fn candidate(&self, id: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.id == id)
    }

    /// Names of drivers that may open the file, the closest first: `vhd-diff` and then `vhd`, or `iso9660` and then
    /// `raw`. Empty when the file is ambiguous, a wrapper or not a disk.
    pub fn drivers(&self) -> &[String] {
        self.selected().map_or(&[], |candidate| &candidate.drivers)
    }

    /// Whether opening the file by detection gives the raw driver.
    pub fn is_raw(&self) -> bool {
        self.drivers().last().is_some_and(|driver| driver == "raw")
    }

    /// Whether the guest's disk begins where the file begins, so that the guest decides what the next probe finds there:
    /// a raw disk, or one with nothing but a trailer behind it, such as a fixed VHD.
    pub fn is_written_by_guest(&self) -> bool {
        self.is_raw()
            || self.selected().is_some_and(|selected| selected.placement == Placement::Trailer)
    }

    /// One line that explains the outcome:
    /// `vdi 95: magic@0x40 7F 10 DA BE; version@0x44 01 00 01 00`.
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
