//! JSON output: indented, valid for any name, and harmless to a terminal.

use std::io::{self, Write};

use block_file::path::raw_byte;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::escape::steers;

/// Writes `value`, indented by four spaces.
pub(crate) fn write(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(out, Plain::new());
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// Indents as [`PrettyFormatter`] does, and escapes steering characters in strings. A byte that is not UTF-8 becomes
/// U+FFFD, because JSON cannot hold it.
struct Plain<'i>(PrettyFormatter<'i>);

impl Plain<'_> {
    fn new() -> Self {
        Self(PrettyFormatter::with_indent(b"    "))
    }
}

impl Formatter for Plain<'_> {
    /// Writes a fragment that JSON alone would not escape.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, steering)) = rest.char_indices().find(|(_, c)| steers(*c)) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            if raw_byte(steering).is_some() {
                out.write_all("\u{fffd}".as_bytes())?;
            } else {
                for unit in steering.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            rest = from.get(steering.len_utf8()..).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_string_comes_back_and_steers_nothing() {
        let text: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        let value = json!({ text.as_str(): [text.as_str(), 1, {}, []], "b": {"c": null} });
        let mut out = Vec::new();
        write(&mut out, &value).unwrap();
        let written = String::from_utf8(out).unwrap();
        assert!(!written.chars().any(|c| c != '\n' && steers(c)));
        let back: Value = serde_json::from_str(&written).unwrap();
        let kept: String =
            text.chars().map(|c| if raw_byte(c).is_some() { '\u{fffd}' } else { c }).collect();
        assert_eq!(back, json!({ kept.as_str(): [kept.as_str(), 1, {}, []], "b": {"c": null} }));
    }

    #[test]
    fn the_layout_is_that_of_the_pretty_formatter() {
        let value = json!({"a": [1, {"b": []}], "c": {}});
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        write(&mut ours, &value).unwrap();
        let formatter = PrettyFormatter::with_indent(b"    ");
        value.serialize(&mut Serializer::with_formatter(&mut theirs, formatter)).unwrap();
        assert_eq!(ours, theirs);
    }
}
