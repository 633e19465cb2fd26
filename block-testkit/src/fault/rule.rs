//! When a fault strikes, and what it does.

use std::ops::Range;

use block_core::ErrorKind;

/// The requests of a [`Storage`](block_core::Storage) that faults can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `copy_from`, at the place that is written.
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
    /// Everything that changes the storage or makes changes durable.
    pub const CHANGES: &'static [Self] =
        &[Self::Write, Self::Copy, Self::Zeroes, Self::Allocate, Self::SetLen, Self::Flush];
    /// Everything.
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::Write,
        Self::Copy,
        Self::Zeroes,
        Self::Allocate,
        Self::SetLen,
        Self::Flush,
    ];
    /// What can run out of room.
    pub const TAKES_ROOM: &'static [Self] =
        &[Self::Write, Self::Copy, Self::Zeroes, Self::Allocate, Self::SetLen];
}

/// Which half of a torn request lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// The first: a short write.
    First,
    /// The second: a reordered one.
    Second,
}

/// What happens to a request that a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It fails and does nothing.
    Fail(ErrorKind),
    /// Half of it (cut at a multiple of 512 bytes) lands, then it fails.
    Torn(Half, ErrorKind),
    /// All of it lands, and it reports failure all the same.
    Landed(ErrorKind),
    /// It reports success and never lands.
    Lost,
    /// A flush fails, and what it was to save may be gone for good although reads still show it: what the
    /// kernel does when a disk refuses a write. Every later flush fails too, as [`Storage`](block_core::Storage)
    /// promises, until the storage is opened again. Other requests just fail.
    Forgotten(ErrorKind),
    /// It gives way this many times before it begins.
    Delay(u32),
    /// It never ends.
    Hang,
}

/// Strikes requests with a [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The kinds of requests it counts and strikes.
    pub ops: &'static [OpKind],
    /// Only requests that touch these bytes (flushes touch all).
    pub range: Range<u64>,
    /// How many matching requests pass before it strikes.
    pub skip: u64,
    /// How many it strikes after that.
    pub times: u64,
    /// What it does to them.
    pub fault: Fault,
}

impl Rule {
    /// Strikes the first request of these kinds, once, wherever it goes.
    pub fn once(ops: &'static [OpKind], fault: Fault) -> Self {
        Self { ops, range: 0..u64::MAX, skip: 0, times: 1, fault }
    }

    /// After `skip` matching requests.
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

    /// Strikes until it is cleared.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    /// Only requests that touch these bytes.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = range;
        self
    }

    /// Counts a request and says what happens to it, if the rule has anything to say.
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
