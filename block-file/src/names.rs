//! The rules for a name found in an image: whether it may be looked up at all.

use std::path::PathBuf;

/// Longest accepted name in bytes.
const MAX_NAME: usize = 1023;

/// Returns the relative paths that a name from an image can mean, best first, or why the name is refused.
///
/// An accepted name is relative, stays below its directory, and names no protocol, device or stream.
pub(crate) fn relative_paths(name: &str) -> Result<Vec<PathBuf>, &'static str> {
    let separator = |c: char| c == '/' || c == '\\';
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME {
        return Err("it is longer than 1023 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("it contains control characters");
    }
    if name.starts_with(separator) {
        return Err("it is absolute");
    }
    // Refuses `C:\x`, `nbd://x` and `x.vdi:stream`.
    if name.split(separator).next().is_some_and(|first| first.contains(':')) {
        return Err("it names a drive or a protocol");
    }
    if name.split(separator).any(|component| component == "..") {
        return Err("it leaves its directory");
    }
    let mut paths = vec![PathBuf::from(name)];
    if name.contains('\\') {
        paths.push(PathBuf::from(name.replace('\\', "/")));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lead_anywhere_is_refused() {
        for name in [
            "",
            "/etc/passwd",
            "\\\\host\\share",
            "C:\\disk.vdi",
            "c:disk.vdi",
            "nbd://host/x",
            "json:{}",
            "a.vdi:stream",
            "../a.vdi",
            "a/../../b",
            "a\\..\\b",
            "a\nb",
            "a\0b",
            "/dev/zero",
            "\\\\?\\x",
        ] {
            assert!(relative_paths(name).is_err(), "{name:?}");
        }
        assert!(relative_paths(&"x".repeat(1024)).is_err());
        assert!(relative_paths(&"x".repeat(1023)).is_ok());
    }

    #[test]
    fn a_plain_name_is_one_path_and_a_backslash_may_separate() {
        assert_eq!(relative_paths("base.vdi"), Ok(vec!["base.vdi".into()]));
        assert_eq!(relative_paths("..base/a"), Ok(vec!["..base/a".into()]));
        assert_eq!(relative_paths("a\\b"), Ok(vec!["a\\b".into(), "a/b".into()]));
    }
}
