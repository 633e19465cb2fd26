//! `bench` makes its requests by the engine it is told.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Folder, noise, trace};

#[test]
fn requests_are_queued_or_made_one_by_one_as_told() {
    if !trace::is_possible() {
        return;
    }
    let folder = Folder::new();
    folder.raw("a.raw", 1 << 20, &[(0, noise(1, 1 << 20))]);
    let calls = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let (status, log) = trace::run(
            &folder,
            "io_uring_setup,io_uring_enter,pread64",
            env!("CARGO_BIN_EXE_block-img"),
            &words,
        );
        let count = |call: &str| log.lines().filter(|line| line.contains(call)).count();
        (status, count("io_uring_setup"), count("io_uring_enter"), count("pread64"))
    };
    let (status, rings, queued, plain) = calls("bench -q -i io_uring -t none -f raw -c 200 a.raw");
    if status != 0 {
        eprintln!("SKIPPED: this kernel gives no io_uring");
        return;
    }
    assert!(rings == 1 && queued > 0 && plain < 20, "{rings} {queued} {plain}");
    for line in ["bench -q -n -t none -f raw -c 200 a.raw", "bench -q -t none -f raw -c 200 a.raw"]
    {
        let (status, rings, queued, plain) = calls(line);
        assert!(status == 0 && rings == 1 && queued > 0 && plain < 200, "{line}: {plain}");
    }
    let (status, rings, queued, plain) = calls("bench -q -i threads -t none -f raw -c 200 a.raw");
    assert!(status == 0 && rings == 0 && queued == 0 && plain >= 200, "{rings} {queued} {plain}");
}

/// What the kernel keeps for a ring it keeps for some time after the death of its process; no lock is among it.
#[test]
fn a_killed_reader_leaves_no_lock() {
    let folder = Folder::new();
    // A reader of a raw disk lets others write it, as in stock: a reader of an image does not.
    folder.raw("a.raw", 1 << 20, &[(0, noise(1, 1 << 20))]);
    folder.ours("convert -f raw -O vdi a.raw a.vdi").ok();
    let bench = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_block-img"));
        command.args(line.split(' ')).current_dir(folder.path()).stdout(Stdio::piped());
        command
    };
    for engine in ["threads", "io_uring"] {
        for _ in 0..5 {
            let line = format!("bench -t none -i {engine} -f vdi -c 1000000000 a.vdi");
            let mut reader = bench(&line).spawn().unwrap();
            let mut said = String::new();
            BufReader::new(reader.stdout.take().unwrap()).read_line(&mut said).unwrap();
            if said.is_empty() {
                eprintln!("SKIPPED: this kernel gives no io_uring");
                break;
            }
            let writer = "bench -q -w -t none -f vdi -c 1 a.vdi";
            let refused = bench(writer).output().unwrap();
            // Before anything is asserted: a reader that outlives its test takes a core for hours.
            reader.kill().unwrap();
            reader.wait().unwrap();
            assert!(!refused.status.success(), "it is locked");
            let output = bench(writer).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{engine}: {said}");
        }
    }
}
