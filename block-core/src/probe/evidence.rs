//! One observation about a file: what stood where, what was wanted, and what it says about the format.

use super::limits;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// A range of the file, counted from its start or back from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Bytes from the start, or, when `from_end`, how many bytes before the end the range begins.
    pub offset: u64,
    /// Whether `offset` counts back from the end.
    pub from_end: bool,
    /// Length of the range in bytes.
    pub len: u32,
}

impl At {
    /// `len` bytes at `offset`.
    pub const fn start(offset: u64, len: u32) -> Self {
        Self { offset, from_end: false, len }
    }

    /// `len` bytes that begin `from_end` bytes before the end.
    pub const fn end(from_end: u64, len: u32) -> Self {
        Self { offset: from_end, from_end: true, len }
    }

    /// The absolute offset in a file of `file_len` bytes; `None` when the file is too short.
    pub fn absolute(&self, file_len: u64) -> Option<u64> {
        if self.from_end { file_len.checked_sub(self.offset) } else { Some(self.offset) }
    }
}

impl From<(u64, u32)> for At {
    fn from((offset, len): (u64, u32)) -> Self {
        Self::start(offset, len)
    }
}

/// What an observation says about a format. Only these, never a number of the prober's choosing, make the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The format's magic stands at its fixed place; this many bytes of it.
    Signature {
        /// Length of the magic in bytes.
        bytes: u8,
        /// The magic is an ordinary word or a short wrapper magic: alone it proves little.
        word: bool,
    },
    /// The version field says something.
    Version {
        /// Whether it is a version the prober knows.
        known: bool,
    },
    /// A checksum over what was read.
    Integrity(Integrity),
    /// A field, or fields against each other or against the file length, make sense.
    Structure {
        /// Whether they do.
        passed: bool,
    },
    /// The format keeps a second copy of this.
    Duplicate(Copy),
    /// A recoverable oddity: an unclean flag, a missing trailer, one damaged copy of two.
    Degraded,
    /// Bytes that normal writers leave zero are not. Does not lower the score.
    Slack,
    /// A keyword of a text format.
    Text,
    /// The file name ends as this format's names do. Never decides.
    Name,
    /// Worth showing; neither for nor against.
    Note,
}

/// How a checksum came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// The stored value is the computed one.
    Pass,
    /// It is not.
    Fail,
    /// The format allows it to be left out, and it is; or the bytes it covers were not read.
    Absent,
}

/// How the second copy of a structure compares to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copy {
    /// Both are the same.
    Equal,
    /// They contradict each other.
    Differs,
    /// Only one is there.
    Missing,
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What was looked at, in words: `magic`, `version`, `block size`.
    pub code: Cow<'static, str>,
    /// Where it begins, in bytes from the start, or before the end when `from_end`.
    pub offset: u64,
    /// Whether `offset` counts back from the end of the file.
    pub from_end: bool,
    /// How many bytes were looked at.
    pub len: u32,
    /// The first bytes found there, at most [`limits::FOUND`]; empty when they are absent. Hexadecimal when serialised.
    #[serde(serialize_with = "hex")]
    pub found: Vec<u8>,
    /// What was wanted.
    pub expected: Cow<'static, str>,
    /// What it says about the format.
    pub effect: Effect,
}

impl Evidence {
    /// An observation of `found` (cut to [`limits::FOUND`] bytes) at `at`.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        at: At,
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

    /// The place as people write it: `0x40`, or `END-512`.
    pub fn place(&self) -> String {
        if self.from_end { format!("END-{}", self.offset) } else { format!("{:#x}", self.offset) }
    }

    /// Where it begins in a file of `file_len` bytes.
    pub fn absolute(&self, file_len: u64) -> Option<u64> {
        At { offset: self.offset, from_end: self.from_end, len: self.len }.absolute(file_len)
    }

    /// The bytes found, in hexadecimal with spaces.
    pub fn found_hex(&self) -> String {
        to_hex(&self.found)
    }

    /// Whether this observation speaks against the format.
    pub fn is_against(&self) -> bool {
        matches!(
            self.effect,
            Effect::Version { known: false }
                | Effect::Structure { passed: false }
                | Effect::Integrity(Integrity::Fail)
                | Effect::Duplicate(Copy::Differs | Copy::Missing)
                | Effect::Degraded
        )
    }
}

/// Bytes in upper-case hexadecimal with spaces between them.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_hex(bytes))
}
