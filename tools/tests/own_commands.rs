//! What the other program lacks, and chains.

mod common;

use common::{Folder, noise};
use serde_json::json;

#[test]
fn the_digest_does_not_depend_on_the_format() {
    let folder = Folder::new();
    folder.raw("a.raw", 10 << 20, &[(70_000, noise(1, 200_000)), (9 << 20, noise(2, 1 << 20))]);
    folder.ours("convert -O vdi a.raw a.vdi").ok();
    folder.ours("convert -O vdi -o static=on,layout=qemu a.vdi b.vdi").ok();
    folder.ours("convert -S 0 a.vdi full.raw").ok();
    let out = folder.ours("digest a.raw a.vdi b.vdi full.raw").ok().out;
    let mut hashes: Vec<&str> =
        out.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!((hashes.len(), hashes[0].len()), (4, 64), "{out}");
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{out}");
    for format in ["raw", "vdi"] {
        let line =
            format!("digest --image-opts driver={format},cache.direct=on,file.filename=a.{format}");
        let direct = folder.ours(&line).ok().out;
        assert!(direct.starts_with(hashes[0]), "{line}: {direct}");
    }

    folder.raw("b.raw", 10 << 20, &[(70_000, noise(1, 200_000)), (9 << 20, noise(3, 1 << 20))]);
    folder.raw(
        "longer.raw",
        11 << 20,
        &[(70_000, noise(1, 200_000)), (9 << 20, noise(2, 1 << 20))],
    );
    let others = folder.ours("digest --output json b.raw longer.raw").ok().json();
    assert_ne!(others[0]["blake3-tree"], hashes[0]);
    assert_ne!(others[1]["blake3-tree"], hashes[0]);
}

#[test]
fn diff_lists_the_ranges_that_differ() {
    let folder = Folder::new();
    let mut data = noise(1, 1 << 20);
    folder.raw("a", 4 << 20, &[(1 << 20, data.clone())]);
    data[5000] ^= 2;
    data[500_000] ^= 2;
    folder.raw("b", 4 << 20, &[(1 << 20, data), (3 << 20, noise(2, 100))]);
    folder.ours("convert -O vdi b b.vdi").ok();
    let found = folder.ours("diff --output json -f raw a b.vdi").fails(1).json();
    let at = |start: u64| json!({"start": start, "length": 4096});
    assert_eq!(found, json!([at((1 << 20) + 4096), at((1 << 20) + 499_712), at(3 << 20)]));
    let human = folder.ours("diff a b.vdi").fails(1).out;
    assert!(human.ends_with("3 ranges differ, 12 KiB in all\n"), "{human}");
    assert_eq!(folder.ours("diff --output json b b.vdi").ok().json(), json!([]));
    let nbd = folder.ours("diff --output nbd a b").fails(1).json();
    let covered: u64 = nbd.as_array().unwrap().iter().map(|e| e["length"].as_u64().unwrap()).sum();
    assert_eq!(covered, 4 << 20, "{nbd}");
    folder.ours("diff a missing").fails(2);
}

/// A base and a child of it that holds two changes and a range of zeros.
fn chain(folder: &Folder) {
    folder.raw("base.raw", 8 << 20, &[(0, noise(1, 5 << 20))]);
    folder.ours("convert -O vdi base.raw base.vdi").ok();
    let mut content = noise(1, 5 << 20);
    content[(1 << 20) + 9000] ^= 2;
    content[3 << 20..(3 << 20) + 65_536].fill(0);
    folder.raw("want.raw", 8 << 20, &[(0, content), (7 << 20, noise(5, 4096))]);
    folder.ours("convert -O vdi -B base.vdi -F vdi want.raw child.vdi").ok();
}

#[test]
fn a_child_holds_only_what_differs_from_its_parent() {
    let folder = Folder::new();
    chain(&folder);
    folder.ours("compare child.vdi want.raw").ok();
    folder.ours("compare base.vdi base.raw").ok();
    let info = folder.ours("info --output=json --backing-chain child.vdi").ok().json();
    assert_eq!(info.as_array().map(Vec::len), Some(2), "{info}");
    assert!(info[0]["full-backing-filename"].as_str().unwrap().ends_with("base.vdi"), "{info}");
    let chain = folder.ours("chain --output=json child.vdi").ok().json();
    assert!(chain[0]["provides"].as_u64().unwrap() <= 3 << 20, "{chain}");
    folder.ours("check child.vdi").ok();
    folder.ours("check base.vdi").ok();
}

#[test]
fn a_commit_moves_the_child_into_its_parent() {
    let folder = Folder::new();
    chain(&folder);
    let said = folder.ours("commit -d child.vdi").ok().out;
    assert_eq!(said, "Image committed.\n");
    folder.ours("compare base.vdi want.raw").ok();
    folder.ours("compare child.vdi want.raw").ok();
    folder.ours("check base.vdi").ok();
    folder.ours("commit base.vdi").fails(1);
    // The child knows its parent as it is since the commit, so nothing has to be warned of.
    let info = folder.ours("info child.vdi").ok();
    assert!(!format!("{info:?}").contains("warning"), "{info:?}");
    folder.ours("info --image-opts driver=vdi,strict=on,file.filename=child.vdi").ok();
    // A parent that somebody else wrote to is warned of, and refused where that is asked for.
    folder.ours("bench -q -w -c 4 -f vdi base.vdi").ok();
    let info = folder.ours("info child.vdi").ok();
    assert!(format!("{info:?}").contains("parent"), "{info:?}");
    folder.ours("info --image-opts driver=vdi,strict=on,file.filename=child.vdi").fails(1);
}

#[test]
fn a_parent_that_grows_in_a_commit_does_not_show_its_own_parent() {
    let folder = Folder::new();
    folder.raw("oldest.raw", 8 << 20, &[(0, noise(7, 8 << 20))]);
    folder.ours("convert -O vdi oldest.raw oldest.vdi").ok();
    folder.ours("create -q -f vdi -b oldest.vdi -F vdi middle.vdi").ok();
    folder.ours("resize -q -f vdi --shrink middle.vdi 2098176").ok();
    folder.ours("create -q -f vdi -b middle.vdi -F vdi child.vdi").ok();
    folder.ours("resize -q -f vdi child.vdi 6M").ok();
    folder.ours("convert -O raw child.vdi want.raw").ok();
    let want = std::fs::read(folder.file("want.raw")).unwrap();
    assert!(want[2_098_176..].iter().all(|byte| *byte == 0), "what a child gains is zeros");
    assert!(want[..2_098_176] == noise(7, 8 << 20)[..2_098_176]);
    folder.ours("commit -d child.vdi").ok();
    for image in ["middle.vdi", "child.vdi"] {
        folder.ours(&format!("compare {image} want.raw")).ok();
        folder.ours(&format!("check {image}")).ok();
    }
}

#[test]
fn a_machine_file_says_where_the_parents_lie() {
    let folder = Folder::new();
    chain(&folder);
    for (from, to) in [("disks", "base.vdi"), ("snapshots", "child.vdi")] {
        std::fs::create_dir(folder.file(from)).unwrap();
        std::fs::rename(folder.file(to), folder.file(&format!("{from}/{to}"))).unwrap();
    }
    let machine = |registered: &str| {
        let text = format!(
            "<VirtualBox><Machine><MediaRegistry><HardDisks>{registered}</HardDisks>\
             </MediaRegistry></Machine></VirtualBox>"
        );
        std::fs::write(folder.file("machine.vbox"), text).unwrap();
    };
    let disk = |location: &str| {
        let info = folder.ours("info --output=json disks/base.vdi").ok().json();
        let uuid = info["format-specific"]["data"]["uuid"].as_str().unwrap().to_owned();
        format!("<HardDisk uuid=\"{{{uuid}}}\" location=\"{location}\" format=\"VDI\"/>")
    };
    folder.ours("compare snapshots/child.vdi want.raw").fails(2);
    machine(&disk("disks/base.vdi"));
    folder.ours("compare --vbox machine.vbox snapshots/child.vdi want.raw").ok();
    let nodes = folder.ours("chain --vbox machine.vbox --output=json snapshots/child.vdi").ok();
    assert_eq!(nodes.json().as_array().map(Vec::len), Some(2), "{nodes:?}");
    // A file that is not the parent, a missing one and a text that bites change nothing.
    for registered in [disk("want.raw"), disk("disks/none.vdi"), String::new()] {
        machine(&registered);
        folder.ours("compare --vbox machine.vbox snapshots/child.vdi want.raw").fails(2);
    }
    std::fs::write(folder.file("machine.vbox"), "<!DOCTYPE a [<!ENTITY b \"c\">]><VirtualBox/>")
        .unwrap();
    let refused = folder.ours("info --vbox machine.vbox snapshots/child.vdi").fails(1);
    assert!(refused.err.contains("machine.vbox"), "{refused:?}");
}

#[test]
fn a_rebased_child_reads_the_same_over_another_parent() {
    let folder = Folder::new();
    chain(&folder);
    folder.raw("other.raw", 8 << 20, &[(2 << 20, noise(9, 3 << 20))]);
    folder.ours("convert -O vdi other.raw other.vdi").ok();
    folder.ours("rebase -b other.vdi -F vdi child.vdi").ok();
    let chain = folder.ours("chain --output=json child.vdi").ok().json();
    assert!(chain[1]["filename"].as_str().unwrap().ends_with("other.vdi"), "{chain}");
    folder.ours("compare child.vdi want.raw").ok();
    folder.ours_with(&["rebase", "-b", "", "child.vdi"]).ok();
    std::fs::remove_file(folder.file("other.vdi")).unwrap();
    std::fs::remove_file(folder.file("base.vdi")).unwrap();
    folder.ours("compare child.vdi want.raw").ok();
    folder.ours("check child.vdi").ok();
}

#[test]
fn compacting_gives_zeros_back_and_keeps_the_content() {
    let folder = Folder::new();
    folder.raw("a.raw", 16 << 20, &[(0, noise(1, 12 << 20))]);
    folder.ours("convert -O vdi a.raw a.vdi").ok();
    folder.raw("b.raw", 16 << 20, &[(10 << 20, noise(2, 1 << 20))]);
    folder.ours("convert -n -O vdi -S 0 b.raw a.vdi").ok();
    let before = std::fs::metadata(folder.file("a.vdi")).unwrap().len();
    let report = folder.ours("compact --output json a.vdi").ok().json();
    let after = std::fs::metadata(folder.file("a.vdi")).unwrap().len();
    assert_eq!(report["bytes_before"], before, "{report}");
    assert_eq!(report["bytes_after"], after, "{report}");
    assert!(after < before && after < 4 << 20, "{report}");
    folder.ours("compare a.vdi b.raw").ok();
    folder.ours("check a.vdi").ok();
    folder.ours("compact a.raw").fails(1);
}

#[test]
fn probe_and_inspect_name_a_file_and_judge_it() {
    let folder = Folder::new();
    folder.ours("create -q -f vdi a.vdi 1M").ok();
    let report = folder.ours("probe --output=json a.vdi").ok().json();
    assert_eq!(report["selected"], "vdi");
    assert!(report["candidates"].as_array().unwrap().len() >= 2, "{report}");
    assert!(folder.ours("probe a.vdi").ok().out.contains("verdict: vdi"));
    folder.ours("inspect a.vdi").ok();
    // A QEMU copy-on-write header that contradicts itself.
    let mut qcow2 = b"QFI\xfb\0\0\0\x03".to_vec();
    qcow2.resize(65_536, 0);
    folder.raw("b", 65_536, &[(0, qcow2)]);
    let report = folder.ours("inspect --output=json b").fails(2).json();
    assert_eq!((&report["format"], &report["verdict"]), (&json!("qcow2"), &json!("refuse")));
    folder.ours("info b").fails(1);
}

#[test]
fn a_mistyped_file_name_is_answered_with_the_nearest_one() {
    let folder = Folder::new();
    folder.raw("debian-12.raw", 512, &[]);
    let said = folder.ours("info debian-13.raw").fails(1).err;
    assert!(said.ends_with("hint: did you mean 'debian-12.raw'?\n"), "{said}");
    let said = folder.ours("info nothing-like-it").fails(1).err;
    assert!(!said.contains("hint"), "{said}");
}

#[test]
fn a_verified_copy_is_read_back() {
    let folder = Folder::new();
    folder.raw("a.raw", (9 << 20) + 512, &[(12_345, noise(1, 5 << 20))]);
    folder.raw("b.raw", 1536, &[(0, noise(2, 1000))]);
    folder.ours("convert --verify -O vdi b.raw a.raw b.raw c.vdi").ok();
    folder.ours("convert --verify -m 1 -S 0 c.vdi d.raw").ok();
    folder.ours("compare c.vdi d.raw").ok();
}

/// Three images, each with a mebibyte of its own, the last two on the one before.
fn three(folder: &Folder) {
    folder.raw("want.raw", 8 << 20, &[(0, noise(1, 3 << 20))]);
    folder.ours("create -q -f vdi a.vdi 8M").ok();
    for (name, parent, at) in [("a", None, 0), ("b", Some("a"), 1), ("c", Some("b"), 2)] {
        if let Some(parent) = parent {
            folder.ours(&format!("create -q -f vdi -b {parent}.vdi {name}.vdi")).ok();
        }
        let data = noise(1, 3 << 20)[..(at + 1) << 20].to_vec();
        folder.raw("part.raw", 8 << 20, &[(0, data)]);
        folder.ours(&format!("convert -n -O vdi part.raw {name}.vdi")).ok();
    }
}

#[test]
fn a_commit_reaches_a_parent_further_down() {
    let folder = Folder::new();
    three(&folder);
    let c = std::fs::read(folder.file("c.vdi")).unwrap();
    let said = folder.ours("commit -b missing.vdi c.vdi").fails(1).err;
    assert!(said.contains("Did not find 'missing.vdi' in the backing chain of 'c.vdi'"), "{said}");
    folder.ours("commit -q -b a.vdi c.vdi").ok();
    // The header says which content of the parent the child goes with.
    let now = std::fs::read(folder.file("c.vdi")).unwrap();
    assert!(c[512..] == now[512..], "the child keeps its data");
    for image in ["a.vdi", "b.vdi", "c.vdi"] {
        folder.ours(&format!("compare {image} want.raw")).ok();
        folder.ours(&format!("check -q {image}")).ok();
    }
}

#[test]
fn a_commit_keeps_to_its_rate() {
    let folder = Folder::new();
    three(&folder);
    let begun = std::time::Instant::now();
    // The child has three mebibytes of its own.
    folder.ours("commit -q -d -r 6M c.vdi").ok();
    let took = begun.elapsed();
    assert!(took >= std::time::Duration::from_millis(490), "{took:?}");
    folder.ours("compare b.vdi want.raw").ok();
}

#[test]
fn a_child_whose_parent_is_gone_gets_another_one() {
    let folder = Folder::new();
    three(&folder);
    folder.ours("convert -O raw b.vdi b.raw").ok();
    // Where nobody looks for it.
    std::fs::create_dir(folder.file("away")).unwrap();
    std::fs::rename(folder.file("a.vdi"), folder.file("away/a.vdi")).unwrap();
    folder.ours("info b.vdi").fails(1);
    let said = folder.ours("rebase -b away/a.vdi -F vdi b.vdi").fails(1).err;
    assert!(said.contains("Could not open 'b.vdi'"), "{said}");
    // The same content under another identity.
    folder.ours("amend -f vdi -o uuid=11111111-2222-4333-8444-555555555555 away/a.vdi").ok();
    std::fs::rename(folder.file("away/a.vdi"), folder.file("other.vdi")).unwrap();
    folder.ours("info b.vdi").fails(1);
    folder.ours("rebase -u -b other.vdi -F vdi b.vdi").ok();
    folder.ours("compare b.vdi b.raw").ok();
    folder.ours("check -q b.vdi").ok();
}

#[test]
fn an_interrupted_commit_leaves_everything_readable() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = Folder::new();
    three(&folder);
    let mut command = folder.command(&["commit", "-d", "--progress=json", "-r", "1M", "c.vdi"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first one comes before anybody listens to signals, the second one while it works.
    lines.by_ref().take(2).for_each(|line| drop(line.unwrap()));
    let begun = std::time::Instant::now();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < std::time::Duration::from_millis(1900), "{:?}", begun.elapsed());
    folder.ours("compare c.vdi want.raw").ok();
    folder.ours("check -q b.vdi").ok();
    folder.ours("commit -q c.vdi").ok();
    folder.ours("compare b.vdi want.raw").ok();
}
