//! Machine files made to be costly: parsing time and memory stay in proportion to their size.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::System;
use std::time::{Duration, Instant};

use block_core::ErrorKind;
use block_vdi::vbox::{MAX_BYTES, parse};
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that parsing may allocate.
const MEMORY: usize = 32 << 20;

/// Repeats `unit` between `head` and `tail` up to [`MAX_BYTES`].
fn filled(head: &str, tail: &str, mut unit: impl FnMut(usize) -> String) -> String {
    let mut text = String::from(head);
    for number in 0.. {
        let next = unit(number);
        if text.len() + next.len() + tail.len() > MAX_BYTES {
            break;
        }
        text.push_str(&next);
    }
    text + tail
}

fn hostile() -> Vec<(&'static str, String)> {
    let uuid = "1c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a";
    vec![
        ("attributes", filled("<a", "/>", |n| format!(" a{n}=''"))),
        ("equal attributes", filled("<a", "/>", |_| " a=''".to_owned())),
        ("attributes of a disk", filled("<HardDisk", "/>", |n| format!(" a{n}=''"))),
        ("namespaces of one element", filled("<a", "/>", |n| format!(" xmlns:n{n}='u{n}'"))),
        ("namespaces of many", filled("<a>", "</a>", |n| format!("<b xmlns:n{n}='u{n}'/>"))),
        ("nested namespaces", filled("", "", |n| format!("<a xmlns:n{n}='u' b=\"/>\">"))),
        ("nesting", filled("", "", |_| "<a>".to_owned())),
        ("nesting behind a decoy", filled("", "", |_| "<a b=\"/>\">".to_owned())),
        ("nesting behind comments", filled("", "", |_| "<a><!-- </a> -->".to_owned())),
        ("comments", filled("<a>", "</a>", |_| "<!-- -->".to_owned())),
        ("beginnings of comments", filled("<a>", "", |_| "<!--".to_owned())),
        ("beginnings of elements", filled("<a>", "", |_| "<".to_owned())),
        ("beginnings of sections", filled("<a>", "", |_| "<![CDATA[".to_owned())),
        ("beginnings of instructions", filled("<a>", "", |_| "<?".to_owned())),
        ("beginnings of a DTD", filled("", "", |_| "<!DOCTYPE a [".to_owned())),
        ("references", filled("<a>", "</a>", |_| "&amp;".to_owned())),
        ("references in a value", filled("<HardDisk location='", "'/>", |_| "&lt;".to_owned())),
        ("ampersands", filled("<a>", "</a>", |_| "&".to_owned())),
        ("text", filled("<a>", "</a>", |_| "]]".to_owned())),
        ("quotes", filled("<a ", "/>", |_| "'\"".to_owned())),
        ("elements", filled("<a>", "</a>", |_| "<b/>".to_owned())),
        (
            "disks",
            filled("<a>", "</a>", |_| {
                format!("<HardDisk uuid='{uuid}' location='x' format='VDI'/>")
            }),
        ),
        (
            "one location",
            filled(&format!("<HardDisk uuid='{uuid}' location='"), "'/>", |_| "x".to_owned()),
        ),
    ]
}

#[test]
fn no_machine_file_takes_more_than_half_a_second_and_32_mib() {
    let mut refused = 0;
    let cases = hostile();
    for (name, text) in &cases {
        let before = ALLOCATOR.allocated();
        ALLOCATOR.set_limit(before + MEMORY).unwrap();
        let begun = Instant::now();
        let answer = parse(text.as_bytes());
        let took = begun.elapsed();
        ALLOCATOR.set_limit(usize::MAX).unwrap();
        assert!(took < Duration::from_millis(500), "{name}: {took:?} for {} bytes", text.len());
        match answer {
            Ok(media) => assert!(media.len() <= 200_000, "{name}"),
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Limit),
                    "{name}: {error}"
                );
            }
        }
    }
    assert!(refused > 10 && refused < cases.len(), "{refused} of {} were refused", cases.len());
}
