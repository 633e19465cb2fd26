//! The ranges that a copy could not read and replaced by zeros.

use block_core::Error;

/// Number of ranges that are kept. A disk that fails everywhere has too many to keep.
const KEPT: usize = 20;

/// What a copy could not read.
#[derive(Debug, Default)]
pub struct Lost {
    bytes: u64,
    ranges: Vec<LostRange>,
}

/// A range that a copy could not read.
#[derive(Debug)]
#[non_exhaustive]
pub struct LostRange {
    /// First byte, as an offset in the disk it belongs to.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// The reason for the first bytes of the range.
    pub error: Error,
}

impl Lost {
    /// Adds `len` bytes at `offset`. Ranges that touch are joined.
    pub(super) fn add(&mut self, offset: u64, len: u64, error: Error) {
        self.bytes = self.bytes.saturating_add(len);
        let has_room = self.ranges.len() < KEPT;
        let touching =
            self.ranges.iter_mut().find(|range| range.start.checked_add(range.len) == Some(offset));
        match touching {
            Some(range) => range.len = range.len.saturating_add(len),
            None if has_room => self.ranges.push(LostRange { start: offset, len, error }),
            None => {}
        }
    }

    /// Number of bytes that could not be read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// At most 20 of the ranges, by offset.
    pub fn ranges(&self) -> Vec<&LostRange> {
        let mut ranges: Vec<_> = self.ranges.iter().collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}
