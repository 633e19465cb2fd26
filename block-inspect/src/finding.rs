//! One finding about a file.

use super::policy::{Policy, Verdict};
use block_core::inspect::{Code, Found, Severity};
use serde::Serialize;

/// What was found, where, and the policy's verdict on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The finding's stable name.
    pub code: Code,
    /// The finding's severity.
    pub severity: Severity,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// The format of the structure concerned.
    pub format: String,
    /// Bytes from the start of the file, or before its end if `from_end`. `None` if the finding concerns the whole
    /// file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether `offset` counts back from the end of the file.
    pub from_end: bool,
    /// Number of bytes concerned.
    pub len: u32,
    /// The first of those bytes in hexadecimal. Empty if they are absent.
    pub found: String,
    /// A name found in the file, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A clause saying what was found and what was expected.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(found: Found, policy: &Policy) -> Self {
        Self {
            code: found.code,
            severity: found.severity,
            verdict: policy.judge(found.code, found.severity),
            format: found.format,
            offset: found.at.map(|at| at.offset),
            from_end: found.at.is_some_and(|at| at.from_end),
            len: found.at.map_or(0, |at| at.len),
            found: found.hex,
            name: found.name,
            message: found.message,
        }
    }

    /// Returns the offset for display: `0x40`, `END-512`, or an empty string.
    pub fn place(&self) -> String {
        match self.offset {
            Some(offset) if self.from_end => format!("END-{offset}"),
            Some(offset) => format!("{offset:#x}"),
            None => String::new(),
        }
    }
}
