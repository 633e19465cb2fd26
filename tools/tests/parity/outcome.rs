//! What has to be the same after a line: status, output, files. See "In every command" in `docs/differences.md`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::common::Ran;
use crate::lines::Line;

/// One line, run by both.
pub struct Runs {
    pub ours: Ran,
    pub theirs: Ran,
    pub in_ours: PathBuf,
    pub in_theirs: PathBuf,
    pub _folder: TempDir,
}

/// What is not the same.
pub fn complaints(bench: &Bench, line: &Line, runs: &Runs) -> Vec<String> {
    let Runs { ours, theirs, .. } = runs;
    if ours.status != theirs.status {
        return vec![format!("status: {ours:?} against {theirs:?}")];
    }
    let mut wrong = Vec::new();
    if let Err(what) = same_output(line, ours, theirs) {
        wrong.push(format!("output: {what}"));
    }
    if ours.err.is_empty() != theirs.err.is_empty() {
        wrong.push(format!("messages: {:?} against {:?}", ours.err, theirs.err));
    }
    let before = names(bench.images());
    let (own, stock) = (names(&runs.in_ours), names(&runs.in_theirs));
    // A command that fails leaves nothing new.
    let expected = if ours.status == 0 { &stock } else { &before };
    if own != *expected {
        wrong.push(format!("files: {own:?} against {expected:?}"));
    }
    for name in own.intersection(expected) {
        let [own, stock, then] = [runs.in_ours.as_path(), &runs.in_theirs, bench.images()]
            .map(|folder| folder.join(name));
        let same = match ours.status {
            _ if untouched(&own, &then) && untouched(&stock, &then) => true,
            0 => same_disk(&own, &stock),
            _ => same_bytes(&own, &then),
        };
        if !same {
            wrong.push(format!("content: {name}"));
        }
    }
    wrong
}

fn same_output(line: &Line, ours: &Ran, theirs: &Ran) -> Result<(), String> {
    if line.has(&["--help", "-h", "--version", "-V"]) {
        return if ours.out.is_empty() { Err("nothing is said".to_owned()) } else { Ok(()) };
    }
    let (mut own, mut stock) = (ours.out.clone(), theirs.out.clone());
    if line.has(&["-p", "--progress", "-pq"]) {
        let (own_steps, stock_steps);
        (own_steps, own) = without_progress(&own);
        (stock_steps, stock) = without_progress(&stock);
        let ends = |steps: &[String]| (steps.first().cloned(), steps.last().cloned());
        if ours.status == 0 && ends(&own_steps) != ends(&stock_steps) {
            return Err(format!("progress {own_steps:?} against {stock_steps:?}"));
        }
    }
    if stock.starts_with(['{', '[']) {
        let parse =
            |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("{e}: {text}"));
        return has_all(&parse(&own)?, &parse(&stock)?, "");
    }
    let command = line.words.first().map_or("", String::as_str);
    if ["info", "bench"].contains(&command) {
        // The time it took is nobody's agreement.
        let is_fixed = |said: &&str| !said.starts_with("Run completed in");
        let mut own = own.lines();
        let missing =
            stock.lines().filter(is_fixed).find(|wanted| !own.any(|said| said == *wanted));
        return missing.map_or(Ok(()), |missing| Err(format!("no '{missing}' in {:?}", ours.out)));
    }
    if own == stock { Ok(()) } else { Err(format!("{own:?} against {stock:?}")) }
}

/// The percentages, and what is said besides.
fn without_progress(text: &str) -> (Vec<String>, String) {
    let is_step = |part: &&str| part.starts_with("    (") && part.ends_with("/100%)");
    let parts = || text.split(['\r', '\n']).filter(|part| !part.is_empty());
    let steps = parts().filter(is_step).map(str::to_owned).collect();
    (steps, parts().filter(|part| !is_step(part)).collect::<Vec<_>>().join("\n"))
}

/// Every field that stock has, with its value.
fn has_all(own: &Value, stock: &Value, place: &str) -> Result<(), String> {
    match (own, stock) {
        (Value::Object(own), Value::Object(stock)) => {
            for (name, value) in stock {
                let place = format!("{place}.{name}");
                has_all(own.get(name).ok_or(format!("{place} is missing"))?, value, &place)?;
            }
            Ok(())
        }
        (Value::Array(own), Value::Array(stock)) if own.len() == stock.len() => {
            let mut pairs = own.iter().zip(stock).enumerate();
            pairs.try_for_each(|(index, (own, stock))| {
                has_all(own, stock, &format!("{place}[{index}]"))
            })
        }
        _ if own == stock => Ok(()),
        _ => Err(format!("{place}: {own} against {stock}")),
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Whether nobody has written to a copy of `original`, which has its time.
fn untouched(copy: &Path, original: &Path) -> bool {
    let facts = |path| fs::metadata(path).ok().map(|m| (m.len(), m.mtime(), m.mtime_nsec()));
    facts(original).is_some_and(|facts_then| facts(copy) == Some(facts_then))
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    fs::metadata(a).unwrap().len() == fs::metadata(b).unwrap().len()
        && fs::read(a).unwrap() == fs::read(b).unwrap()
}

/// The same bytes, or, with identities and places of their own, the same disk.
fn same_disk(ours: &Path, theirs: &Path) -> bool {
    if same_bytes(ours, theirs) {
        return true;
    }
    let is_raw = ours.extension().is_some_and(|extension| extension == "raw");
    !is_raw && virtual_size(ours) == virtual_size(theirs) && {
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-q"]).args([ours, theirs]);
        compare.stdin(Stdio::null()).status().unwrap().success()
    }
}

/// As the stock program reads it.
fn virtual_size(image: &Path) -> Option<u64> {
    let output =
        Command::new("qemu-img").args(["info", "--output=json"]).arg(image).output().unwrap();
    let info: Value = serde_json::from_slice(&output.stdout).ok()?;
    info["virtual-size"].as_u64()
}
