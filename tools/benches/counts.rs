//! Instruction counts of the hot functions: `cargo bench -p block-img --bench counts [-- --bless]`.
//!
//! Each function runs under `valgrind --tool=callgrind`, N times and 2N times. The difference, divided by N, is the
//! exact cost of one run, independent of the machine's load. A function that exceeds its committed count by more than a
//! margin fails the run. `--bless` writes new counts.

#[path = "hot/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.json");

/// Percentage by which a count may exceed the committed one, because compilers differ.
const MARGIN: u64 = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name, times] = words.as_slice()
        && mode == "--step"
    {
        let times = times.parse().unwrap_or(0);
        let found = work::steps().into_iter().find(|(known, _)| known == name);
        let Some((_, mut step)) = found else { return ExitCode::FAILURE };
        (0..times).for_each(|_: u64| step());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("counts: skipped: valgrind is not on this machine");
        let required = std::env::var_os("BLOCK_REQUIRE_ORACLES").is_some_and(|v| v == "1");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    match run(words.iter().any(|word| word == "--bless")) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(worse) => {
            println!("counts: {worse} functions cost more than {COUNTS} allows");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts all functions, and returns how many exceed their limit.
fn run(bless: bool) -> Result<usize, String> {
    let known: BTreeMap<String, u64> = match std::fs::read_to_string(COUNTS) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| format!("{COUNTS}: {e}"))?,
        Err(_) => BTreeMap::new(),
    };
    let mut counted = BTreeMap::new();
    let mut worse = 0;
    for (name, _) in work::steps() {
        let times = if name.starts_with("allocate") { 3 } else { 50 };
        let count =
            instructions(name, 2 * times)?.saturating_sub(instructions(name, times)?) / times;
        let limit = known.get(name).map(|old| old + old * MARGIN / 100);
        let too_much = limit.is_none_or(|limit| count > limit);
        worse += usize::from(too_much);
        let was = known.get(name).map_or("unknown".to_owned(), u64::to_string);
        println!(
            "{name:<14} {count:>10} instructions, was {was}{}",
            if too_much { "  WORSE" } else { "" }
        );
        counted.insert(name.to_owned(), count);
    }
    if bless {
        let text = serde_json::to_string_pretty(&counted).map_err(|e| e.to_string())?;
        std::fs::write(COUNTS, text + "\n").map_err(|e| e.to_string())?;
        return Ok(0);
    }
    Ok(worse)
}

/// Returns the instructions of a whole process that runs a function `times` times.
fn instructions(name: &str, times: u64) -> Result<u64, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(exe.as_path() as &Path)
        .args(["--step", name, &times.to_string()])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| format!("{name}: callgrind counted nothing: {text}"))
}
