//! A disk of 64 TiB has a map of 256 MiB, and no command keeps it in memory.

use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};

// One test only: the peak is that of all programs it starts.
#[test]
fn every_look_at_64_tib_takes_less_than_64_mib() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("huge.vdi").display().to_string();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_block-img")).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["create", "-q", "-f", "vdi", &image, "64T"]);
    // Blocks all over the disk, in an order that leaves no two of them side by side.
    let step = (64_u64 << 40) / 300 / 4096 * 4096;
    run(&[
        "bench",
        "-q",
        "-w",
        "-f",
        "vdi",
        "-c",
        "300",
        "-d",
        "1",
        "-S",
        &step.to_string(),
        &image,
    ]);
    let map = run(&["map", "--output=json", &image]);
    let stored = map.matches("\"data\": true").count();
    assert!(stored >= 290, "{stored} stored runs");
    for words in [
        &["info", &image][..],
        &["check", &image],
        &["measure", "-O", "raw", &image],
        &["amend", "-o", "comment=huge", &image],
        &["compact", &image],
        &["check", &image],
        &["compare", &image, &image],
    ] {
        run(words);
    }
    // What the blocks hold is zeros, so that compacting has given all of them back.
    assert!(!run(&["map", "--output=json", &image]).contains("\"data\": true"));
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("peak {} MiB", peak >> 10);
    assert!(peak > 4 << 10, "{peak} KiB: nothing was measured");
    assert!(peak < 64 << 10, "{peak} KiB");
}
