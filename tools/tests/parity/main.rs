//! The command line of stock `qemu-img` against ours, line by line: the cases come out the same, and what does not is in
//! `docs/differences.md`. No option of the stock program may be in neither.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod lines;
mod outcome;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bench::Bench;
use common::oracles;
use common::stock_options::{OPTIONS, OPTIONS_OF_BITMAP, OPTIONS_OF_PROGRAM, is_option};
use lines::{Line, cases, differences};
use outcome::{Runs, complaints};

/// Runs `check` over the lines, two at a time, and fails with all that it complains of.
#[track_caller]
fn for_each<L: Sync>(lines: &[L], check: impl Fn(&Bench, &L) -> Vec<String> + Sync) {
    let bench = Bench::new();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = check(&bench, line);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}

#[test]
fn every_case_comes_out_the_same() {
    if !oracles() {
        return;
    }
    let cases = cases();
    assert!(cases.len() > 600, "{}", cases.len());
    for_each(&cases, |bench, line| {
        let runs = bench.run(line);
        complaints(bench, line, &runs).into_iter().map(|what| format!("{line}: {what}")).collect()
    });
}

#[test]
fn every_listed_difference_is_one() {
    if !oracles() {
        return;
    }
    let listed = differences();
    assert!(listed.len() > 50, "{}", listed.len());
    for_each(&listed, |bench, (line, stock, own)| {
        let Runs { ours, theirs, .. } = &bench.run(line);
        let mut wrong = Vec::new();
        for (who, expected, ran) in [("stock", stock, theirs), ("block-img", own, ours)] {
            if !expected.is(ran) {
                wrong.push(format!("{line}: {who}: listed {expected:?}, found {ran:?}"));
            }
        }
        if ours.status == theirs.status && complaints(bench, line, &bench.run(line)).is_empty() {
            wrong.push(format!("{line}: both do the same"));
        }
        wrong
    });
}

/// The lines of a command, and of the options before it.
fn of<'l>(lines: &'l [Line], command: &str) -> Vec<&'l Line> {
    lines.iter().filter(|line| line.words.first().is_some_and(|word| word == command)).collect()
}

#[test]
fn no_option_is_left_out() {
    let mut lines = cases();
    lines.extend(differences().into_iter().map(|(line, ..)| line));
    let mut missing = Vec::new();
    let bitmap = [("bitmap", OPTIONS_OF_BITMAP)];
    for (command, options) in OPTIONS.iter().chain(&bitmap) {
        let lines = of(&lines, command);
        for option in options.split_whitespace() {
            // Each spelling of each option, `--object` and `--help` included.
            for spelling in option.split('|') {
                let given = |line: &&Line| line.words.iter().any(|word| is_option(word, spelling));
                if !lines.iter().any(given) {
                    missing.push(format!("{command} {spelling}"));
                }
            }
        }
    }
    for option in OPTIONS_OF_PROGRAM.split_whitespace() {
        let first = |line: &Line| line.words.first().cloned().unwrap_or_default();
        if !option.split('|').any(|spelling| lines.iter().any(|line| first(line) == spelling)) {
            missing.push(option.to_owned());
        }
    }
    assert!(missing.is_empty(), "neither compared nor listed as different: {missing:?}");
}

/// Options that stock's help names by mistake: it refuses them.
const MISPRINTS: [(&str, &str); 2] = [("check", "-u"), ("amend", "--progres")];

#[test]
fn the_table_has_every_option_of_the_stock_help() {
    if !oracles() {
        return;
    }
    let bench = Bench::new();
    let bitmap = [("bitmap", OPTIONS_OF_BITMAP)];
    let known: Vec<_> = OPTIONS.iter().chain(&bitmap).collect();
    let help = bench.stock(&["--help"]).out;
    let commands: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(" - ").map(|(name, _)| name))
        .collect();
    assert!(commands.len() >= 15, "{help}");
    for command in commands {
        let options = known.iter().find(|(name, _)| *name == command);
        let options = options.unwrap_or_else(|| panic!("the table lacks {command}")).1;
        let options: BTreeSet<&str> = options.split([' ', '|']).collect();
        let help = bench.stock(&[command, "--help"]).out;
        for word in help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            let is_long = word.starts_with("--") && word.len() > 2;
            let is_short = word.len() == 2 && word.starts_with('-') && word != "-h" && word != "--";
            if (is_long || is_short) && !MISPRINTS.contains(&(command, word)) {
                assert!(options.contains(word), "the table lacks {command} {word}");
            }
        }
    }
}
