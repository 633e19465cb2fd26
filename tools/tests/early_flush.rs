//! A copy that is to end durable keeps the disk busy on the way.
#![allow(missing_docs)]

mod common;

use common::{Folder, trace};

#[test]
fn only_what_is_flushed_at_the_end_is_begun_early() {
    if !trace::is_possible() {
        return;
    }
    let folder = Folder::new();
    folder.raw("a.raw", 160 << 20, &[(0, vec![7; 160 << 20])]);
    let calls = |words: &[&str]| {
        let (status, log) = trace::run(
            &folder,
            "sync_file_range,fdatasync",
            env!("CARGO_BIN_EXE_block-img"),
            words,
        );
        assert_eq!(status, 0, "{words:?}: {log}");
        let count = |call: &str| log.lines().filter(|line| line.contains(call)).count();
        (count("sync_file_range(") > 0, count("fdatasync(") > 0)
    };
    let convert =
        |mode| calls(&["convert", "-t", mode, "-f", "raw", "-O", "vdi", "a.raw", "b.vdi"]);
    assert_eq!(convert("writeback"), (true, true));
    assert_eq!(convert("unsafe"), (false, false));
    assert_eq!(convert("none"), (false, true));
}
