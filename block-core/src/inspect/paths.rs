//! Rules for the names of other files that an image contains.

use super::code::Code;

/// Longest name in bytes that any program accepts.
const LONGEST: usize = 1023;

/// Returns the rules that `name` breaks, each with the reason as a clause.
pub fn broken_rules(name: &[u8]) -> Vec<(Code, &'static str)> {
    let mut broken = Vec::new();
    if name.is_empty() {
        broken.push((Code::Structure, "the name is empty"));
        return broken;
    }
    if name.len() > LONGEST {
        broken.push((Code::Structure, "the name is longer than 1023 bytes"));
    }
    if name.iter().any(|byte| *byte < 0x20 || *byte == 0x7F) {
        broken.push((Code::Noncanonical, "the name has control characters in it"));
    }
    let Ok(text) = std::str::from_utf8(name) else {
        broken.push((Code::Noncanonical, "the name is not UTF-8"));
        return broken;
    };
    let slashed = text.replace('\\', "/");
    let lower = slashed.to_ascii_lowercase();
    if ["/dev/", "/proc/", "/sys/", "//./", "//?/"].iter().any(|root| lower.starts_with(root)) {
        broken.push((Code::ExtDevice, "the name is that of a device or of the system"));
    }
    let first = slashed.split('/').next().unwrap_or_default();
    let drive = first.len() == 2
        && first.ends_with(':')
        && first.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if slashed.starts_with('/') || drive {
        broken.push((Code::PathAbsolute, "the name is an absolute path"));
    } else if first.contains(':') {
        broken.push((Code::ExtProtocol, "the name has a colon before any slash"));
    }
    if slashed.split('/').any(|part| part == "..") {
        broken.push((Code::PathTraversal, "the name leaves its directory"));
    }
    broken
}

/// Whether `name`, relative to the directory of `uri` or as a path, is the same file. It compares text only: a link or
/// another spelling is not detected.
pub(super) fn is_same_file(name: &[u8], uri: &str) -> bool {
    let Ok(text) = std::str::from_utf8(name) else {
        return false;
    };
    let slashed = text.replace('\\', "/");
    let plain = slashed.strip_prefix("./").unwrap_or(&slashed);
    let path = uri.strip_prefix("file:").unwrap_or(uri);
    let beside = path.rsplit('/').next().unwrap_or(path);
    !plain.is_empty() && (plain == beside || plain == path)
}

/// Returns the name escaped for display, cut after 300 bytes.
pub(super) fn escaped(name: &[u8]) -> String {
    let shown = name.get(..300).unwrap_or(name);
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => shown.escape_ascii().to_string(),
    };
    if shown.len() < name.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Code, broken_rules, escaped, is_same_file};

    #[test]
    fn a_file_that_names_itself_is_told_by_name_or_path() {
        for (name, same) in [
            ("a.qcow2", true),
            ("./a.qcow2", true),
            (".\\a.qcow2", true),
            ("/images/a.qcow2", true),
            ("b.qcow2", false),
            ("sub/a.qcow2", false),
            ("", false),
        ] {
            assert_eq!(is_same_file(name.as_bytes(), "/images/a.qcow2"), same, "{name}");
            assert_eq!(is_same_file(name.as_bytes(), "file:/images/a.qcow2"), same, "{name}");
        }
        assert!(!is_same_file(b"", ""));
    }

    #[test]
    fn each_rule_is_applied_to_either_separator() {
        let table: &[(&[u8], &[Code])] = &[
            (b"disk-flat.vmdk", &[]),
            (b"sub/disk.img", &[]),
            (b"a..b/c..", &[]),
            (b"", &[Code::Structure]),
            (b"/etc/passwd", &[Code::PathAbsolute]),
            (b"\\\\server\\share", &[Code::PathAbsolute]),
            (b"C:\\disk", &[Code::PathAbsolute]),
            (b"/dev/sda", &[Code::ExtDevice, Code::PathAbsolute]),
            (b"\\\\.\\PhysicalDrive0", &[Code::ExtDevice, Code::PathAbsolute]),
            (b"../x", &[Code::PathTraversal]),
            (b"a\\..\\x", &[Code::PathTraversal]),
            (b"nbd://host/x", &[Code::ExtProtocol]),
            (b"json:{}", &[Code::ExtProtocol]),
            (b"disk.img:stream", &[Code::ExtProtocol]),
            (b"a\nb", &[Code::Noncanonical]),
            (b"a\xFF", &[Code::Noncanonical]),
        ];
        for (name, codes) in table {
            let found: Vec<Code> = broken_rules(name).into_iter().map(|(code, _)| code).collect();
            assert_eq!(found, *codes, "{}", escaped(name));
        }
        assert_eq!(broken_rules(&[b'a'; 1024])[0].0, Code::Structure);
        assert_eq!(escaped(b"a\x1b[1m\xFF"), "a\\x1b[1m\\xff");
    }
}
