//! `inspect` opens one file, whatever that file names: seen by tracing every system call that takes a path.

mod common;
#[path = "../../block-inspect/tests/images/mod.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod image;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Folder, trace};
use image::*;

fn qcow2_extension(image: Image, id: u32, data: &[u8]) -> Image {
    image.be32(112, id).be32(116, data.len() as u32).put(120, data)
}

fn backed(name: &str) -> Image {
    qcow2().be64(8, 0x300).be32(16, name.len() as u32).put(0x300, name.as_bytes())
}

fn descriptor(extent: &str) -> Image {
    let text = DESCRIPTOR.replace("monolithicSparse", "monolithicFlat");
    Image(text.replace("RW 8192 SPARSE \"disk.vmdk\"", extent).into_bytes())
}

/// Files that name others, under the names they would be handed over with. `target` is a path that leads to a file.
fn hostile(target: &str) -> Vec<(&'static str, Image)> {
    const DATA_FILE: u32 = 0x4441_5441;
    let base = Path::new(target).file_name().unwrap().to_str().unwrap();
    let flat = format!("RW 8192 FLAT \"{target}\" 0");
    let embedded = descriptor(&flat).0;
    let parent = format!("{DESCRIPTOR}parentFileNameHint=\"{target}\"\n");
    let json = format!(
        "json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{target}\"}}}}"
    );
    vec![
        ("flat.vmdk", descriptor(&flat)),
        ("relative.vmdk", descriptor(&format!("RW 8192 SPARSE \"{base}\""))),
        ("above.vmdk", descriptor(&format!("RW 8192 FLAT \"../{base}\" 0"))),
        ("embedded.vmdk", vmdk().le64(0xC, 0).put(512, &[0; 1024]).put(512, &embedded)),
        ("parent.vmdk", vmdk().put(512, &[0; 1024]).put(512, parent.as_bytes())),
        ("backing.qcow2", backed(target)),
        ("relative.qcow2", backed(base)),
        ("json.qcow2", backed(&json)),
        ("protocol.qcow2", backed("nbd://127.0.0.1:10809/x")),
        ("data.qcow2", qcow2_extension(qcow2().put(79, &[4]), DATA_FILE, target.as_bytes())),
        ("raw-data.qcow2", qcow2_extension(qcow2().put(79, &[4]).put(95, &[2]), DATA_FILE, base.as_bytes())),
        ("latent.qcow2", qcow2_extension(qcow2(), DATA_FILE, target.as_bytes())),
        ("backing.qed", qed().le64(16, 1).le32(56, 0x100).le32(60, base.len() as u32).put(0x100, base.as_bytes())),
        ("locators.vhd", vhd_diff(&[(b"W2ku", target), (b"W2ru", base), (b"MacX", "file:///etc/hosts")])),
        (
            "viso",
            Image(
                format!("--iprt-iso-maker-file-marker=01234567-89ab-cdef-0123-456789abcdef\n/x={target}\n")
                    .into_bytes(),
            ),
        ),
        (
            "DiskDescriptor.xml",
            Image(
                format!(
                    "<?xml version=\"1.0\"?><Parallels_disk_image Version=\"1.0\"><StorageData><Storage><Image>\
                     <File>{target}</File></Image></Storage></StorageData></Parallels_disk_image>"
                )
                .into_bytes(),
            ),
        ),
        ("base.cow", Image::zeros(2048).put(0, b"OOOM").be32(4, 2).put(8, target.as_bytes())),
    ]
}

/// What a traced run opened, by its log: the paths of all calls that open, and the whole log.
fn opened(log: &str) -> Vec<String> {
    let calls = ["open(", "openat(", "openat2(", "creat("];
    log.lines()
        .filter(|line| calls.iter().any(|call| line.contains(call)))
        .filter_map(|line| line.split('"').nth(1).map(str::to_owned))
        .collect()
}

/// Runs a command of ours under strace: the exit code and the log.
fn traced(folder: &Folder, words: &[&str]) -> (i32, String) {
    traced_program(folder, env!("CARGO_BIN_EXE_block-img"), words)
}

fn traced_program(folder: &Folder, program: &str, words: &[&str]) -> (i32, String) {
    trace::run(folder, "%file,openat2,socket,connect", program, words)
}

/// What starting a program opens, on any file: the loader, its libraries, what the runtime asks of the system.
fn usual(folder: &Folder) -> BTreeSet<String> {
    fs::write(folder.file("nothing"), []).unwrap();
    let (status, log) = traced(folder, &["inspect", "nothing"]);
    assert_eq!(status, 1, "{log}");
    let opened = opened(&log);
    assert!(opened.iter().any(|path| path == "nothing"), "the trace shows no opening: {log}");
    opened.into_iter().filter(|path| path != "nothing").collect()
}

#[test]
fn one_file_is_opened_whatever_it_names() {
    if !trace::is_possible() {
        return;
    }
    let folder = Folder::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("target-secret");
    fs::write(&secret, [7; 65536]).unwrap();
    fs::write(folder.file("target-secret"), [7; 65536]).unwrap();
    let usual = usual(&folder);
    let target = secret.to_str().unwrap();
    for (name, image) in hostile(target) {
        fs::write(folder.file(name), &image.0).unwrap();
        for words in [&["inspect", name][..], &["inspect", "--deep", "--trusted", name]] {
            let (status, log) = traced(&folder, words);
            let expected = if words.len() == 2 { 2..=2 } else { 1..=2 };
            assert!(expected.contains(&status), "{words:?}: {status}");
            let images: Vec<String> =
                opened(&log).into_iter().filter(|path| !usual.contains(path)).collect();
            assert_eq!(images, [name], "{words:?} opens one file, once");
            // Not even its presence is asked for.
            assert!(!log.contains("target-secret"), "{words:?} names what the file names: {log}");
            assert!(!log.contains("socket(") && !log.contains("connect("), "{words:?}: {log}");
        }
    }
}

/// What is looked for can be seen: stock `qemu-img info` opens what a descriptor names, and the trace tells.
#[test]
fn the_trace_would_show_another_file() {
    if !trace::is_possible() || !common::oracles() {
        return;
    }
    let folder = Folder::new();
    folder.raw("target-secret", 4 << 20, &[]);
    let target = folder.file("target-secret");
    for (name, image) in hostile(target.to_str().unwrap()).into_iter().take(1) {
        fs::write(folder.file(name), &image.0).unwrap();
        let (_, log) = traced_program(&folder, "qemu-img", &["info", name]);
        assert!(opened(&log).iter().any(|path| path.contains("target-secret")), "{name}: {log}");
    }
}

#[test]
fn a_child_made_by_ours_is_told_to_have_a_parent_and_the_parent_is_left_alone() {
    let folder = Folder::new();
    folder.ours("create -q -f vdi target-base.vdi 4M").ok();
    folder.ours("create -q -f vdi -b target-base.vdi -F vdi child.vdi").ok();
    let report = folder.ours("inspect --output=json --policy untrusted child.vdi").fails(2).json();
    let codes: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|f| f["code"].as_str()).collect();
    assert!(codes.contains(&"PARENT"), "{report:#}");
    folder.ours("inspect --policy trusted child.vdi").fails(1);
    folder.ours("inspect --accept PARENT child.vdi").ok();
    if trace::is_possible() {
        let (_, log) = traced(&folder, &["inspect", "--deep", "--accept", "PARENT", "child.vdi"]);
        assert!(opened(&log).iter().any(|path| path == "child.vdi"));
        assert!(!log.contains("target-base"), "{log}");
    }
}
