//! Checks on header fields for recognisers. An absent field fails every check.

use super::input::ProbeInput;
use std::ops::RangeInclusive;

/// Whether the value is in the range.
pub fn within<T: PartialOrd>(value: Option<T>, range: RangeInclusive<T>) -> bool {
    value.is_some_and(|value| range.contains(&value))
}

/// Whether the value is a power of two in the range.
pub fn power_of_two(value: Option<u64>, range: RangeInclusive<u64>) -> bool {
    value.is_some_and(|value| value.is_power_of_two() && range.contains(&value))
}

/// Whether `len` bytes at `offset` end at most `slack` bytes past the end of the file.
pub fn fits(input: &ProbeInput, offset: Option<u64>, len: Option<u64>, slack: u64) -> bool {
    let end = offset.zip(len).and_then(|(offset, len)| offset.checked_add(len));
    end.is_some_and(|end| end <= input.len().saturating_add(slack))
}

/// Whether the value is a nonzero multiple of `unit`.
pub fn multiple(value: Option<u64>, unit: u64) -> bool {
    value.is_some_and(|value| value > 0 && value.checked_rem(unit) == Some(0))
}

/// Whether the bytes begin with printable ASCII, at least one character, that ends in a NUL.
pub fn text_then_nul(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| {
        let end = bytes.iter().position(|byte| *byte == 0);
        end.is_some_and(|end| {
            end > 0 && bytes.iter().take(end).all(|byte| (0x20..0x7F).contains(byte))
        })
    })
}

/// Returns the index of the first `needle` in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len().max(1)).position(|window| window == needle)
}

/// Whether `hay` contains `needle`, ignoring ASCII case.
pub fn contains_ignoring_case(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
}
