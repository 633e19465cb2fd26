//! Formats that a registry can recognise without a driver, as data.

use super::claim::Probe;
use super::hint::Hint;
use super::input::ProbeInput;
use super::plan::WindowRequests;
use crate::inspect::Inspector;

/// Requests more windows, given those already read.
pub type RequestWindows = fn(&ProbeInput, &mut WindowRequests);

/// Looks for partition tables and file systems.
pub type LookForHints = fn(&ProbeInput) -> Vec<Hint>;

/// One format that can be recognised without a driver.
#[derive(Clone, Copy, Debug)]
pub struct Recogniser {
    /// The name of the format.
    pub id: &'static str,
    /// Examines the windows. Pure and infallible.
    pub probe: fn(&ProbeInput) -> Probe,
    /// Requests more windows, if the format needs any.
    pub windows: Option<RequestWindows>,
}

impl Recogniser {
    /// Creates a recogniser that needs only the first windows.
    pub const fn new(id: &'static str, probe: fn(&ProbeInput) -> Probe) -> Self {
        Self { id, probe, windows: None }
    }

    /// Creates a recogniser that requests more windows.
    pub const fn wanting(
        id: &'static str,
        probe: fn(&ProbeInput) -> Probe,
        windows: RequestWindows,
    ) -> Self {
        Self { id, probe, windows: Some(windows) }
    }
}

/// A set of formats to recognise and inspect, passed to
/// [`Registry::register_catalogue`](crate::Registry::register_catalogue).
///
/// If a driver has the same name as a recogniser, the driver's answer replaces the recogniser's.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    /// The formats, grouped by family.
    pub recognisers: &'static [&'static [Recogniser]],
    /// Probers for partition tables and file systems, grouped by family.
    pub hints: &'static [&'static [LookForHints]],
    /// Requests the windows that the hints need.
    pub hint_windows: &'static [RequestWindows],
    /// Examines the metadata of formats.
    pub inspectors: &'static [Inspector],
}

impl Catalogue {
    /// Returns all recognisers.
    pub fn recognisers(&self) -> impl Iterator<Item = &'static Recogniser> {
        self.recognisers.iter().copied().flatten()
    }

    /// Returns the partition tables and file systems found in the windows.
    pub fn hints(&self, input: &ProbeInput) -> Vec<Hint> {
        self.hints.iter().copied().flatten().flat_map(|look| look(input)).collect()
    }

    /// Requests the windows that recognisers and hints need beyond those already read.
    pub fn request_windows(&self, input: &ProbeInput, requests: &mut WindowRequests) {
        let recognisers = self.recognisers().filter_map(|recogniser| recogniser.windows);
        for request in recognisers.chain(self.hint_windows.iter().copied()) {
            request(input, requests);
        }
    }
}
