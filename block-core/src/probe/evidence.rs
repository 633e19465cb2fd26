//! One observation about a file: what was found, what was expected, and its effect on the score.

use super::limits;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// A range of the file, counted from its start or back from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Bytes from the start of the file. If `from_end`, bytes from the start of the range to the end of the file.
    pub offset: u64,
    /// Whether `offset` counts back from the end.
    pub from_end: bool,
    /// Length of the range in bytes.
    pub len: u32,
}

impl Location {
    /// Returns the range of `len` bytes at `offset`.
    pub const fn start(offset: u64, len: u32) -> Self {
        Self { offset, from_end: false, len }
    }

    /// Returns the range of `len` bytes that begins `from_end` bytes before the end.
    pub const fn end(from_end: u64, len: u32) -> Self {
        Self { offset: from_end, from_end: true, len }
    }

    /// Returns the absolute offset in a file of `file_len` bytes, or `None` if the file is too short.
    pub fn absolute(&self, file_len: u64) -> Option<u64> {
        if self.from_end { file_len.checked_sub(self.offset) } else { Some(self.offset) }
    }
}

impl From<(u64, u32)> for Location {
    fn from((offset, len): (u64, u32)) -> Self {
        Self::start(offset, len)
    }
}

/// What an observation says about a format. The score is computed from these alone. A prober never supplies a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The format's magic is at its fixed offset.
    Signature {
        /// Length of the magic in bytes.
        bytes: u8,
        /// Whether the magic is an ordinary word or a short wrapper magic, which proves little alone.
        word: bool,
    },
    /// The version field was checked.
    Version {
        /// Whether the prober supports this version.
        known: bool,
    },
    /// A checksum was checked.
    Integrity(Integrity),
    /// A field was checked alone, against another field, or against the file length.
    Structure {
        /// Whether the check passed.
        passed: bool,
    },
    /// The second copy of a structure was compared.
    Duplicate(Mirror),
    /// A recoverable oddity: an unclean flag, a missing trailer, one damaged copy of two.
    Degraded,
    /// Nonzero bytes where normal writers leave zeros. Does not lower the score.
    Slack,
    /// A keyword of a text format is present.
    Text,
    /// The file name has an extension of this format. Never decides.
    Name,
    /// A fact for display, neither for nor against.
    Note,
}

/// The result of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// The stored value equals the computed one.
    Pass,
    /// The stored value differs from the computed one.
    Fail,
    /// The checksum is optional and missing, or the bytes it covers were not read.
    Absent,
}

/// How the second copy of a structure compares to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mirror {
    /// The copies are equal.
    Equal,
    /// The copies differ.
    Differs,
    /// One copy is missing.
    Missing,
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The name of what was checked, such as `magic`, `version` or `block size`.
    pub code: Cow<'static, str>,
    /// Where it begins: bytes from the start of the file, or before its end if `from_end`.
    pub offset: u64,
    /// Whether `offset` counts back from the end of the file.
    pub from_end: bool,
    /// Number of bytes checked.
    pub len: u32,
    /// The first bytes found there, at most [`limits::FOUND`]. Empty if they are absent. Serialised in hexadecimal.
    #[serde(serialize_with = "hex")]
    pub found: Vec<u8>,
    /// What was expected.
    pub expected: Cow<'static, str>,
    /// The effect on the format's score.
    pub effect: Effect,
}

impl Evidence {
    /// Creates an observation of `found` at `at`, keeping the first [`limits::FOUND`] bytes.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        at: Location,
        found: &[u8],
        expected: impl Into<Cow<'static, str>>,
        effect: Effect,
    ) -> Self {
        let found = found.get(..limits::FOUND).unwrap_or(found).to_vec();
        Self {
            code: code.into(),
            offset: at.offset,
            from_end: at.from_end,
            len: at.len,
            found,
            expected: expected.into(),
            effect,
        }
    }

    /// Returns the offset for display: `0x40`, or `END-512`.
    pub fn place(&self) -> String {
        if self.from_end { format!("END-{}", self.offset) } else { format!("{:#x}", self.offset) }
    }

    /// Returns the absolute offset in a file of `file_len` bytes, or `None` if the file is too short.
    pub fn absolute(&self, file_len: u64) -> Option<u64> {
        Location { offset: self.offset, from_end: self.from_end, len: self.len }.absolute(file_len)
    }

    /// Returns the bytes found in hexadecimal, separated by spaces.
    pub fn found_hex(&self) -> String {
        to_hex(&self.found)
    }

    /// Whether this observation counts against the format.
    pub fn is_against(&self) -> bool {
        matches!(
            self.effect,
            Effect::Version { known: false }
                | Effect::Structure { passed: false }
                | Effect::Integrity(Integrity::Fail)
                | Effect::Duplicate(Mirror::Differs | Mirror::Missing)
                | Effect::Degraded
        )
    }
}

/// Returns `bytes` in upper-case hexadecimal, separated by spaces.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_hex(bytes))
}
