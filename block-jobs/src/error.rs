//! The error of a job: which disk failed, in which step, where, and why.

use std::error::Error as StdError;
use std::fmt;

use block_core::{Error, ErrorKind};

/// The result of a job.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// The disk that a failed step was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// One of the disks that the job reads, by its number in the caller's order, counted from 0.
    Source(usize),
    /// The disk that the job writes.
    Target,
    /// No disk, or several disks at once.
    Neither,
}

/// The step in which a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Checking the caller's request, before anything is read or written.
    Check,
    /// Asking a disk which of its ranges hold data.
    Map,
    /// Reading data.
    Read,
    /// Writing data or zeros.
    Write,
    /// Copying from one disk to another in a layer below the job.
    Copy,
    /// Emptying, amending, flushing or closing an image at the end.
    Finish,
    /// Starting, feeding or joining the threads of the job.
    Run,
}

/// A job that failed.
#[derive(Debug)]
pub struct JobError {
    side: Side,
    step: Step,
    offset: Option<u64>,
    error: Error,
}

impl JobError {
    /// A failure of `step` on `side`, caused by `error`.
    pub(crate) fn new(side: Side, step: Step, error: Error) -> Self {
        Self { side, step, offset: None, error }
    }

    /// A state of the job itself that its code rules out.
    pub(crate) fn internal(what: &'static str) -> Self {
        Self::new(Side::Neither, Step::Run, Error::new(ErrorKind::Internal, what))
    }

    /// With the first byte, as an offset in the disk, of the range that the step was about.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The disk that the step was about.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The first byte of the range that the step was about, where the job knows it.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The reason.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Check => "the request cannot be met",
            Step::Map => "reading the map failed",
            Step::Read => "reading failed",
            Step::Write => "writing failed",
            Step::Copy => "copying failed",
            Step::Finish => "finishing failed",
            Step::Run => "the job failed",
        })?;
        match self.side {
            Side::Source(number) => write!(f, " on source {number}")?,
            Side::Target => f.write_str(" on the target")?,
            Side::Neither => {}
        }
        match self.offset {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

impl StdError for JobError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}
