//! Small files with excessive claims: the cost of `inspect` for them, beside that of stock `qemu-img info`.
//!
//! The limits are absolute, because stock refuses some of the files immediately and a ratio would say little.

use std::fmt;
use std::path::Path;

use serde_json::json;

use super::measure::{self, Sample};
use super::report::quantile;

#[path = "../../tests/common/amplifiers.rs"]
mod amplifiers;

/// Maximum time to judge a file, in seconds.
const SECONDS: f64 = 0.050;
/// Maximum peak resident set, in MiB.
const MEMORY: f64 = 16.0;

/// The measurements of one file.
pub struct Row {
    name: &'static str,
    bytes: usize,
    ours: Sample,
    theirs: Sample,
}

impl Row {
    fn is_reached(&self) -> bool {
        self.ours.wall <= SECONDS && self.ours.rss / 1024.0 <= MEMORY
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<38} {:>9} {:>9.4} {:>9.4} {:>7.1} {:>7.1}  {}",
            format!("hostile {}", self.name),
            self.bytes,
            self.ours.wall,
            self.theirs.wall,
            self.ours.rss / 1024.0,
            self.theirs.rss / 1024.0,
            if self.is_reached() { "reached" } else { "MISSED" },
        )
    }
}

/// Measures all files whose row `wanted` accepts, and prints each row. Puts the files in `dir`.
pub fn compare(
    dir: &Path,
    rounds: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (name, bytes) in amplifiers::all() {
        if !wanted(&format!("hostile {name}")) {
            continue;
        }
        if rows.is_empty() {
            println!(
                "{:<38} {:>9} {:>9} {:>9} {:>7} {:>7}  at most {SECONDS} s, {MEMORY} MiB",
                "inspect (ours), info (theirs)", "bytes", "ours s", "theirs s", "MiB", "theirs"
            );
        }
        let path = dir.join(name);
        std::fs::write(&path, &bytes).map_err(|e| e.to_string())?;
        let words = |words: [&str; 2]| -> measure::Words {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .chain([path.display().to_string()])
                .collect()
        };
        let (ours, theirs) =
            (words([env!("CARGO_BIN_EXE_block-img"), "inspect"]), words(["qemu-img", "info"]));
        let mut samples = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // Refusing the file is the right answer here.
            samples.0.push(measure::attempt(&ours)?.0.sample);
            samples.1.push(measure::attempt(&theirs)?.0.sample);
        }
        let row =
            Row { name, bytes: bytes.len(), ours: median(&samples.0), theirs: median(&samples.1) };
        println!("{row}");
        rows.push(row);
    }
    Ok(rows)
}

fn median(samples: &[Sample]) -> Sample {
    let of = |pick: fn(&Sample) -> f64| quantile(samples.iter().map(pick).collect(), 0.5);
    Sample { wall: of(|s| s.wall), cpu: of(|s| s.cpu), rss: of(|s| s.rss) }
}

/// Returns a sentence on how many files were judged within the limits.
pub fn summary(rows: &[Row]) -> String {
    let reached = rows.iter().filter(|row| row.is_reached()).count();
    format!("{reached} of {} hostile files judged within the limits", rows.len())
}

/// Writes `hostile.json` into `dir`.
pub fn keep(rows: &[Row], dir: &Path) -> std::io::Result<()> {
    let sample = |s: &Sample| json!({ "wall_s": s.wall, "cpu_s": s.cpu, "rss_kib": s.rss });
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "file": row.name,
                "bytes": row.bytes,
                "ours": sample(&row.ours),
                "theirs": sample(&row.theirs),
                "reached": row.is_reached(),
            })
        })
        .collect();
    std::fs::create_dir_all(dir)?;
    let json = json!({ "wall_limit_s": SECONDS, "rss_limit_mib": MEMORY, "rows": rows });
    std::fs::write(dir.join("hostile.json"), format!("{json:#}\n"))
}
