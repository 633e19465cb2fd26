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

/// The runs of bytes that are to be written and the runs of zeros (`true`) that cover a buffer, in order.
/// Zeros are looked for in units of `least` bytes, of a page at most; those of less than `least` bytes are
/// written with what surrounds them.
pub(crate) fn zero_runs(bytes: &[u8], least: usize) -> Vec<(Range<usize>, bool)> {
    let unit = least.clamp(1, 4096);
    let mut runs = Runs::default();
    let mut at = 0;
    for part in bytes.chunks(unit) {
        let end = at + part.len();
        runs.push(at..end, is_zero(part));
        at = end;
    }
    if least <= unit {
        return runs.0;
    }
    let mut joined = Runs::default();
    for (range, zero) in runs.0 {
        let zero = zero && range.len() >= least;
        joined.push(range, zero);
    }
    joined.0
}

/// Runs in which neighbours of one kind are one.
#[derive(Debug, Default)]
struct Runs(Vec<(Range<usize>, bool)>);

impl Runs {
    fn push(&mut self, range: Range<usize>, zero: bool) {
        match self.0.last_mut() {
            Some((last, kind)) if *kind == zero => last.end = range.end,
            _ => self.0.push((range, zero)),
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
        assert_eq!(
            zero_runs(&bytes, 4096),
            [
                (0..4096, false),
                (4096..2 * 4096, true),
                (2 * 4096..3 * 4096, false),
                (3 * 4096..8 * 4096, true)
            ]
        );
        assert_eq!(zero_runs(&bytes, 8192), [(0..3 * 4096, false), (3 * 4096..8 * 4096, true)]);
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
