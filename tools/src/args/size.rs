//! Sizes on the command line.

use crate::error::{Failure, Result};

/// Parses a size for clap, in bytes.
pub(crate) fn size(text: &str) -> std::result::Result<u64, String> {
    block_core::size::parse(text).map_err(|_| {
        "a size is a number of bytes, or a number and one of b, k, M, G, T, P, E".to_owned()
    })
}

/// Parses a number as C does: decimal, hexadecimal with `0x`, octal with a leading `0`.
pub(crate) fn number<T: TryFrom<u64>>(text: &str) -> std::result::Result<T, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let is_sign = |c: char| c == '+' || c == '-';
    let value =
        if digits.starts_with(is_sign) { None } else { u64::from_str_radix(digits, radix).ok() };
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| "not a whole number that fits".to_owned())
}

/// Parses a size, in bytes, for a command that reports errors in its own words.
pub(crate) fn size_or_failure(text: &str) -> Result<u64> {
    block_core::size::parse(text).map_err(|_| {
        Failure::new(format!("Invalid image size specified: '{text}'."))
            .hint("a size is a number of bytes, or a number and one of b, k, M, G, T, P, E")
    })
}
