//! One thing that was found in a file.

use super::policy::{Policy, Verdict};
use block_core::inspect::{Code, Found, Severity};
use serde::Serialize;

/// What was found, where, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The stable name of it.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What the policy makes of it.
    pub verdict: Verdict,
    /// The format whose structure it is in.
    pub format: String,
    /// Bytes from the start, or before the end when `from_end`; `None` when it is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether `offset` counts back from the end of the file.
    pub from_end: bool,
    /// How many bytes are concerned.
    pub len: u32,
    /// The first of them in hexadecimal; empty when they are not there.
    pub found: String,
    /// A name that the file gives, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was found and what was wanted, a clause.
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

    /// The place as people write it: `0x40`, `END-512`, or nothing.
    pub fn place(&self) -> String {
        match self.offset {
            Some(offset) if self.from_end => format!("END-{offset}"),
            Some(offset) => format!("{offset:#x}"),
            None => String::new(),
        }
    }
}
