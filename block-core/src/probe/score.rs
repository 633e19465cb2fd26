//! Turns evidence into a number. Scores are computed nowhere else.

use super::claim::Probe;
use super::evidence::{Effect, Integrity, Mirror};
use super::hint::Hint;
use serde::Serialize;

/// How strongly the evidence supports a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Score {
    /// 0 (not this format) to 100 (confirmed by a checksum or an identical copy).
    pub value: u8,
    /// The name of the value's range.
    pub band: Band,
}

/// Named ranges of [`Score::value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Band {
    /// 0: no evidence.
    None,
    /// 1: the weakest claim. Raw makes it on every file.
    Raw,
    /// Up to 10: the file name and nothing else.
    NameOnly,
    /// Up to 30: a magic of two or three bytes and nothing else.
    VeryWeak,
    /// Up to 59: a short magic with structure, a word alone, or raw with hints.
    Weak,
    /// 60 to 74: this format, but damaged or of an unknown version.
    Broken,
    /// 75 to 79: recognised, with one recoverable oddity.
    Degraded,
    /// 80 to 89: the structure checks pass, but there is little to check or the layout is old.
    Plausible,
    /// 90 to 94: the signature matches and all checks pass.
    Good,
    /// 95 to 99: the signature matches, the version is known, and at least three checks pass.
    Strong,
    /// 100: confirmed by a checksum or an identical second copy.
    Confirmed,
}

/// Lowest score of a claim.
pub(super) const CLAIM: u8 = 60;

/// Lowest score of a sound claim. A claim below it is damaged or of an unknown version.
const SOUND: u8 = 75;

impl Score {
    /// Whether this is a claim. A claim beats raw, and two claims are ambiguous unless one carries or refines the
    /// other.
    pub fn is_claim(self) -> bool {
        self.value >= CLAIM
    }

    /// Whether this is a claim whose checks pass.
    pub fn is_sound(self) -> bool {
        self.value >= SOUND
    }

    pub(super) fn of(value: u8) -> Self {
        let band = match value {
            0 => Band::None,
            1 => Band::Raw,
            2..=10 => Band::NameOnly,
            11..=30 => Band::VeryWeak,
            31..=59 => Band::Weak,
            60..=74 => Band::Broken,
            75..=79 => Band::Degraded,
            80..=89 => Band::Plausible,
            90..=94 => Band::Good,
            95..=99 => Band::Strong,
            _ => Band::Confirmed,
        };
        Self { value, band }
    }
}

/// Scores an answer from its evidence.
///
/// | score | meaning |
/// |---|---|
/// | 100 | signature of 4 bytes or more, a checksum or second copy agrees, all checks pass |
/// | 95 / 90 | signature, known version, three or more / fewer checks pass |
/// | 75 | exactly one recoverable oddity |
/// | 60 | the signature is there, but the version is unknown or a check fails |
/// | 45 | a bare magic with nothing after it, a word or short magic alone, a text with two keywords |
/// | 30 / 10 | two or three bytes of magic / only the name |
///
/// The probe's ceiling can only lower the result.
pub fn score(probe: &Probe) -> Score {
    Score::of(value(probe).min(probe.ceiling))
}

/// Scores raw: 1, or up to 50 if partition tables or file systems are seen.
pub fn raw_score(hints: &[Hint]) -> Score {
    let best = hints.iter().map(|hint| hint.weight).max().unwrap_or(0);
    let value =
        if best == 0 { 1 } else { best.checked_div(2).unwrap_or(0).saturating_add(1).min(50) };
    // Raw keeps its own band where the number would say "name only".
    let band = if value <= 10 { Band::Raw } else { Score::of(value).band };
    Score { value, band }
}

#[derive(Default)]
struct Tally {
    signature: u8,
    strong_signature: bool,
    text: u8,
    name: bool,
    readable: bool,
    passed: u8,
    failed: u8,
    oddities: u8,
    confirmed: bool,
}

impl Tally {
    fn of(probe: &Probe) -> Self {
        let mut tally = Self::default();
        for evidence in &probe.evidence {
            let read = !evidence.found.is_empty() || evidence.len == 0;
            match evidence.effect {
                Effect::Signature { bytes, word } => {
                    tally.signature = tally.signature.max(bytes);
                    tally.strong_signature |= !word && bytes >= 4;
                }
                Effect::Version { known } => {
                    tally.readable |= read;
                    tally.failed = tally.failed.saturating_add(u8::from(!known));
                }
                Effect::Structure { passed } => {
                    tally.readable |= read;
                    tally.passed = tally.passed.saturating_add(u8::from(passed));
                    tally.failed = tally.failed.saturating_add(u8::from(!passed));
                }
                Effect::Integrity(Integrity::Pass) | Effect::Duplicate(Mirror::Equal) => {
                    tally.readable = true;
                    tally.confirmed = true;
                }
                Effect::Integrity(Integrity::Fail) => {
                    tally.readable |= read;
                    tally.failed = tally.failed.saturating_add(1);
                }
                Effect::Duplicate(Mirror::Differs | Mirror::Missing) | Effect::Degraded => {
                    tally.oddities = tally.oddities.saturating_add(1);
                }
                Effect::Text => tally.text = tally.text.saturating_add(1),
                Effect::Name => tally.name = true,
                Effect::Integrity(Integrity::Absent) | Effect::Slack | Effect::Note => {}
            }
        }
        tally
    }
}

fn value(probe: &Probe) -> u8 {
    let tally = Tally::of(probe);
    if tally.signature == 0 {
        return match tally.text {
            0 if tally.name => 10,
            0 => 0,
            1 => 30,
            2 => 45,
            _ if tally.failed > 0 => 60,
            _ => 85,
        };
    }
    if tally.signature < 3 {
        return if tally.passed > 0 && tally.failed == 0 { 45 } else { 30 };
    }
    if !tally.strong_signature && tally.passed == 0 && !tally.confirmed {
        return if tally.signature == 3 { 30 } else { 45 };
    }
    let long = tally.signature >= 8;
    if !long && !tally.readable {
        return 45;
    }
    if tally.failed > 0 {
        return 60;
    }
    match tally.oddities {
        0 => {}
        1 => return 75,
        _ => return 60,
    }
    if tally.confirmed {
        100
    } else if tally.passed >= 3 {
        95
    } else if tally.passed > 0 || tally.readable {
        90
    } else {
        60
    }
}
