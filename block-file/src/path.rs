//! Host paths as text: names are bytes on Linux, and a storage's URI is a string.
//!
//! Valid UTF-8 stays as it is. Each other byte of a path becomes one character of a **byte range** at the end of
//! Unicode's last private-use plane, so the text preserves every name and no two share one. A character of this range
//! in a name is itself written byte by byte in the same way.
//!
//! ```
//! use std::ffi::OsStr;
//! use std::os::unix::ffi::OsStrExt;
//! use std::path::Path;
//!
//! let path = Path::new(OsStr::from_bytes(b"caf\xe9.vdi"));
//! let text = block_file::path::to_text(path);
//! assert_eq!(text, "caf\u{10ffe9}.vdi");
//! assert_eq!(block_file::path::from_text(&text), path);
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The character that would stand for byte 0. Bytes below 0x80 are valid UTF-8, so they never need one.
const BYTES: u32 = 0x10_ff00;

/// Returns the text of a path. [`from_text`] reverses it.
pub fn to_text(path: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in path.as_ref().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if raw_byte(c).is_some() {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(byte_char));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(byte_char));
    }
    text
}

/// Returns the path of a text that [`to_text`] returned.
pub fn from_text(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match raw_byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes).into()
}

/// Returns the byte, 0x80 to 0xFF, that a character of the byte range stands for.
pub fn raw_byte(c: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(c).checked_sub(BYTES)?).ok()?;
    (!byte.is_ascii()).then_some(byte)
}

fn byte_char(byte: u8) -> char {
    // Every such value is a character: the range lies below the end of Unicode and holds no surrogate.
    char::from_u32(BYTES | u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_name_of_bytes_comes_back() {
        let names: [&[u8]; 7] = [
            b"disk.vdi",
            b"caf\xe9.vdi",
            "caf\u{e9}.vdi".as_bytes(),
            b"\xff\x80\xc3\x28\xf0\x9f\x92",
            "\u{10ffe9}\u{10ff80}\u{10ffff}\u{10ff7f}".as_bytes(),
            b"",
            b"a\nb\x1b[31m",
        ];
        for name in names {
            let path = Path::new(OsStr::from_bytes(name));
            assert_eq!(from_text(&to_text(path)), path, "{path:?}");
        }
    }

    #[test]
    fn two_names_never_share_a_text() {
        let invalid = to_text(OsStr::from_bytes(b"\xe9"));
        let private = to_text("\u{10ffe9}");
        assert_eq!(invalid, "\u{10ffe9}");
        assert_ne!(invalid, private);
    }

    #[test]
    fn a_path_in_utf_8_is_its_own_text() {
        assert_eq!(to_text("größe 💾.vdi"), "größe 💾.vdi");
    }
}
