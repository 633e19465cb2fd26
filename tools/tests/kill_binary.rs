//! `block-img` itself is killed at random moments of what it writes; the image is checked and compared each time.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use block_testkit::rng::Rng;
use common::{Folder, noise};

const MIB: usize = 1 << 20;

/// How often each command is killed.
const ROUNDS: u64 = 12;

/// What has to hold after a kill.
type Look<'a> = dyn Fn(&Folder, &str) + 'a;

/// Runs `line` over and over from what `prepare` makes, and kills it at random moments of the time that it
/// takes. Says how often it was in the middle of it.
fn killed(line: &str, prepare: &dyn Fn(&Folder), look: &Look<'_>) -> u64 {
    let words: Vec<&str> = line.split(' ').collect();
    let whole = {
        let folder = Folder::new();
        prepare(&folder);
        let start = Instant::now();
        folder.ours(line).ok();
        let took = start.elapsed();
        look(&folder, "not killed");
        took
    };
    let mut rng = Rng::new(7);
    let mut hit = 0;
    for round in 0..ROUNDS {
        let folder = Folder::new();
        prepare(&folder);
        let mut child = folder.command(&words).stdout(Stdio::null()).spawn().unwrap();
        let time = whole.mul_f64(rng.within(0..1000) as f64 / 1000.0);
        std::thread::sleep(time.max(Duration::from_micros(500)));
        child.kill().unwrap();
        hit += u64::from(!child.wait().unwrap().success());
        look(&folder, &format!("round {round}, killed after {time:?}"));
    }
    println!("{line}: {hit} of {ROUNDS} killed in the middle, of {whole:?}");
    hit
}

/// The disk in `image`, after a check that finds leaks at most.
fn content(folder: &Folder, image: &str, when: &str) -> Vec<u8> {
    let report = folder.ours(&format!("check --output json {image}"));
    assert!(matches!(report.status, 0 | 3), "{when}: {report:?}");
    assert!(report.json().get("corruptions").is_none_or(|n| n == 0), "{when}: {report:?}");
    folder.ours(&format!("convert -O raw {image} seen.raw")).ok();
    fs::read(folder.file("seen.raw")).unwrap()
}

/// A disk of 24 MiB with data in most of its first half.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 24 * MIB];
    for block in [0, 1, 3, 4, 7, 9, 10] {
        bytes[block * MIB..block * MIB + 700_000].copy_from_slice(&noise(block as u64, 700_000));
    }
    bytes
}

fn image(folder: &Folder, name: &str) {
    fs::write(folder.file("disk.raw"), disk()).unwrap();
    folder.ours(&format!("convert -f raw -O vdi disk.raw {name}")).ok();
}

#[test]
fn writes_into_an_image_leave_old_and_new_blocks_only() {
    let old = disk();
    // 4 KiB every 68 KiB: many blocks, new and old ones, allocated in turn.
    let line = "bench -w -q --pattern 170 --flush-interval 16 -c 1400 -s 4096 -S 69632 -d 4 a.vdi";
    let hit = killed(line, &|folder| image(folder, "a.vdi"), &|folder, when| {
        let seen = content(folder, "a.vdi", when);
        assert_eq!(seen.len(), old.len(), "{when}");
        for (at, (seen, old)) in seen.chunks(512).zip(old.chunks(512)).enumerate() {
            let written = seen.iter().all(|byte| *byte == 170);
            assert!(written || seen == old, "{when}: sector {at} is neither old nor new");
        }
    });
    assert!(hit >= ROUNDS / 3, "only {hit} were killed in time");
}

#[test]
fn a_converted_image_is_whole_or_not_there() {
    let old = disk();
    let prepare = |folder: &Folder| fs::write(folder.file("disk.raw"), disk()).unwrap();
    for target in ["convert -f raw -O vdi disk.raw b.vdi", "dd -f raw -O vdi if=disk.raw of=b.vdi"]
    {
        let hit = killed(target, &prepare, &|folder, when| {
            if folder.file("b.vdi").exists() {
                assert!(content(folder, "b.vdi", when) == old, "{when}: it differs");
            }
            assert!(fs::read(folder.file("disk.raw")).unwrap() == old, "{when}: the source");
        });
        assert!(hit >= ROUNDS / 3, "only {hit} were killed in time");
    }
}

#[test]
fn compacting_and_resizing_lose_nothing() {
    let old = disk();
    let prepare = |folder: &Folder| {
        image(folder, "a.vdi");
        // Holes in the middle, so that blocks have to move.
        folder.ours("bench -w -q --pattern 0 -c 2 -s 1M -S 3M -o 1M a.vdi").ok();
    };
    let mut holed = old.clone();
    for block in [1, 4] {
        holed[block * MIB..(block + 1) * MIB].fill(0);
    }
    for line in ["compact a.vdi", "resize -q a.vdi 3G"] {
        killed(line, &prepare, &|folder, when| {
            let info = folder.ours("info --output json a.vdi").ok().json();
            let size = info["virtual-size"].as_u64().unwrap();
            assert!(size == old.len() as u64 || size == 3 << 30, "{when}: {size}");
            if size == old.len() as u64 {
                assert!(content(folder, "a.vdi", when) == holed, "{when}: it differs");
                return;
            }
            fs::write(folder.file("holed.raw"), &holed).unwrap();
            folder.ours("check a.vdi");
            folder.ours("compare -F raw a.vdi holed.raw").ok();
        });
    }
}

#[test]
fn a_commit_changes_nothing_that_the_child_shows() {
    let prepare = |folder: &Folder| {
        image(folder, "base.vdi");
        folder.ours("create -q -f vdi -b base.vdi -F vdi child.vdi").ok();
        folder.ours("bench -w -q --pattern 85 -c 9 -s 300032 -S 2M child.vdi").ok();
    };
    let folder = Folder::new();
    prepare(&folder);
    let shown = content(&folder, "child.vdi", "before");
    assert!(shown != disk());
    killed("commit -q child.vdi", &prepare, &|folder, when| {
        assert!(content(folder, "child.vdi", when) == shown, "{when}: it differs");
    });
}
