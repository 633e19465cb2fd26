//! What is known of formats that no registered driver opens, as data for a registry.

use super::claim::Probe;
use super::hint::Hint;
use super::input::ProbeInput;
use super::plan::WindowRequests;
use crate::inspect::Inspector;

/// Asks for more windows after seeing those that were read.
pub type RequestWindows = fn(&ProbeInput, &mut WindowRequests);

/// Looks for partition tables and file systems.
pub type LookForHints = fn(&ProbeInput) -> Vec<Hint>;

/// One format that can be named without a driver.
#[derive(Clone, Copy, Debug)]
pub struct Recogniser {
    /// The name of the format.
    pub id: &'static str,
    /// Looks at the windows. Pure; cannot fail.
    pub probe: fn(&ProbeInput) -> Probe,
    /// Asks for more windows, if the format needs any.
    pub windows: Option<RequestWindows>,
}

impl Recogniser {
    /// A format whose probe needs no more than the first windows.
    pub const fn new(id: &'static str, probe: fn(&ProbeInput) -> Probe) -> Self {
        Self { id, probe, windows: None }
    }

    /// A format that asks for more windows.
    pub const fn wanting(
        id: &'static str,
        probe: fn(&ProbeInput) -> Probe,
        windows: RequestWindows,
    ) -> Self {
        Self { id, probe, windows: Some(windows) }
    }
}

/// A set of formats to recognise and inspect. [`Registry::register_catalogue`](crate::Registry::register_catalogue)
/// takes it.
///
/// A driver's own answer replaces that of a recogniser with the driver's name.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    /// The formats, family by family.
    pub recognisers: &'static [&'static [Recogniser]],
    /// Partition tables and file systems, family by family.
    pub hints: &'static [&'static [LookForHints]],
    /// Asks for the windows that hints need.
    pub hint_windows: &'static [RequestWindows],
    /// Examines the metadata of formats.
    pub inspectors: &'static [Inspector],
}

impl Catalogue {
    /// All recognisers.
    pub fn recognisers(&self) -> impl Iterator<Item = &'static Recogniser> {
        self.recognisers.iter().copied().flatten()
    }

    /// The partition tables and file systems in the windows.
    pub fn hints(&self, input: &ProbeInput) -> Vec<Hint> {
        self.hints.iter().copied().flatten().flat_map(|look| look(input)).collect()
    }

    /// Asks for the windows that recognisers and hints need beyond those that were read.
    pub fn request_windows(&self, input: &ProbeInput, requests: &mut WindowRequests) {
        let recognisers = self.recognisers().filter_map(|recogniser| recogniser.windows);
        for request in recognisers.chain(self.hint_windows.iter().copied()) {
            request(input, requests);
        }
    }
}
