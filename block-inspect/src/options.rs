//! How to inspect a file: the declared format, the policy and the limits.

use super::policy::Policy;
use block_core::inspect::InspectLimits;

/// How to inspect.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct InspectOptions {
    /// What a finding means.
    pub policy: Policy,
    /// The format the file is said to have.
    pub declared: Option<String>,
    /// How large and how costly a sound file may be.
    pub limits: InspectLimits,
}

impl InspectOptions {
    /// Under `policy`, with nothing declared.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Says which format the file is said to have.
    #[must_use]
    pub fn declared(mut self, format: impl Into<String>) -> Self {
        self.declared = Some(format.into());
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: InspectLimits) -> Self {
        self.limits = limits;
        self
    }
}
