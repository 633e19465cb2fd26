//! What a test found: counts that prove it looked, or a broken promise with all it takes to see it again.

use std::fmt;

use super::ops::Op;

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories played.
    pub runs: u64,
    /// Requests sent to disks.
    pub requests: u64,
    /// Sectors compared with what they may hold.
    pub sectors: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Futures dropped before they were done.
    pub dropped: u64,
    /// States after a power cut that were opened and examined.
    pub crash_states: u64,
    /// Crash states in which something unflushed was partly there: the interesting ones.
    pub partial_states: u64,
    /// How many of all crash states differ from each other, as far as somebody counts.
    pub distinct_states: u64,
}

impl Tally {
    /// Adds another count.
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
    /// Which promise.
    pub promise: &'static str,
    /// Whose.
    pub subject: String,
    /// What was wrong.
    pub what: String,
    /// The seed that led there.
    pub seed: u64,
    /// The requests, as few as the shrinker could make them.
    pub ops: Vec<Op>,
    /// The fault, the dropped future or the crash state in question.
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

/// What a promise's test gives.
pub type Verdict = Result<Tally, Box<Violation>>;
