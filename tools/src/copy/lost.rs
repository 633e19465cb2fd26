//! What a copy could not read, and has made zeros of.

use crate::console::Console;
use crate::error::reasons;

/// So many places are told; a disk that fails everywhere has too many to keep.
const TOLD: usize = 20;

/// What could not be read.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    bytes: u64,
    /// The first ranges, each with the reason for its first unit.
    ranges: Vec<LostRange>,
}

#[derive(Debug)]
struct LostRange {
    start: u64,
    len: u64,
    why: String,
}

impl Lost {
    /// Adds `len` bytes at `offset`. Ranges that touch are one.
    pub fn add(&mut self, offset: u64, len: u64, error: &block_core::Error) {
        self.bytes = self.bytes.saturating_add(len);
        let has_room = self.ranges.len() < TOLD;
        let touching =
            self.ranges.iter_mut().find(|range| range.start.checked_add(range.len) == Some(offset));
        match touching {
            Some(range) => range.len = range.len.saturating_add(len),
            None if has_room => {
                self.ranges.push(LostRange { start: offset, len, why: reasons(error) });
            }
            None => {}
        }
    }

    /// Warns of it, if there is any, after a copy into `target`.
    pub fn tell(&self, console: &Console, target: &str) {
        let mut ranges: Vec<_> = self.ranges.iter().collect();
        ranges.sort_by_key(|range| range.start);
        for LostRange { start, len, why } in ranges {
            console.say(format_args!(
                "warning: error while reading offset {start}: {why} ({len} bytes from there)"
            ));
        }
        if self.bytes > 0 {
            console.say(format_args!(
                "warning: {} bytes could not be read and are zeros in '{target}'",
                self.bytes
            ));
        }
    }
}
