//! Finding zeros in a buffer, and the first byte in which two buffers differ.

use std::ops::Range;

use block_core::{SECTOR_SIZE, is_zero};

const SECTOR: usize = SECTOR_SIZE as usize;

/// The first sector with a byte that is not zero, as an offset in bytes.
pub(crate) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    let sector = bytes.chunks(SECTOR).position(|sector| !is_zero(sector))?;
    Some(sector * SECTOR)
}

/// The first sector in which `a` and `b`, of one length, differ, as an offset in bytes.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let sector = a.chunks(SECTOR).zip(b.chunks(SECTOR)).position(|(a, b)| a != b)?;
    Some(sector * SECTOR)
}

/// Runs of bytes that are to be written and runs of zeros, which cover a buffer in order.
#[derive(Debug)]
pub(crate) struct ZeroRuns {
    unit: usize,
    /// `true` stands for zeros.
    runs: Vec<(Range<usize>, bool)>,
}

impl ZeroRuns {
    /// Of a buffer whose zeros are looked for in units of `unit` bytes.
    pub fn new(unit: usize) -> Self {
        Self { unit, runs: Vec::new() }
    }

    /// Adds the next bytes, whole units unless they are the last.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut at = self.runs.last().map_or(0, |(range, _)| range.end);
        for unit in bytes.chunks(self.unit) {
            let end = at + unit.len();
            self.push(at..end, is_zero(unit));
            at = end;
        }
    }

    /// The runs; zeros of less than `least` bytes are written with what surrounds them.
    pub fn finish(self, least: usize) -> Vec<(Range<usize>, bool)> {
        if least <= self.unit {
            return self.runs;
        }
        let mut joined = Self::new(self.unit);
        for (range, zero) in self.runs {
            let zero = zero && range.len() >= least;
            joined.push(range, zero);
        }
        joined.runs
    }

    fn push(&mut self, range: Range<usize>, zero: bool) {
        match self.runs.last_mut() {
            Some((last, kind)) if *kind == zero => last.end = range.end,
            _ => self.runs.push((range, zero)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_found() {
        for len in [1, 127, 128, 1023, 1024, 1025, 4096 + 3] {
            let mut bytes = vec![0; len];
            assert_eq!(first_nonzero(&bytes), None);
            for at in [0, len / 2, len - 1] {
                bytes[at] = 1;
                assert_eq!(first_nonzero(&bytes), Some(at / 512 * 512));
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn short_runs_of_zeros_are_data() {
        let mut bytes = vec![0; 8 * 4096];
        bytes[0] = 1;
        bytes[2 * 4096] = 1;
        // In two parts, as they are read.
        let runs = |least| {
            let mut runs = ZeroRuns::new(4096);
            let (first, second) = bytes.split_at(5 * 4096);
            runs.add(first);
            runs.add(second);
            runs.finish(least)
        };
        assert_eq!(
            runs(4096),
            [
                (0..4096, false),
                (4096..2 * 4096, true),
                (2 * 4096..3 * 4096, false),
                (3 * 4096..8 * 4096, true)
            ]
        );
        assert_eq!(runs(8192), [(0..3 * 4096, false), (3 * 4096..8 * 4096, true)]);
    }

    #[test]
    fn the_first_differing_sector_is_named() {
        let a = vec![7; 2048];
        let mut b = a.clone();
        assert_eq!(first_difference(&a, &b), None);
        b[1500] = 8;
        assert_eq!(first_difference(&a, &b), Some(1024));
    }
}
