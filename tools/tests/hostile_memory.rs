//! A file that claims much and holds little costs little, whatever is asked of it.

#[path = "common/amplifiers.rs"]
mod amplifiers;

use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};

/// T3. A file of 1 KiB that claims 2^29 blocks is refused by every command, in less than 10 MiB of
/// memory. Stock `qemu-img info` takes 2 GB for it.
#[test]
fn t3_a_1_kib_file_that_claims_2_29_blocks_is_refused_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("claims.vdi");
    let mut image = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x40, &0xbeda_107f_u32.to_le_bytes());
    put(0x44, &0x0001_0001_u32.to_le_bytes());
    put(0x48, &0x180_u32.to_le_bytes());
    put(0x4c, &1_u32.to_le_bytes());
    put(0x154, &0x200_u32.to_le_bytes());
    put(0x158, &0x8000_0200_u32.to_le_bytes());
    put(0x168, &512_u32.to_le_bytes());
    put(0x170, &(1_u64 << 20).to_le_bytes());
    put(0x178, &(1_u32 << 20).to_le_bytes());
    put(0x180, &(1_u32 << 29).to_le_bytes());
    put(0x188, &[7; 32]);
    std::fs::write(&path, &image).unwrap();
    let (image, out) = (path.display().to_string(), dir.path().join("out").display().to_string());
    for words in [
        &["info", &image][..],
        &["check", &image],
        &["check", "-r", "all", &image],
        &["map", "--output=json", &image],
        &["compare", &image, &image],
        &["convert", "-O", "raw", &image, &out],
        &["measure", "-O", "raw", &image],
        &["resize", "-f", "vdi", &image, "+1M"],
        &["compact", &image],
        &["chain", &image],
        &["digest", &image],
        &["diff", &image, &image],
        &["dd", &format!("if={image}"), &format!("of={out}")],
        &["bench", "-c", "4", &image],
        &["bench", "-w", "-c", "4", "-f", "vdi", &image],
        &["amend", "-o", "comment=x", &image],
        &["snapshot", "-l", &image],
        &["commit", &image],
        &["rebase", "-b", "", &image],
        &["create", "-f", "vdi", "-b", &image, "-F", "vdi", &out],
        &["inspect", &image],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_block-img")).args(words).output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        assert!(output.status.code().is_some(), "{words:?} was killed");
        let says = output.stderr.len() + output.stdout.len();
        assert!(says > 0, "{words:?} says nothing");
    }
    assert!(!std::path::Path::new(&out).exists());
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    // A debug build is larger than the release build; its code is most of this.
    assert!(peak < 10 << 10, "{peak} KiB");
}

/// Every file that is known to make other programs take much is named and judged in less than 16 MiB.
#[test]
fn files_that_claim_much_are_inspected_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in amplifiers::all() {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let run = |words: &[&str]| {
            let program = env!("CARGO_BIN_EXE_block-img");
            Command::new(program).args(words).arg(&path).output().unwrap()
        };
        let output = run(&["inspect", "--output=json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {report:#}");
        let codes: Vec<&str> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|f| f["code"].as_str())
            .collect();
        let excess = ["TABLE_EXCESSIVE", "SIZE_EXCESSIVE", "OUT_OF_BOUNDS", "STRUCTURE"];
        assert!(codes.iter().any(|code| excess.contains(code)), "{name}: {codes:?}");
        // Where there is a driver it refuses too, and where there is none nothing is opened as raw.
        for words in [&["probe"][..], &["info"], &["inspect", "--deep"]] {
            let output = run(words);
            assert!(output.status.code().is_some(), "{words:?} {name} was killed");
            assert!(words == ["probe"] || !output.status.success(), "{words:?} {name}");
        }
    }
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(peak > 1 << 10, "{peak} KiB: nothing was measured");
    assert!(peak < 16 << 10, "{peak} KiB");
}
