//! Parsing and formatting of sizes for people.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

use crate::{Error, ErrorKind, Result};

/// Parses a size in bytes, at most 2^63 - 1. Accepts decimal and `0x` hexadecimal numbers. A decimal number
/// may have a fraction and one of the suffixes `b k M G T P E` (powers of 1024, either case).
///
/// # Errors
/// `InvalidInput` for anything else, including `1MB`, `1e3` and `0x1k`.
pub fn parse(text: &str) -> Result<u64> {
    let bad = || Error::new(ErrorKind::InvalidInput, format!("Invalid size: '{text}'"));
    let trimmed = text.trim_start();
    let trimmed = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if let Some(hex) = trimmed.strip_prefix("0x").or_else(|| trimmed.strip_prefix("0X")) {
        let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u64::from_str_radix(hex, 16).ok().filter(|_| plain);
        return value.filter(|v| *v <= MAX).ok_or_else(bad);
    }
    let (number, unit) = match trimmed.chars().last().and_then(unit_of) {
        Some(unit) => (trimmed.get(..trimmed.len().saturating_sub(1)).unwrap_or(""), Some(unit)),
        None => (trimmed, None),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let empty = whole.is_empty() && fraction.is_none_or(str::is_empty);
    if empty || !digits(whole) || !fraction.is_none_or(digits) {
        return Err(bad());
    }
    if fraction.is_some() && unit.is_none() {
        return Err(bad());
    }
    let unit = unit.unwrap_or(1);
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let mut bytes = u128::from(whole).saturating_mul(u128::from(unit));
    // Further digits change nothing: twelve already resolve less than a byte of an exbibyte's millionth.
    let (mut numerator, mut denominator) = (0u128, 1u128);
    for digit in fraction.unwrap_or("").bytes().take(18) {
        numerator =
            numerator.saturating_mul(10).saturating_add(u128::from(digit.saturating_sub(b'0')));
        denominator = denominator.saturating_mul(10);
    }
    let part = numerator.saturating_mul(u128::from(unit)).checked_div(denominator).unwrap_or(0);
    bytes = bytes.saturating_add(part);
    u64::try_from(bytes).ok().filter(|v| *v <= MAX).ok_or_else(bad)
}

/// Formats a size with three significant digits and a unit, switching to the next unit at 1000.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or("B");
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", three_digits(value))
}

/// `%.3g` for 0 <= value < 1000.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        0.0 => return "0".into(),
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

const MAX: u64 = i64::MAX as u64;

fn unit_of(c: char) -> Option<u64> {
    let power = match c.to_ascii_lowercase() {
        'b' => 0,
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return None,
    };
    1u64.checked_shl(10u32.saturating_mul(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_scripts_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("0x200", 512),
            ("1k", 1024),
            ("1.5G", 3 << 29),
            (".5M", 1 << 19),
            ("5.M", 5 << 20),
            (" +7b", 7),
            ("1.0009765625k", 1025),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "", "k", "1MB", "1MiB", "1M ", "1e3", "0x1k", "0x", "1.5", ".", ".k", "-1", "8E",
            "1_0", "0x+1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits_and_the_next_unit_from_a_thousand() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (999 * 1024, "999 KiB"),
            (1000 * 1024, "0.977 MiB"),
            (1024, "1 KiB"),
            (1 << 30, "1 GiB"),
            (1500 << 30, "1.46 TiB"),
            (196 * 1024, "196 KiB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }
}
