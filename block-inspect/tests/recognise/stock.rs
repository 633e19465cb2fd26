//! Files created by other programs. If a program is missing, its rows are skipped visibly, or fail where oracles are
//! required.

use crate::images::Image;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program in a directory. Returns `false` if it is not installed.
fn run(dir: &Path, program: &str, args: &[&str]) -> bool {
    let mut paths = std::env::var_os("PATH").unwrap_or_default();
    paths.push(":/usr/sbin:/sbin");
    let done = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("PATH", paths)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) => {
            assert!(status.success(), "{program} {args:?}");
            true
        }
        Err(_) => {
            assert!(
                std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none_or(|v| v.is_empty() || v == "0"),
                "{program} is required and not installed"
            );
            eprintln!("SKIPPED: {program} is not installed");
            false
        }
    }
}

fn load(dir: &Path, name: &str) -> Image {
    Image(std::fs::read(dir.join(name)).unwrap())
}

#[test]
fn images_made_by_qemu_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let rows: &[(&str, &str, &str, &str, u8)] = &[
        ("a.qcow", "qcow", "", "qcow1", 90),
        ("a.qcow2", "qcow2", "compat=0.10", "qcow2", 90),
        ("b.qcow2", "qcow2", "compat=1.1", "qcow2", 95),
        ("c.qcow2", "qcow2", "compression_type=zstd", "qcow2", 95),
        ("d.qcow2", "qcow2", "extended_l2=on", "qcow2", 95),
        ("e.qcow2", "qcow2", "lazy_refcounts=on", "qcow2", 95),
        ("f.qcow2", "qcow2", "cluster_size=2M", "qcow2", 95),
        ("g.qcow2", "qcow2", "cluster_size=512,preallocation=metadata", "qcow2", 95),
        ("h.qcow2", "qcow2", "data_file=h.raw", "qcow2", 95),
        ("a.qed", "qed", "", "qed", 90),
        ("a.vdi", "vdi", "", "vdi", 95),
        ("b.vdi", "vdi", "static=on", "vdi", 95),
        ("a.vpc", "vpc", "", "vhd", 100),
        ("b.vpc", "vpc", "subformat=fixed", "vhd-fixed", 95),
        ("c.vpc", "vpc", "subformat=fixed,force_size=on", "vhd-fixed", 95),
        ("a.vhdx", "vhdx", "", "vhdx", 100),
        ("b.vhdx", "vhdx", "subformat=fixed", "vhdx", 100),
        ("a.vmdk", "vmdk", "", "vmdk", 95),
        ("b.vmdk", "vmdk", "subformat=streamOptimized", "vmdk-stream", 97),
        ("c.vmdk", "vmdk", "subformat=monolithicFlat", "vmdk-descriptor", 90),
        ("d.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse", "vmdk-descriptor", 90),
        ("a.hdd", "parallels", "", "parallels", 95),
        ("a.raw", "raw", "", "raw", 1),
    ];
    for (file, format, options, id, score) in rows {
        let mut args = vec!["create", "-q", "-f", format];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend([*file, "4M"]);
        if !run(dir.path(), "qemu-img", &args) {
            return;
        }
        let image = load(dir.path(), file);
        let report = image.report();
        assert_eq!(image.named(), ((*id).to_owned(), *score), "{file}: {}", report.explain());
        let slack = report.selected().unwrap().evidence.iter().find(|e| e.code == "slack");
        assert_eq!(slack, None, "{file}");
    }
    let secret = "secret,id=s,data=abc";
    let luks = [
        "create",
        "-q",
        "--object",
        secret,
        "-f",
        "luks",
        "-o",
        "key-secret=s,iter-time=10",
        "a.luks",
        "4M",
    ];
    run(dir.path(), "qemu-img", &luks);
    assert_eq!(load(dir.path(), "a.luks").named(), ("luks1".to_owned(), 95));
}

#[test]
fn file_systems_and_streams_made_by_the_system_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let disk = |name: &str| std::fs::write(dir.path().join(name), vec![0; 8 << 20]).unwrap();
    disk("ext4");
    if run(dir.path(), "mkfs.ext4", &["-q", "-F", "ext4"]) {
        let image = load(dir.path(), "ext4");
        assert_eq!((image.named().0, image.hint("ext")), ("raw".to_owned(), Some(80)));
    }
    disk("swap");
    if run(dir.path(), "mkswap", &["swap"]) {
        assert_eq!(load(dir.path(), "swap").hint("swap"), Some(70));
    }
    for (tool, args, file, id) in [
        ("gzip", &["-k", "text"][..], "text.gz", "gzip"),
        ("xz", &["-k", "text"], "text.xz", "xz"),
        ("zstd", &["-q", "text"], "text.zst", "zstd"),
        ("bzip2", &["-k", "text"], "text.bz2", "bzip2"),
        ("lz4", &["-q", "text", "text.lz4"], "text.lz4", "lz4"),
        ("zip", &["-q", "text.zip", "text"], "text.zip", "zip"),
        ("tar", &["cf", "text.tar", "text"], "text.tar", "tar"),
    ] {
        std::fs::write(dir.path().join("text"), "some text\n".repeat(1000)).unwrap();
        if run(dir.path(), tool, args) {
            assert_eq!(load(dir.path(), file).named().0, id, "{tool}");
        }
    }
}
