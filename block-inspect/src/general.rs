//! Findings that follow from the probe's result, independent of the format.

use super::options::InspectOptions;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::{
    Candidate, Decision, Effect, Evidence, Integrity, Kind, Mirror, ProbeReport, RelationKind,
};

/// Turns the probe's result into findings.
pub(super) fn examine(cx: &mut Examination<'_>, probe: &ProbeReport, options: &InspectOptions) {
    let selected = probe.selected.as_deref().unwrap_or("none");
    cx.of_format(selected);
    match probe.decision {
        Decision::Empty => cx.find_overall(Code::Empty, "the file has no bytes"),
        Decision::Raw => {
            cx.find_overall(Code::RawFallback, "nothing claims the file, so it is a raw disk");
            truncation(cx, probe);
        }
        Decision::Ambiguous => ambiguity(cx, probe),
        Decision::Selected | Decision::Broken => {}
    }
    if let Some(candidate) = probe.selected() {
        for evidence in &candidate.evidence {
            judge_evidence(cx, evidence);
        }
        match candidate.kind {
            Kind::Wrapper => {
                let message = format!("this is {selected}, and what is inside was not looked at");
                cx.find_overall(Code::Wrapper, message);
            }
            Kind::NotADisk => cx.find_overall(Code::NotADisk, format!("this is {selected}")),
            Kind::Container | Kind::Descriptor | Kind::Content | Kind::Raw => {}
        }
        name(cx, probe, candidate);
    }
    if let Some(declared) = options.declared.as_deref() {
        declaration(cx, probe, declared);
    }
    let strong: Vec<&str> = probe
        .raw_hints
        .iter()
        .filter(|hint| hint.weight >= 70 && !matches!(hint.id.as_ref(), "mbr" | "gpt" | "apm"))
        .map(|hint| hint.id.as_ref())
        .collect();
    if strong.len() > 1 {
        let message = format!("more than one file system claims the disk: {}", strong.join(", "));
        cx.find_overall(Code::PtBad, message);
    }
}

/// Returns the disk's size in bytes if the file itself is the disk.
pub(super) fn raw_size(probe: &ProbeReport) -> Option<u64> {
    let kind = probe.selected().map(|selected| selected.kind)?;
    matches!(kind, Kind::Raw | Kind::Content).then_some(probe.file_len)
}

fn truncation(cx: &mut Examination<'_>, probe: &ProbeReport) {
    let magic = probe.candidates.iter().find(|candidate| {
        !candidate.score.is_claim()
            && candidate
                .evidence
                .iter()
                .any(|e| matches!(e.effect, Effect::Signature { bytes, word: false } if bytes >= 4))
    });
    if let Some(candidate) = magic {
        let message = format!("the file ends right after the magic of {}", candidate.id);
        cx.find_overall(Code::Truncated, message);
    } else if probe.file_len < 512 {
        cx.find_overall(
            Code::Truncated,
            format!("{} bytes are less than a sector", probe.file_len),
        );
    }
}

fn ambiguity(cx: &mut Examination<'_>, probe: &ProbeReport) {
    for relation in &probe.relations {
        match relation.kind {
            RelationKind::NestedContainer => {
                let message = format!("a {} lies inside a {}", relation.inner, relation.outer);
                cx.find_overall(Code::NestedContainer, message.clone());
                cx.find_overall(Code::Polyglot, message);
            }
            RelationKind::Ambiguous => cx.find_overall(
                Code::Polyglot,
                format!("both {} and {} claim the file", relation.outer, relation.inner),
            ),
            RelationKind::Refinement | RelationKind::SameBytes | RelationKind::Carrier => {}
        }
    }
}

fn judge_evidence(cx: &mut Examination<'_>, evidence: &Evidence) {
    let what = evidence.code.as_ref();
    let absent = evidence.found.is_empty() && evidence.len > 0;
    let found = if absent { "not there".to_owned() } else { evidence.found_hex() };
    let message = format!("{what} is {found}, wanted {}", evidence.expected);
    let code = match evidence.effect {
        Effect::Structure { passed: false } | Effect::Version { known: false } if absent => {
            Code::Truncated
        }
        Effect::Version { known: false } => Code::VersionUnsupported,
        Effect::Structure { passed: false } if what.contains("features") => Code::FeatureUnknown,
        Effect::Structure { passed: false } => Code::Structure,
        Effect::Integrity(Integrity::Fail) => Code::Checksum,
        Effect::Duplicate(Mirror::Differs | Mirror::Missing) => Code::CopyMismatch,
        Effect::Slack => Code::SlackNonzero,
        _ => return,
    };
    // A file that ends inside its own header is broken, not just short.
    if code == Code::Truncated {
        cx.evidence(Code::Structure, evidence, message.clone());
    }
    cx.evidence(code, evidence, message);
}

fn name(cx: &mut Examination<'_>, probe: &ProbeReport, selected: &Candidate) {
    let named =
        |candidate: &Candidate| candidate.evidence.iter().any(|e| matches!(e.effect, Effect::Name));
    if selected.kind != Kind::Container || named(selected) {
        return;
    }
    if let Some(other) = probe.candidates.iter().find(|other| named(other)) {
        let message =
            format!("the name is that of {}, the content that of {}", other.id, selected.id);
        cx.find_overall(Code::NameMismatch, message);
    }
}

fn declaration(cx: &mut Examination<'_>, probe: &ProbeReport, declared: &str) {
    let fits = |candidate: &Candidate| {
        candidate.id == declared || candidate.drivers.iter().any(|driver| driver == declared)
    };
    let other = probe.candidates.iter().find(|candidate| {
        candidate.score.is_claim()
            && !fits(candidate)
            && !(declared == "raw" && candidate.kind == Kind::Content)
    });
    if let Some(other) = other {
        let message = format!("declared as {declared}, and the content is {}", other.id);
        cx.find_overall(Code::ContentMismatch, message);
    } else if declared != "raw" && !probe.candidates.iter().any(|c| fits(c) && c.score.is_claim()) {
        let message = format!("declared as {declared}, and nothing in the file says so");
        cx.find_overall(Code::ContentMismatch, message);
    }
}
