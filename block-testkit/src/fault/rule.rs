//! Rules: which requests a fault strikes, and its effect.

use std::ops::Range;

use block_core::ErrorKind;

/// The [`Storage`](block_core::Storage) requests that faults can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `copy_from`, for the storage that is written.
    Copy,
    /// `write_zeroes`.
    Zeroes,
    /// `allocate`.
    Allocate,
    /// `set_len`.
    SetLen,
    /// `flush`.
    Flush,
}

impl OpKind {
    /// All requests that change the storage or make changes durable.
    pub const CHANGES: &'static [Self] =
        &[Self::Write, Self::Copy, Self::Zeroes, Self::Allocate, Self::SetLen, Self::Flush];
    /// All requests.
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::Write,
        Self::Copy,
        Self::Zeroes,
        Self::Allocate,
        Self::SetLen,
        Self::Flush,
    ];
    /// The requests that can run out of space.
    pub const TAKES_ROOM: &'static [Self] =
        &[Self::Write, Self::Copy, Self::Zeroes, Self::Allocate, Self::SetLen];
}

/// The half of a torn request that is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// The first half: a short write.
    First,
    /// The second half: a reordered write.
    Second,
}

/// The effect of a rule on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request fails and does nothing.
    Fail(ErrorKind),
    /// Half of the request, cut at a multiple of 512 bytes, is performed. Then it fails.
    Torn(Half, ErrorKind),
    /// The request is fully performed, but reports failure.
    Landed(ErrorKind),
    /// The request reports success, but is never performed.
    Lost,
    /// A flush fails, and the data it should have saved may be lost for good although reads still show it. The kernel
    /// does this when a disk refuses a write. Every later flush fails too, as [`Storage`](block_core::Storage)
    /// promises, until the storage is opened again. Other requests just fail.
    Forgotten(ErrorKind),
    /// The request yields this many times before it begins.
    Delay(u32),
    /// The request never completes.
    Hang,
}

/// A rule that strikes requests with a [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The kinds of requests that are counted and struck.
    pub ops: &'static [OpKind],
    /// Limits the rule to requests that touch these bytes. A flush touches all bytes.
    pub range: Range<u64>,
    /// Number of matching requests that pass before the first strike.
    pub skip: u64,
    /// Number of requests struck after that.
    pub times: u64,
    /// The effect on a struck request.
    pub fault: Fault,
}

impl Rule {
    /// Strikes the first request of these kinds once, at any offset.
    pub fn once(ops: &'static [OpKind], fault: Fault) -> Self {
        Self { ops, range: 0..u64::MAX, skip: 0, times: 1, fault }
    }

    /// Lets `skip` matching requests pass first.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Strikes `times` requests.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Strikes every request until the rule is cleared.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    /// Limits the rule to requests that touch these bytes.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = range;
        self
    }

    /// Counts a request and returns the fault, if it strikes.
    pub(super) fn strike(&mut self, op: OpKind, touched: &Range<u64>) -> Option<Fault> {
        let hit = self.ops.contains(&op)
            && touched.start < self.range.end
            && self.range.start < touched.end.max(touched.start + 1);
        if !hit || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= u64::from(self.times != u64::MAX);
        Some(self.fault)
    }
}
