//! What can be said with any image (`--image-opts`, `json:`), and what comes of it.

mod common;

use std::fs;

use common::{Folder, noise, trace};

fn chain(folder: &Folder) {
    folder.raw("base.raw", 4 << 20, &[(0, noise(1, 1 << 20))]);
    folder.ours("convert -O vdi base.raw base.vdi").ok();
    folder.ours("create -q -f vdi -b base.vdi -F vdi child.vdi").ok();
}

#[test]
fn no_command_writes_what_was_called_read_only() {
    let folder = Folder::new();
    chain(&folder);
    let before = fs::read(folder.file("child.vdi")).unwrap();
    for said in ["read-only=on", "file.read-only=on", "force-share=on"] {
        let image = format!("driver=vdi,{said},file.filename=child.vdi");
        for command in [
            "amend -o comment=x",
            "bench -w -c 1",
            "check -r all",
            "commit",
            "compact",
            "rebase -b base.vdi -F vdi",
            "rebase -u -b base.vdi -F vdi",
        ] {
            let ran = folder.ours(&format!("{command} --image-opts {image}")).fails(1);
            assert!(ran.err.contains("read-only"), "{command}, {said}: {ran:?}");
        }
        folder.ours(&format!("resize --image-opts {image} 8M")).fails(1);
        folder.ours(&format!("convert -n --target-image-opts base.raw {image}")).fails(1);
        for command in ["bench -q -c 1", "check", "info", "map", "probe", "snapshot -l"] {
            folder.ours(&format!("{command} --image-opts {image}")).ok();
        }
    }
    assert!(fs::read(folder.file("child.vdi")).unwrap() == before);
}

#[test]
fn an_option_that_nobody_knows_is_refused() {
    let folder = Folder::new();
    chain(&folder);
    for said in ["nope=1", "file.nope=1", "aio=threads", "file.aio=none"] {
        let image = format!("driver=vdi,{said},file.filename=base.vdi");
        for command in ["check", "info", "map", "digest"] {
            let ran = folder.ours(&format!("{command} --image-opts {image}")).fails(1);
            assert!(ran.err.contains("Could not open"), "{command}, {said}: {ran:?}");
        }
    }
}

/// How often a command makes one of these calls.
fn calls(folder: &Folder, names: &str, line: &str) -> usize {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (status, log) = trace::run(folder, names, env!("CARGO_BIN_EXE_block-img"), &words);
    assert_eq!(status, 0, "{line}: {log}");
    log.lines().filter(|line| line.contains('(') && !line.contains("resumed")).count()
}

#[test]
fn flushes_are_left_out_or_made_as_was_said() {
    if !trace::is_possible() {
        return;
    }
    let folder = Folder::new();
    chain(&folder);
    let flushes = |cache: &str, said: &str| {
        let image = format!("driver=vdi,{said}file.filename=base.vdi");
        let line = format!("convert -n -t {cache} --target-image-opts base.raw {image}");
        calls(&folder, "fsync,fdatasync", &line)
    };
    assert!(flushes("writeback", "") > 0);
    assert_eq!(flushes("writeback", "cache.no-flush=on,"), 0);
    assert_eq!(flushes("unsafe", ""), 0);
    assert!(flushes("unsafe", "cache.no-flush=off,") > 0);
}

#[test]
fn the_engine_is_the_one_that_was_said() {
    if !trace::is_possible() {
        return;
    }
    let folder = Folder::new();
    chain(&folder);
    let rings = |said: &str| {
        let image = format!("driver=vdi,cache.direct=on,{said}file.filename=base.vdi");
        calls(&folder, "io_uring_setup", &format!("bench -q -c 100 --image-opts {image}"))
    };
    let ring = "driver=vdi,file.aio=io_uring,file.filename=base.vdi";
    if folder.ours(&format!("info --image-opts {ring}")).status != 0 {
        eprintln!("SKIPPED: this kernel gives no ring");
        return;
    }
    assert_eq!(rings("file.aio=threads,"), 0);
    assert_eq!(rings("file.engine=sync,"), 0);
    assert!(rings("file.aio=io_uring,") > 0);
}
