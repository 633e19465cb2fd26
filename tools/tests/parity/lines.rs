//! The command lines: those of `cases.txt`, and those of the table in `docs/differences.md`.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;

use crate::common::Ran;

const FORMATS: [&str; 2] = ["raw", "vdi"];

/// One command line, without the program.
#[derive(Debug, Clone)]
pub struct Line {
    pub words: Vec<String>,
    text: String,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Line {
    /// Single quotes keep blanks together, and make empty words.
    fn new(text: &str) -> Self {
        let mut words: Vec<String> = Vec::new();
        let (mut word, mut begun, mut quoted) = (String::new(), false, false);
        for letter in text.chars() {
            match letter {
                '\'' => (quoted, begun) = (!quoted, true),
                ' ' if !quoted => {
                    if std::mem::take(&mut begun) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                _ => {
                    begun = true;
                    word.push(letter);
                }
            }
        }
        if begun {
            words.push(word);
        }
        Self { words, text: text.to_owned() }
    }

    /// Whether one of the words is given.
    pub fn has(&self, any: &[&str]) -> bool {
        self.words.iter().any(|word| any.contains(&word.as_str()))
    }
}

/// A text for each format, where it names one.
fn for_each_format(text: &str) -> Vec<(&'static str, String)> {
    let formats = if text.contains("{f}") { &FORMATS[..] } else { &FORMATS[..1] };
    formats.iter().map(|format| (*format, text.replace("{f}", format))).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What has to come out the same.
pub fn cases() -> Vec<Line> {
    read("tests/parity/cases.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .flat_map(for_each_format)
        .map(|(_, text)| Line::new(&text))
        .collect()
}

/// What a program is said to do.
#[derive(Debug, Clone)]
pub struct Expected {
    status: i32,
    words: String,
}

impl Expected {
    /// ``1: `words` ``, or only a status.
    fn parse(cell: &str) -> Self {
        let (status, words) = cell.split_once(": ").unwrap_or((cell, ""));
        let status = status.trim().parse().unwrap_or_else(|_| panic!("no status: {cell}"));
        Self { status, words: words.trim().trim_matches('`').to_owned() }
    }

    /// Whether it did that.
    pub fn is(&self, ran: &Ran) -> bool {
        let said = ran.out.contains(&self.words) || ran.err.contains(&self.words);
        ran.status == self.status && said
    }
}

/// What may differ: the line, what stock does, what we do.
pub fn differences() -> Vec<(Line, Expected, Expected)> {
    let text = read("../docs/differences.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [line, stock, own, reason] = cells[..] else { panic!("not four cells: {row}") };
        assert!(!reason.is_empty(), "no reason: {row}");
        for_each_format(line.trim_matches('`')).into_iter().map(move |(format, line)| {
            let expected = |cell: &str| Expected::parse(&cell.replace("{f}", format));
            (Line::new(&line), expected(stock), expected(own))
        })
    })
    .collect()
}
