//! Interoperation with QEMU's tools: each side reads what the other writes.
//!
//! Without `qemu-img` and `qemu-io` the tests report that they are skipped. With `BLOCK_REQUIRE_ORACLES=1` in the
//! environment they fail instead.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use block_core::{Access, CheckMode, MemStorage, Storage, WriteFlags, ZeroFlags};
use block_testkit::rng::Rng;
use support::{FREE, Lab, MIB, ZERO, base4, content, image, poke};

/// Returns whether the tools are installed.
fn tools() -> bool {
    let found = ["qemu-img", "qemu-io"]
        .iter()
        .all(|tool| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success()));
    if !found {
        assert!(
            std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(),
            "qemu-img or qemu-io is missing"
        );
        eprintln!("SKIPPED: qemu-img or qemu-io is missing");
    }
    found
}

fn run(tool: &str, args: &[&str], dir: &Path) -> Output {
    Command::new(tool).args(args).current_dir(dir).output().unwrap()
}

fn run_ok(tool: &str, args: &[&str], dir: &Path) {
    let output = run(tool, args, dir);
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Asserts that `qemu-img` finds no error in `image` and reads `wanted` from it.
fn assert_qemu_reads(image: &MemStorage, wanted: &[u8], what: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.vdi"), image.to_bytes().unwrap()).unwrap();
    std::fs::write(dir.path().join("wanted"), wanted).unwrap();
    let check = run("qemu-img", &["check", "-f", "vdi", "x.vdi"], dir.path());
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success(), "{what}: {said}");
    let compare = ["compare", "-f", "vdi", "-F", "raw", "x.vdi", "wanted"];
    let output = run("qemu-img", &compare, dir.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("identical"), "{what}: {said}");
}

async fn load(dir: &Path, name: &str) -> Arc<MemStorage> {
    MemStorage::from_bytes(&std::fs::read(dir.join(name)).unwrap())
}

fn patterned(size: u64, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    for chunk in bytes.chunks_mut(64 << 10) {
        if !rng.one_in(3) {
            let (value, step) = (rng.roll() as u8, rng.roll() as u8);
            chunk
                .iter_mut()
                .enumerate()
                .for_each(|(i, b)| *b = value ^ (i as u8).wrapping_mul(step));
        }
    }
    bytes
}

#[tokio::test]
async fn qemu_reads_what_we_write() {
    if !tools() {
        return;
    }
    for (seed, options) in [
        "",
        "layout=qemu",
        "static=on",
        "static=on,layout=qemu",
        "preallocation=metadata",
        "preallocation=full,layout=qemu",
    ]
    .into_iter()
    .enumerate()
    {
        let mut rng = Rng::new(seed as u64);
        let size = 9 * MIB + 512 * rng.within(0..2048);
        let lab = Lab::new();
        let file = lab.create("x", size, options).await.unwrap();
        let mut model = vec![0u8; size as usize];
        for session in 0..4 {
            let disk = lab.open("x", Access::ReadWrite, "").await.unwrap();
            for _ in 0..25 {
                let at = rng.within(0..size);
                let len = rng.within(1..(size - at).min(2 * MIB) + 1);
                let range = at as usize..(at + len) as usize;
                match rng.index(5) {
                    0..3 => {
                        let bytes = patterned(len, &mut rng);
                        disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                        model[range].copy_from_slice(&bytes);
                    }
                    3 => {
                        disk.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await.unwrap();
                        model[range].fill(0);
                    }
                    _ => disk.flush().await.unwrap(),
                }
            }
            disk.close().await.unwrap();
            let what = format!("options {options:?}, session {session}, seed {seed}");
            assert_qemu_reads(&file, &model, &what);
        }
        if !options.contains("static") {
            let disk = lab.open("x", Access::ReadWrite, "").await.unwrap();
            disk.device().compact(&|_, _| true).await.unwrap();
            disk.close().await.unwrap();
            assert_qemu_reads(&file, &model, &format!("compacted, options {options:?}"));
        }
    }
}

#[tokio::test]
async fn we_read_what_qemu_writes() {
    if !tools() {
        return;
    }
    let mut rng = Rng::new(1);
    for size in [512, 10 * MIB, 7 * MIB + 1536] {
        let raw = patterned(size, &mut rng);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("raw"), &raw).unwrap();
        for extra in [&[][..], &["-o", "static=on"], &["-W", "-m", "16"]] {
            let args = [&["convert", "-f", "raw", "-O", "vdi"], extra, &["raw", "x.vdi"]].concat();
            run_ok("qemu-img", &args, dir.path());
            let file = load(dir.path(), "x.vdi").await;
            let lab = Lab::new();
            lab.assert_clean(file.clone()).await;
            let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
            assert!(content(&disk).await == raw, "{size} {extra:?}");
            let mut model = raw.clone();
            let at = size / 2;
            disk.write_at(at, &[0x5A; 100], WriteFlags::empty()).await.unwrap();
            model[at as usize..][..100].fill(0x5A);
            disk.close().await.unwrap();
            assert_qemu_reads(&file, &model, &format!("{size} {extra:?}"));
        }
    }
}

#[tokio::test]
async fn an_odd_size_means_the_same_to_both() {
    if !tools() {
        return;
    }
    let mut bytes = base4();
    poke(&mut bytes, 0x170, &(3 * MIB + 1000).to_le_bytes());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.vdi"), &bytes).unwrap();
    let output = run("qemu-img", &["info", "--output=json", "x.vdi"], dir.path());
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let disk = Lab::new().open_on(MemStorage::from_bytes(&bytes), Access::Read, "").await.unwrap();
    assert_eq!(info["virtual-size"], disk.size());
}

/// Sends requests to one image, in turns through `qemu-io` and through this driver.
#[tokio::test]
async fn an_image_written_by_turns_agrees_with_a_model() {
    if !tools() {
        return;
    }
    for seed in 0..4u64 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let size = 6 * MIB + 512 * rng.within(0..2048);
        let lab = Lab::new();
        let layout = if seed % 2 == 0 { "layout=qemu" } else { "" };
        let mut file = lab.create("x", size, layout).await.unwrap();
        let mut model = vec![0u8; size as usize];
        let dir = tempfile::tempdir().unwrap();
        for turn in 0..6 {
            let mut commands = Vec::new();
            for _ in 0..12 {
                let at = rng.within(0..size / 512) * 512;
                let len = rng.within(1..((size - at) / 512).min(3000) + 1) * 512;
                let value = rng.roll() as u8 | 1;
                let zeros = rng.one_in(4);
                model[at as usize..(at + len) as usize].fill(if zeros { 0 } else { value });
                commands.push((at, len, (!zeros).then_some(value)));
            }
            if turn % 2 == 0 {
                std::fs::write(dir.path().join("x.vdi"), file.to_bytes().unwrap()).unwrap();
                let mut args = vec!["-f".to_owned(), "vdi".to_owned()];
                for (at, len, value) in commands {
                    args.push("-c".into());
                    args.push(match value {
                        Some(value) => format!("write -P {value} {at} {len}"),
                        None => format!("write -z {at} {len}"),
                    });
                }
                args.push("x.vdi".into());
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                run_ok("qemu-io", &args, dir.path());
                file = load(dir.path(), "x.vdi").await;
                lab.assert_clean(file.clone()).await;
            } else {
                let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
                for (at, len, value) in commands {
                    match value {
                        Some(value) => {
                            let bytes = vec![value; len as usize];
                            disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                        }
                        None => {
                            disk.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await.unwrap();
                        }
                    }
                }
                disk.close().await.unwrap();
                assert_qemu_reads(&file, &model, &format!("seed {seed}, turn {turn}"));
            }
            let disk = lab.open_on(file.clone(), Access::Read, "").await.unwrap();
            assert!(content(&disk).await == model, "seed {seed}, turn {turn}");
        }
    }
}

#[tokio::test]
async fn our_counts_of_corruptions_are_qemus_where_both_look() {
    if !tools() {
        return;
    }
    let counted = |mut bytes: Vec<u8>, count: u32| {
        poke(&mut bytes, 0x184, &count.to_le_bytes());
        bytes
    };
    for (name, bytes) in [
        ("clean", base4()),
        ("two shared", counted(image(4 * MIB, &[0, 1, 0, 0], 2), 4)),
        ("too large", counted(image(4 * MIB, &[0, 5, FREE, ZERO], 6), 1)),
        ("count too small", counted(base4(), 0)),
        ("count above the blocks", counted(base4(), 1000)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.vdi"), &bytes).unwrap();
        let output = run("qemu-img", &["check", "--output=json", "x.vdi"], dir.path());
        let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let file = MemStorage::from_bytes(&bytes);
        let ours = Lab::new().check(file.clone(), CheckMode::Report).await.unwrap();
        assert_eq!(theirs["corruptions"].as_u64().unwrap_or(0), ours.corruptions, "{name}");
        assert_eq!(theirs["check-errors"], ours.check_errors, "{name}");
        let disk = Lab::new().open_on(file.clone(), Access::Read, "").await.unwrap();
        let before = content(&disk).await;
        Lab::new().check(file.clone(), CheckMode::RepairAll).await.unwrap();
        assert_qemu_reads(&file, &before, name);
    }
}

#[tokio::test]
async fn an_image_that_grew_is_sound_to_qemu() {
    if !tools() {
        return;
    }
    for (options, from, to) in [
        ("layout=qemu", 200 * MIB, 900 * MIB),
        ("", 20 * MIB, 60 * MIB),
        ("static=on", 3 * MIB, 9 * MIB),
    ] {
        let lab = Lab::new();
        let file = lab.create("x", from, options).await.unwrap();
        let disk = lab.open("x", Access::ReadWrite, "").await.unwrap();
        let bytes = patterned(2 * MIB, &mut Rng::new(5));
        disk.write_at(MIB / 2, &bytes, WriteFlags::empty()).await.unwrap();
        disk.device().resize(to, block_core::Preallocation::Off).await.unwrap();
        disk.close().await.unwrap();
        let mut wanted = vec![0; to as usize];
        wanted[MIB as usize / 2..][..bytes.len()].copy_from_slice(&bytes);
        assert_qemu_reads(&file, &wanted, options);
        assert!(file.len().await.unwrap() < 16 * MIB);
    }
}
