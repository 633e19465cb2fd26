//! Turns findings into a verdict.

use block_core::inspect::{Code, Severity};
use serde::Serialize;
use std::collections::BTreeMap;

/// What to do with a file, in ascending order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No finding is an objection to using the file.
    Accept,
    /// Use the file only after reading the findings.
    Warn,
    /// Do not use the file.
    Refuse,
}

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// From an untrusted source. The file must be self-contained.
    Untrusted,
    /// From a source that may name other files and ask for large disks. A file that contradicts itself is still
    /// refused.
    Trusted,
}

/// The verdict for each finding.
///
/// | severity | untrusted | trusted |
/// |---|---|---|
/// | critical, high | refuse | warn if the code [is about the origin](Code::is_about_origin), else refuse |
/// | medium | warn | warn |
/// | info | accept | accept |
///
/// The verdict on a single code can be overridden. There is no switch for all codes.
///
/// ```
/// use block_inspect::{Code, Policy, Severity, Verdict};
///
/// let policy = Policy::untrusted().with(Code::ExtBacking, Verdict::Accept);
/// assert_eq!(policy.judge(Code::ExtBacking, Severity::Critical), Verdict::Accept);
/// assert_eq!(policy.judge(Code::ExtDatafile, Severity::Critical), Verdict::Refuse);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    origin: Origin,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    overrides: BTreeMap<Code, Verdict>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::untrusted()
    }
}

impl Policy {
    /// Returns the policy for files from an untrusted source.
    pub fn untrusted() -> Self {
        Self { origin: Origin::Untrusted, overrides: BTreeMap::new() }
    }

    /// Returns the policy for files from a trusted source.
    pub fn trusted() -> Self {
        Self { origin: Origin::Trusted, overrides: BTreeMap::new() }
    }

    /// Overrides the verdict on one code.
    #[must_use]
    pub fn with(mut self, code: Code, verdict: Verdict) -> Self {
        self.overrides.insert(code, verdict);
        self
    }

    /// Returns the assumed origin of the file.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the verdict for a finding of `code` with `severity`.
    pub fn judge(&self, code: Code, severity: Severity) -> Verdict {
        if let Some(verdict) = self.overrides.get(&code) {
            return *verdict;
        }
        match severity {
            Severity::Critical | Severity::High => {
                if self.origin == Origin::Trusted && code.is_about_origin() {
                    Verdict::Warn
                } else {
                    Verdict::Refuse
                }
            }
            Severity::Medium => Verdict::Warn,
            Severity::Info => Verdict::Accept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_softens_what_concerns_the_origin_and_nothing_else() {
        let judge = |policy: &Policy, code: Code| policy.judge(code, code.severity());
        let (untrusted, trusted) = (Policy::untrusted(), Policy::trusted());
        for code in Code::ALL {
            let (strict, mild) = (judge(&untrusted, *code), judge(&trusted, *code));
            assert!(mild <= strict, "{code}");
            assert_eq!(strict != mild, code.is_about_origin(), "{code}");
        }
        assert_eq!(judge(&trusted, Code::ExtBacking), Verdict::Warn);
        assert_eq!(judge(&trusted, Code::Polyglot), Verdict::Refuse);
    }
}
