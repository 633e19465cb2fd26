//! `bench` makes its requests by the engine it is told.
#![allow(missing_docs)]

mod common;

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
