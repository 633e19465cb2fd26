//! Options for an inspection: the policy, the declared format and the limits.

use super::policy::Policy;
use block_core::inspect::InspectLimits;

/// Options for an inspection.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct InspectOptions {
    /// The verdict for each finding.
    pub policy: Policy,
    /// The format that the caller declared for the file.
    pub declared: Option<String>,
    /// Read limits and thresholds for excessive values.
    pub limits: InspectLimits,
}

impl InspectOptions {
    /// Creates options with `policy` and no declared format.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Declares the format of the file.
    #[must_use]
    pub fn declared(mut self, format: impl Into<String>) -> Self {
        self.declared = Some(format.into());
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: InspectLimits) -> Self {
        self.limits = limits;
        self
    }
}
