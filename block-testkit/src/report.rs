//! Test results: counts that prove coverage, or a broken promise with all data to reproduce it.

use std::fmt;

use super::ops::Op;

/// Counts of what was tested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories replayed.
    pub runs: u64,
    /// Requests sent to disks.
    pub requests: u64,
    /// Sectors compared with their allowed contents.
    pub sectors: u64,
    /// Faults injected.
    pub faults: u64,
    /// Futures dropped before they completed.
    pub dropped: u64,
    /// Crash states opened and examined.
    pub crash_states: u64,
    /// Crash states in which unflushed data was partly on disk.
    pub partial_states: u64,
    /// Distinct crash states. 0 if the caller does not count them.
    pub distinct_states: u64,
}

impl Tally {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.faults += other.faults;
        self.dropped += other.dropped;
        self.crash_states += other.crash_states;
        self.partial_states += other.partial_states;
        self.distinct_states += other.distinct_states;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} histories, {} requests, {} sectors compared, {} faults, {} dropped, {} crash states ({} partial)",
            self.runs,
            self.requests,
            self.sectors,
            self.faults,
            self.dropped,
            self.crash_states,
            self.partial_states
        )?;
        match self.distinct_states {
            0 => Ok(()),
            distinct => write!(f, ", {distinct} of them distinct"),
        }
    }
}

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The name of the promise.
    pub promise: &'static str,
    /// The name of the subject.
    pub subject: String,
    /// A description of the violation.
    pub what: String,
    /// The seed that reproduces it.
    pub seed: u64,
    /// The requests, shortened as far as possible.
    pub ops: Vec<Op>,
    /// The fault, dropped future or crash state.
    pub circumstance: Option<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: the promise '{}' is broken", self.subject, self.promise)?;
        writeln!(f, "  WHAT  {}", self.what)?;
        writeln!(f, "  SEED  {:#x}", self.seed)?;
        let ops: Vec<String> = self.ops.iter().map(Op::to_string).collect();
        writeln!(f, "  OPS   {}", if ops.is_empty() { "-".to_owned() } else { ops.join(" | ") })?;
        if let Some(circumstance) = &self.circumstance {
            writeln!(f, "  WHEN  {circumstance}")?;
        }
        Ok(())
    }
}

/// The result of testing a promise.
pub type Verdict = Result<Tally, Box<Violation>>;
