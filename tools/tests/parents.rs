//! The parent is the image that a child means, whatever its file is called and whatever lies beside it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use common::Folder;

const SIZE: usize = 4 << 20;

/// `disk.vdi` is full of `A`; `child.vdi` is its child, with a `C` in front.
fn family() -> Folder {
    let folder = Folder::new();
    fs::write(folder.file("a.raw"), vec![b'A'; SIZE]).unwrap();
    fs::write(folder.file("b.raw"), vec![b'B'; SIZE]).unwrap();
    folder.ours("convert -f raw -O vdi a.raw disk.vdi").ok();
    folder.ours("create -q -f vdi -b disk.vdi -F vdi child.vdi").ok();
    let mut shown = vec![b'A'; SIZE];
    shown[..512].fill(b'C');
    fs::write(folder.file("c.raw"), &shown).unwrap();
    folder.ours("convert -n -f raw -O vdi --allow . c.raw child.vdi").ok();
    fs::write(folder.file("shown.raw"), shown).unwrap();
    folder
}

/// A copy with the UUID of `disk.vdi`, written to since: it is full of `B`.
fn stale_copy(folder: &Folder, name: &str) {
    fs::copy(folder.file("disk.vdi"), folder.file(name)).unwrap();
    folder.ours_with(&["convert", "-n", "-f", "raw", "-O", "vdi", "b.raw", name]).ok();
    let stamp = "modification_uuid=11111111-2222-3333-4444-555555555555";
    folder.ours_with(&["amend", "-q", "-o", stamp, name]).ok();
}

fn bytes(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.file(name)).unwrap()
}

/// Asserts that the child reads as it should.
#[track_caller]
fn reads(folder: &Folder, more: &[&str]) {
    let line = [&["convert", "-O", "raw"], more, &["child.vdi", "out.raw"]].concat();
    let ran = folder.ours_with(&line).ok();
    assert!(bytes(folder, "out.raw") == bytes(folder, "shown.raw"), "{ran:?}");
}

#[test]
fn a_stale_copy_beside_the_parent_is_neither_read_nor_written() {
    for copy in ["disk - Copy.vdi", "a.vdi", "z.vdi", "disk.vdi.bak", "copy"] {
        let folder = family();
        stale_copy(&folder, copy);
        let before = bytes(&folder, copy);
        reads(&folder, &[]);
        folder.ours("commit -q child.vdi").ok();
        assert!(bytes(&folder, copy) == before, "the copy {copy:?} was written into");
        folder.ours("convert -O raw disk.vdi out.raw").ok();
        assert!(bytes(&folder, "out.raw") == bytes(&folder, "shown.raw"));
    }
}

#[test]
fn an_identical_copy_beside_the_parent_is_told_and_nothing_is_read_or_written() {
    for copy in ["a.vdi", "z.vdi"] {
        let folder = family();
        fs::copy(folder.file("disk.vdi"), folder.file(copy)).unwrap();
        let files = ["disk.vdi", copy, "child.vdi"];
        let before: Vec<_> = files.iter().map(|name| bytes(&folder, name)).collect();
        for line in [
            "convert -O raw child.vdi out.raw",
            "commit -q child.vdi",
            "commit -q -d child.vdi",
            "info child.vdi",
            "chain child.vdi",
            "rebase -b  child.vdi",
        ] {
            let mut words: Vec<&str> = line.split(' ').collect();
            words.retain(|word| !word.is_empty() || line.starts_with("rebase"));
            let ran = folder.ours_with(&words).fails(1);
            for name in ["2 files can be the parent", "disk.vdi", copy, "--parent FILE"] {
                assert!(ran.err.contains(name), "{line}: {}", ran.err);
            }
        }
        let after: Vec<_> = files.iter().map(|name| bytes(&folder, name)).collect();
        assert!(before == after);
        reads(&folder, &["--parent", "disk.vdi"]);
        reads(&folder, &["--parent", copy]);
        folder.ours_with(&["commit", "-q", "--parent", copy, "child.vdi"]).ok();
        assert!(bytes(&folder, "disk.vdi") == before[0]);
        folder.ours_with(&["convert", "-O", "raw", copy, "out.raw"]).ok();
        assert!(bytes(&folder, "out.raw") == bytes(&folder, "shown.raw"));
    }
}

#[test]
fn a_parent_that_was_written_to_is_read_with_a_warning_and_written_into_only_when_named() {
    let folder = family();
    let stamp = "modification_uuid=11111111-2222-3333-4444-555555555555";
    folder.ours_with(&["amend", "-q", "-o", stamp, "disk.vdi"]).ok();
    let before = (bytes(&folder, "disk.vdi"), bytes(&folder, "child.vdi"));
    reads(&folder, &[]);
    assert!(folder.ours("info child.vdi").ok().err.contains("warning"));
    for line in ["commit -q child.vdi", "commit -q -b disk.vdi child.vdi"] {
        let ran = folder.ours(line);
        match line.contains("-b") {
            // The caller's word.
            true => drop(ran.ok()),
            false => {
                let ran = ran.fails(1);
                assert!(ran.err.contains("modification UUID is 11111111-2222"), "{}", ran.err);
                assert!(ran.err.contains("--parent FILE"), "{}", ran.err);
                assert!(before == (bytes(&folder, "disk.vdi"), bytes(&folder, "child.vdi")));
            }
        }
    }
    let folder = family();
    folder.ours_with(&["amend", "-q", "-o", stamp, "disk.vdi"]).ok();
    folder.ours("commit -q --parent disk.vdi child.vdi").ok();
    folder.ours("convert -O raw disk.vdi out.raw").ok();
    assert!(bytes(&folder, "out.raw") == bytes(&folder, "shown.raw"));
}

#[test]
fn a_commit_over_several_images_writes_nothing_unless_each_is_the_one_that_is_meant() {
    let folder = family();
    folder.ours("create -q -f vdi -b child.vdi -F vdi top.vdi").ok();
    folder.ours("convert -n -f raw -O vdi b.raw top.vdi").ok();
    let stamp = "modification_uuid=11111111-2222-3333-4444-555555555555";
    fs::copy(folder.file("child.vdi"), folder.file("child.bak")).unwrap();
    // The middle one is not as the top one knew it; the base is named.
    folder.ours_with(&["amend", "-q", "-o", stamp, "child.vdi"]).ok();
    fs::remove_file(folder.file("child.bak")).unwrap();
    let files = ["top.vdi", "child.vdi", "disk.vdi"];
    let before: Vec<_> = files.iter().map(|name| bytes(&folder, name)).collect();
    let ran = folder.ours("commit -q -b disk.vdi top.vdi").fails(1);
    assert!(ran.err.contains("--parent FILE"), "{}", ran.err);
    let after: Vec<_> = files.iter().map(|name| bytes(&folder, name)).collect();
    assert!(before == after);
    folder.ours("commit -q -b disk.vdi --parent child.vdi top.vdi").ok();
    folder.ours("convert -O raw disk.vdi out.raw").ok();
    assert!(bytes(&folder, "out.raw") == bytes(&folder, "b.raw"));
}

#[test]
fn a_middle_image_without_its_parent_tells_what_names_one() {
    let folder = family();
    folder.ours("create -q -f vdi -b child.vdi -F vdi top.vdi").ok();
    fs::create_dir(folder.file("other")).unwrap();
    fs::rename(folder.file("disk.vdi"), folder.file("other/disk.vdi")).unwrap();
    for image in ["child.vdi", "top.vdi"] {
        let ran = folder.ours(&format!("info {image}")).fails(1);
        for word in ["--parent FILE", "--allow DIR", "--vbox FILE"] {
            assert!(ran.err.contains(word), "{}", ran.err);
        }
    }
    folder.ours("info --allow other top.vdi").ok();
    folder.ours("info --parent other/disk.vdi top.vdi").ok();
    // Two images miss or have two parents in the middle, as at the top.
    fs::copy(folder.file("other/disk.vdi"), folder.file("other/copy.vdi")).unwrap();
    let ran = folder.ours("info --allow other top.vdi").fails(1);
    assert!(ran.err.contains("2 files can be the parent"), "{}", ran.err);
}

#[test]
fn a_parent_is_found_under_any_name() {
    let folder = family();
    for name in [&b"base.img"[..], b"base", b"disk.vmdk", b"no text \xe9\xff.vdi", b"a\nb"] {
        let name = folder.path().join(OsStr::from_bytes(name));
        fs::rename(folder.file("disk.vdi"), &name).unwrap();
        reads(&folder, &[]);
        folder.ours("check child.vdi").ok();
        fs::rename(&name, folder.file("disk.vdi")).unwrap();
    }
}

#[test]
fn a_check_without_the_parent_says_so_and_ends_as_before() {
    let folder = family();
    let code = "[vdi.child.unchecked]";
    let sound = folder.ours("check child.vdi").ok();
    assert!(!sound.err.contains(code), "{}", sound.err);
    fs::remove_file(folder.file("disk.vdi")).unwrap();
    let ran = folder.ours("check child.vdi").ok();
    let note = "note: the child is not checked against its parent: ";
    let told = ran.err.lines().find(|line| line.contains(code)).unwrap_or_default();
    assert!(told.contains(note) && told.len() > note.len() + code.len() + 10, "{}", ran.err);
    assert_eq!(ran.out, sound.out);
    let ran = folder.ours("check --output=json child.vdi").ok();
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "vdi.child.unchecked").unwrap();
    assert_eq!((&found["severity"], &found["fixed"]), (&"cosmetic".into(), &false.into()));
    assert!(found["message"].as_str().unwrap().starts_with("the child is not checked"), "{found}");
}

#[test]
fn a_parent_among_30000_files_is_found_at_once() {
    let folder = family();
    for number in 0..30_000 {
        fs::File::create(folder.file(&format!("{number}"))).unwrap();
    }
    let begun = Instant::now();
    let ran = folder.ours("info child.vdi").ok();
    let took = begun.elapsed();
    assert_eq!(ran.err, "");
    println!("found among 30,000 files in {took:?}");
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 }), "{took:?}");
    reads(&folder, &[]);
}

#[test]
fn pipes_and_links_beside_a_child_are_not_opened() {
    let folder = family();
    folder.stock("mkfifo", &["0.vdi"]).ok();
    std::os::unix::fs::symlink("/dev/zero", folder.file("1.vdi")).unwrap();
    std::os::unix::fs::symlink("disk.vdi", folder.file("2.vdi")).unwrap();
    // A hard link is the same file under another name.
    fs::hard_link(folder.file("disk.vdi"), folder.file("3.vdi")).unwrap();
    reads(&folder, &[]);
    folder.ours("commit -q child.vdi").ok();
}

#[test]
fn a_pipe_or_a_device_is_no_machine_file() {
    let folder = family();
    folder.stock("mkfifo", &["m.vbox"]).ok();
    for machine in ["m.vbox", "/dev/zero", "/dev/tty", "."] {
        let begun = Instant::now();
        let ran = folder.ours_with(&["info", "--vbox", machine, "child.vdi"]).fails(1);
        assert!(ran.err.contains("Could not read the machine file"), "{machine}: {}", ran.err);
        assert!(begun.elapsed() < Duration::from_secs(2), "{machine}");
    }
}

#[test]
fn a_machine_file_registers_parents_of_any_format_and_none_of_them_is_the_callers_word() {
    let folder = family();
    fs::create_dir(folder.file("other")).unwrap();
    fs::rename(folder.file("disk.vdi"), folder.file("other/base.img")).unwrap();
    let disk = |file: &str| {
        format!(
            "<HardDisk uuid='{{1c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a}}' location='{file}' format='VMDK'/>"
        )
    };
    let machine = |disks: &str| {
        fs::write(folder.file("m.vbox"), format!("<r>{disks}</r>")).unwrap();
    };
    machine(&disk("other/base.img"));
    reads(&folder, &["--vbox", "m.vbox"]);
    let stamp = "modification_uuid=11111111-2222-3333-4444-555555555555";
    folder.ours_with(&["amend", "-q", "-o", stamp, "other/base.img"]).ok();
    let ran = folder.ours("commit -q --vbox m.vbox child.vdi").fails(1);
    assert!(ran.err.contains("--parent FILE"), "{}", ran.err);
    fs::copy(folder.file("other/base.img"), folder.file("other/copy")).unwrap();
    machine(&(disk("other/base.img") + &disk("other/copy")));
    let ran = folder.ours("info --vbox m.vbox child.vdi").fails(1);
    assert!(ran.err.contains("2 files can be the parent"), "{}", ran.err);
}

#[test]
fn compacting_keeps_what_children_know_their_parent_by() {
    let folder = family();
    let info = || folder.ours("info --output=json disk.vdi").ok().json();
    let before = info();
    folder.ours("compact -q disk.vdi").ok();
    assert_eq!(folder.ours("info child.vdi").ok().err, "");
    assert_eq!(info()["format-specific"], before["format-specific"]);
    // Also where something is dropped and moved.
    fs::write(folder.file("z.raw"), [vec![0; 1 << 20], vec![b'A'; 1 << 20]].concat()).unwrap();
    folder.ours("convert -S 0 -f raw -O vdi z.raw holes.vdi").ok();
    let len = bytes(&folder, "holes.vdi").len();
    folder.ours("create -q -f vdi -b holes.vdi -F vdi over.vdi").ok();
    folder.ours("compact -q holes.vdi").ok();
    assert!(bytes(&folder, "holes.vdi").len() < len);
    assert_eq!(folder.ours("info over.vdi").ok().err, "");
}

#[test]
fn a_new_identity_is_drawn_where_one_is_asked_for() {
    let folder = family();
    let uuid = || bytes(&folder, "disk.vdi")[0x188..0x198].to_vec();
    let first = uuid();
    folder.ours("amend -q -o uuid=new disk.vdi").ok();
    let second = uuid();
    folder.ours("amend -q -o uuid=new,modification_uuid=new disk.vdi").ok();
    assert!(first != second && second != uuid() && uuid() != [0; 16]);
    folder.ours("info child.vdi").fails(1);
    folder.ours("amend -q -o parent_uuid=new disk.vdi").fails(1);
}

#[test]
fn the_same_conversion_with_the_same_identities_makes_the_same_bytes() {
    let folder = family();
    let identities = "uuid=11111111-2222-3333-4444-555555555555,modification_uuid=11111111-2222-3333-4444-666666666666";
    for more in [&[][..], &["-B", "disk.vdi", "-F", "vdi"]] {
        for name in ["x.vdi", "y.vdi"] {
            let line = [
                &["convert", "-f", "raw", "-O", "vdi", "-o", identities][..],
                more,
                &["c.raw", name],
            ]
            .concat();
            folder.ours_with(&line).ok();
        }
        assert!(bytes(&folder, "x.vdi") == bytes(&folder, "y.vdi"));
        let info = folder.ours("info -U --parent disk.vdi x.vdi").ok();
        assert!(info.out.contains("666666666666"), "{}", info.out);
    }
}

#[test]
fn inspect_refuses_a_file_that_is_shorter_than_its_header_says() {
    let folder = family();
    assert_eq!(folder.ours("inspect disk.vdi").status, 0);
    let whole = bytes(&folder, "disk.vdi");
    for cut in [512, 1 << 20, 2 << 20] {
        fs::write(folder.file("cut.vdi"), &whole[..whole.len() - cut]).unwrap();
        let ran = folder.ours("inspect cut.vdi").fails(2);
        assert!(ran.out.contains("stored blocks end at"), "{}", ran.out);
    }
    // What the last block does not need may be missing.
    fs::write(folder.file("odd.raw"), vec![b'A'; (3 << 20) + 512]).unwrap();
    folder.ours("convert -f raw -O vdi odd.raw odd.vdi").ok();
    let len = bytes(&folder, "odd.vdi").len() as u64;
    let file = fs::OpenOptions::new().write(true).open(folder.file("odd.vdi")).unwrap();
    file.set_len(len - (1 << 20) + 512).unwrap();
    assert_eq!(folder.ours("inspect odd.vdi").status, 0);
    file.set_len(len - (1 << 20)).unwrap();
    folder.ours("inspect odd.vdi").fails(2);
}

#[test]
fn a_disk_of_nothing_is_made_with_a_warning() {
    let folder = Folder::new();
    fs::write(folder.file("e.raw"), "").unwrap();
    let warned = |line: &str| {
        let ran = folder.ours(line).ok();
        assert!(ran.err.contains("VirtualBox refuses a disk of 0 bytes"), "{line}: {}", ran.err);
    };
    warned("create -q -f vdi e.vdi 0");
    warned("convert -f raw -O vdi e.raw f.vdi");
    warned("dd -f raw -O vdi if=e.raw of=g.vdi");
    for name in ["e.vdi", "f.vdi", "g.vdi"] {
        folder.ours(&format!("check -q {name}")).ok();
        folder.ours(&format!("convert -O raw {name} out.raw")).ok();
        assert_eq!(bytes(&folder, "out.raw"), b"");
    }
}

#[test]
fn a_child_of_a_raw_parent_is_made_with_a_warning_and_a_static_image_tells_why_it_is_not_compacted()
{
    let folder = family();
    let ran = folder.ours("create -q -f vdi -b a.raw -F raw r.vdi").ok();
    assert!(ran.err.contains("opens nowhere else"), "{}", ran.err);
    folder.ours("create -q -f vdi -o static=on s.vdi 2M").ok();
    let ran = folder.ours("compact s.vdi").fails(1);
    assert!(ran.err.contains("every block of a fixed image has its place"), "{}", ran.err);
}
