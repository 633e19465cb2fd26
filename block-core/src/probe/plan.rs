//! Which parts of a file to read before its format can be identified.

use super::input::ProbeInput;
use super::limits;

/// A read of `len` bytes at `offset`, wholly inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Byte offset from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: usize,
}

impl Request {
    /// Returns the offset past the last byte.
    fn end(&self) -> u64 {
        self.offset.saturating_add(u64::try_from(self.len).unwrap_or(u64::MAX))
    }
}

/// Plans the reads that fill a [`ProbeInput`], in a few rounds. The plan chooses the reads and the caller performs
/// them.
///
/// ```
/// use block_core::probe::ReadPlan;
/// # fn read(offset: u64, len: usize) -> Vec<u8> { vec![0; len] }
/// let mut plan = ReadPlan::new(1 << 30, Some("disk.img"));
/// loop {
///     // The first round reads the start and the end of the file; none of these probers asks for more.
///     let round = plan.next_round(|_, _| {});
///     if round.is_empty() {
///         break;
///     }
///     for request in round {
///         plan.supply(request.offset, read(request.offset, request.len));
///     }
/// }
/// let input = plan.finish();
/// assert_eq!(input.u8(0), Some(0));
/// ```
///
/// The requests of a round are independent and may be read in any order or concurrently. If the file shrank and a read
/// comes back short, supply the short buffer. If a read fails, the probe ends with that error.
#[derive(Debug)]
pub struct ReadPlan {
    input: ProbeInput,
    wants: WindowRequests,
    rounds: usize,
    reads: usize,
    head_bytes: u64,
    tail_bytes: u64,
}

/// The windows that probers request in one round.
#[derive(Debug, Default)]
pub struct WindowRequests {
    ranges: Vec<(u64, u64)>,
}

impl WindowRequests {
    /// Requests `len` bytes at `offset`, truncated to the file.
    pub fn read(&mut self, offset: u64, len: u64) {
        self.ranges.push((offset, len));
    }

    /// Requests `len` bytes that start `from_end` bytes before the end of a file of `file_len` bytes.
    pub fn tail(&mut self, file_len: u64, from_end: u64, len: u64) {
        if let Some(offset) = file_len.checked_sub(from_end) {
            self.ranges.push((offset, len));
        }
    }
}

impl ReadPlan {
    /// Creates a plan for a file of `len` bytes. Probers may use `name`.
    pub fn new(len: u64, name: Option<&str>) -> Self {
        let mut input = ProbeInput::empty(len);
        if let Some(name) = name {
            input = input.with_name(name);
        }
        let mut wants = WindowRequests::default();
        if len <= limits::HEAD.saturating_add(limits::TAIL) {
            wants.read(0, len);
        } else {
            wants.read(0, limits::HEAD);
            wants.tail(len, limits::TAIL, limits::TAIL);
        }
        Self { input, wants, rounds: 0, reads: 0, head_bytes: 0, tail_bytes: 0 }
    }

    /// Requests a window in the first round. Call it before [`ReadPlan::next_round`].
    pub fn want(&mut self, offset: u64, len: u64) {
        self.wants.read(offset, len);
    }

    /// Returns the next reads, or none if the plan is complete or out of budget. From the second round on, `ask` adds
    /// the windows that probers need after seeing the earlier ones.
    pub fn next_round(
        &mut self,
        mut ask: impl FnMut(&ProbeInput, &mut WindowRequests),
    ) -> Vec<Request> {
        while self.rounds < limits::ROUNDS {
            if self.rounds > 0 {
                ask(&self.input, &mut self.wants);
            }
            self.rounds = self.rounds.saturating_add(1);
            let round = self.admit();
            if !round.is_empty() {
                return round;
            }
        }
        Vec::new()
    }

    /// Takes the bytes read for a request.
    pub fn supply(&mut self, offset: u64, bytes: Vec<u8>) {
        self.input.add_window(offset, bytes);
    }

    /// Returns the windows that were read.
    pub fn finish(self) -> ProbeInput {
        self.input
    }

    /// Returns the requested ranges that are inside the file, not yet read, and within the limits.
    fn admit(&mut self) -> Vec<Request> {
        let mut round: Vec<Request> = Vec::new();
        for (offset, end) in joined(self.unknown()) {
            let len = end.saturating_sub(offset);
            let Ok(size) = usize::try_from(len) else {
                continue;
            };
            if round.iter().any(|known| known.offset <= offset && end <= known.end()) {
                continue;
            }
            let tail = self.input.len().saturating_sub(limits::TAIL_REGION);
            let in_tail = offset >= tail && offset >= limits::HEAD;
            let (used, cap, limit) = if in_tail {
                (&mut self.tail_bytes, limits::TAIL_BYTES, "probe tail bytes")
            } else {
                (&mut self.head_bytes, limits::HEAD_BYTES, "probe head bytes")
            };
            if self.reads >= limits::READS {
                self.input.note_limit("probe reads");
                break;
            }
            if used.saturating_add(len) > cap {
                self.input.note_limit(limit);
                continue;
            }
            *used = used.saturating_add(len);
            self.reads = self.reads.saturating_add(1);
            round.push(Request { offset, len: size });
        }
        round
    }

    /// Takes the requested ranges and returns those inside the file and not yet read, as `(start, end)`.
    fn unknown(&mut self) -> Vec<(u64, u64)> {
        let ranges = std::mem::take(&mut self.wants.ranges).into_iter();
        let inside = ranges.map(|(offset, len)| {
            let end = offset.saturating_add(len).min(self.input.len());
            (offset, end)
        });
        let is_unknown = |(offset, end): &(u64, u64)| match end.checked_sub(*offset) {
            None | Some(0) => false,
            Some(len) => {
                !usize::try_from(len).is_ok_and(|len| self.input.bytes(*offset, len).is_some())
            }
        };
        inside.filter(is_unknown).collect()
    }
}

/// Sorts the ranges and merges those that overlap or nearly touch, because reading one more page is cheaper than a
/// second read. Nothing is merged into a long range: the budget may refuse it and still admit short ranges inside it.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (offset, end) in ranges {
        match joined.last_mut() {
            Some((start, before))
                if offset <= before.saturating_add(limits::GAP)
                    && end.max(*before).saturating_sub(*start) <= limits::JOINED =>
            {
                *before = end.max(*before);
            }
            _ => joined.push((offset, end)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::{ReadPlan, Request, joined};
    use crate::probe::limits;

    #[test]
    fn a_small_file_is_one_read_and_an_empty_one_none() {
        assert_eq!(
            ReadPlan::new(700, None).next_round(|_, _| {}),
            [Request { offset: 0, len: 700 }]
        );
        assert!(ReadPlan::new(0, None).next_round(|_, _| {}).is_empty());
    }

    #[test]
    fn ranges_that_nearly_touch_are_one_read() {
        const MIB: u64 = 1 << 20;
        let long = limits::JOINED;
        let wanted = vec![
            (MIB + 512, MIB + 516),
            (MIB, MIB + 4),
            (2 * MIB, 2 * MIB + 512),
            (2 * MIB, 2 * MIB + 16384),
            (2 * MIB + 8, 2 * MIB + 9),
            (3 * MIB, 3 * MIB + 1),
            (3 * MIB + 2 + limits::GAP, 3 * MIB + 3 + limits::GAP),
            (4 * MIB, 4 * MIB + long),
            (4 * MIB + 1, 4 * MIB + long + 1),
        ];
        let whole = [
            (MIB, MIB + 516),
            (2 * MIB, 2 * MIB + 16384),
            (3 * MIB, 3 * MIB + 1),
            (3 * MIB + 2 + limits::GAP, 3 * MIB + 3 + limits::GAP),
            (4 * MIB, 4 * MIB + long),
            (4 * MIB + 1, 4 * MIB + long + 1),
        ];
        assert_eq!(joined(wanted), whole);
    }

    #[test]
    fn the_limits_hold_whatever_is_wanted() {
        let mut plan = ReadPlan::new(1 << 40, None);
        for i in 0..200u64 {
            plan.want(i << 21, 16);
        }
        plan.want(7, 1 << 39);
        let round = plan.next_round(|_, _| {});
        assert!(round.len() <= limits::READS);
        let bytes: usize = round.iter().map(|request| request.len).sum();
        assert!(bytes as u64 <= limits::HEAD_BYTES + limits::TAIL_BYTES);
        for request in round {
            plan.supply(request.offset, vec![0; request.len]);
        }
        assert!(plan.finish().limits_hit().iter().any(|limit| limit == "probe reads"));
    }
}
