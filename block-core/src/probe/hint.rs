//! Hints about a raw disk's content: partition tables and file systems.

use super::evidence::{Effect, Evidence, Location};
use super::input::ProbeInput;
use serde::Serialize;
use std::borrow::Cow;

/// A partition table or file system seen in the windows. It raises the score of raw and never selects a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// Its name: `mbr`, `gpt`, `ext`, `ntfs`.
    pub id: Cow<'static, str>,
    /// Confidence, 0 to 100. From 60 on it contradicts a container that does not own the place.
    pub weight: u8,
    /// Byte offset of the magic from the start of the file.
    pub offset: u64,
    /// The checks that were made.
    pub evidence: Vec<Evidence>,
    /// Other hints for the same bytes, which this one replaces.
    #[serde(skip)]
    pub covers: &'static [&'static str],
}

/// Highest weight of a hint with a failed check.
const FAILED: u8 = 25;

/// Collects the evidence of a [`Hint`].
#[derive(Debug)]
pub struct HintBuilder<'a> {
    input: &'a ProbeInput,
    hint: Hint,
    failed: bool,
}

impl<'a> HintBuilder<'a> {
    /// Starts a hint if the file has `magic` at `offset`.
    pub fn of(id: &'static str, input: &'a ProbeInput, offset: u64, magic: &[u8]) -> Option<Self> {
        if !input.has(offset, magic) {
            return None;
        }
        let len = u32::try_from(magic.len()).unwrap_or(u32::MAX);
        let effect =
            Effect::Signature { bytes: u8::try_from(magic.len()).unwrap_or(u8::MAX), word: false };
        let expected = super::evidence::to_hex(magic);
        let evidence =
            vec![Evidence::new("magic", Location::start(offset, len), magic, expected, effect)];
        let hint = Hint { id: id.into(), weight: 0, offset, evidence, covers: &[] };
        Some(Self { input, hint, failed: false })
    }

    /// Records a field that must hold.
    pub fn check(
        mut self,
        code: &'static str,
        at: impl Into<Location>,
        expected: &'static str,
        passed: bool,
    ) -> Self {
        let at = at.into();
        let len = usize::try_from(at.len).unwrap_or(usize::MAX).min(super::limits::FOUND);
        let found =
            at.absolute(self.input.len()).map_or(&[][..], |offset| self.input.prefix(offset, len));
        self.failed |= !passed;
        let effect = Effect::Structure { passed };
        self.hint.evidence.push(Evidence::new(code, at, found, expected, effect));
        self
    }

    /// Names other hints for the same bytes, which this one replaces.
    #[must_use]
    pub fn covers(mut self, hints: &'static [&'static str]) -> Self {
        self.hint.covers = hints;
        self
    }

    /// Returns the hint with `weight`, or with a low weight if a check failed.
    pub fn done(mut self, weight: u8) -> Hint {
        self.hint.weight = if self.failed { weight.min(FAILED) } else { weight };
        self.hint
    }
}
