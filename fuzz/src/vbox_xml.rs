//! Machine files: the parsed media are the same after being written out and parsed again, at any depth of nesting.

use std::time::{Duration, Instant};

use block_core::{ErrorKind, Result};
use block_vdi::vbox::{Medium, parse};

/// Time limit for parsing a machine file of any size tested here.
const TOO_LONG: Duration = Duration::from_millis(500);

/// Size in bytes of a file that repeats the input: large enough to show a time that grows faster than the size.
const LARGE: usize = 256 << 10;

/// Parses the input as a machine file. Its first two bytes also select the depth of a nested one.
pub(crate) fn body(data: &[u8]) {
    reads(data);
    if !data.is_empty() {
        let units = LARGE / data.len();
        let _ = timed(&data.repeat(units));
        // All of the input inside one element.
        let _ = timed(&[b"<a ", data.repeat(units).as_slice()].concat());
    }
    if let Some((depth, rest)) = data.split_first_chunk::<2>() {
        let depth = usize::from(u16::from_le_bytes(*depth) % 2048);
        let decoy = ["", " b=\"/>\"", " b='&lt;/a&gt;'"][rest.len() % 3];
        nests(depth, decoy);
    }
}

fn timed(text: &[u8]) -> Result<Vec<Medium>> {
    let begun = Instant::now();
    let answer = parse(text);
    let took = begun.elapsed();
    assert!(took < TOO_LONG, "{} bytes take {took:?}", text.len());
    answer
}

fn reads(text: &[u8]) {
    match timed(text) {
        Ok(media) => {
            let written = write(&media);
            let again = parse(written.as_bytes()).unwrap_or_else(|e| panic!("{e:?}: {written}"));
            assert_eq!(again, media, "{written}");
        }
        Err(error) => {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Limit), "{error:?}");
        }
    }
}

/// Asserts that a disk below `depth` elements is found, or that the file is refused for its depth.
fn nests(depth: usize, decoy: &str) {
    let uuid = "1c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a";
    let disk = format!("<HardDisk uuid='{uuid}' location='x'/>");
    let text =
        format!("<r>{}{disk}{}</r>", format!("<a{decoy}>").repeat(depth), "</a>".repeat(depth));
    match parse(text.as_bytes()) {
        Ok(media) => assert_eq!(media.len(), 1, "{depth} elements deep"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
            assert!(depth > 256, "no machine file may nest {depth} elements deep");
        }
    }
}

/// Writes the media as a machine file. A medium with a parent lies inside an element for that parent.
fn write(media: &[Medium]) -> String {
    let mut text = String::from("<HardDisks>");
    for medium in media {
        let disk = format!(
            "<HardDisk uuid=\"{}\" location=\"{}\" format=\"{}\"/>",
            medium.uuid,
            escaped(&medium.location),
            escaped(&medium.format)
        );
        match medium.parent {
            Some(parent) => {
                text.push_str(&format!("<HardDisk uuid=\"{parent}\">{disk}</HardDisk>"));
            }
            None => text.push_str(&disk),
        }
    }
    text + "</HardDisks>"
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_string(),
            other => format!("&#{};", u32::from(other)),
        })
        .collect()
}
