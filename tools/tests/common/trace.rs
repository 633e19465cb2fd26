//! Programs whose system calls are written down.

use std::fs;
use std::process::Command;

use super::Folder;

/// Whether calls can be traced here. Where the stock tools have to be, tracing has to be possible too.
pub fn is_possible() -> bool {
    let traced = Command::new("strace").args(["-f", "-e", "trace=%file", "true"]).output();
    let works = traced.is_ok_and(|output| output.status.success());
    if !works {
        let required =
            std::env::var_os("BLOCK_REQUIRE_ORACLES").is_some_and(|v| !v.is_empty() && v != "0");
        assert!(!required, "strace is required and cannot trace here");
        eprintln!("SKIPPED: strace is not installed or may not trace");
    }
    works
}

/// Runs a program in the folder and writes down its calls of these names: the exit code and the log.
pub fn run(folder: &Folder, calls: &str, program: &str, words: &[&str]) -> (i32, String) {
    let log = folder.file("log");
    let status = Command::new("strace")
        .args(["-f", "-s", "4096", "-e", &format!("trace={calls}"), "-o"])
        .arg(&log)
        .arg(program)
        .args(words)
        .current_dir(folder.path())
        .output()
        .unwrap()
        .status;
    (status.code().unwrap(), fs::read_to_string(log).unwrap())
}
