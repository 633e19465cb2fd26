//! Escapes for file names and text from images, so that a terminal shows them and does not obey them.
//!
//! Such text can hold **steering characters**: they control a terminal, begin a new line, or change the reading order
//! of the rest of a line. [`Escaped`] writes each as an escape of visible characters: `\n`, `\t`, `\u{1b}`. A byte of a
//! name that is not UTF-8 becomes `\xe9`. All other characters stay as they are, even the backslash, because scripts
//! compare names.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

use std::fmt::{self, Display, Write};

use block_file::path::raw_byte;

/// A value whose text is written with its steering characters escaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// A writer that escapes the steering characters of what passes through it.
#[derive(Debug)]
pub(crate) struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, steering)) = rest.char_indices().find(|(_, c)| steers(*c)) {
            let (before, from) = rest.split_at(at);
            self.0.write_str(before)?;
            match raw_byte(steering) {
                Some(byte) => write!(self.0, "\\x{byte:02x}")?,
                None if matches!(steering, '\n' | '\r' | '\t') => {
                    write!(self.0, "{}", steering.escape_default())?;
                }
                None => write!(self.0, "{}", steering.escape_unicode())?,
            }
            rest = from.get(steering.len_utf8()..).unwrap_or_default();
        }
        self.0.write_str(rest)
    }
}

/// Whether a character steers: a control character, an invisible one, one that changes the direction or the lines of a
/// text, or a byte that is not UTF-8.
///
/// The joiners U+200C and U+200D stay, because words and emoji need them.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
        || raw_byte(c).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("größe 💾 a\\b 'x' \"y\".vdi", "größe 💾 a\\b 'x' \"y\".vdi"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[31m\x7f", "\\u{1b}[31m\\u{7f}"),
            ("\u{9b}0m", "\\u{9b}0m"),
            (
                "a\u{202e}b\u{2069}\u{200f}\u{2028}\u{feff}",
                "a\\u{202e}b\\u{2069}\\u{200f}\\u{2028}\\u{feff}",
            ),
            ("caf\u{10ffe9}.vdi", "caf\\xe9.vdi"),
            ("👩\u{200d}💻", "👩\u{200d}💻"),
            ("", ""),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn no_escape_needs_another() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = Escaped(c).to_string();
            assert!(!shown.chars().any(steers), "{c:?} as {shown:?}");
            assert_eq!(shown == c.to_string(), !steers(c), "{c:?}");
        }
    }
}
