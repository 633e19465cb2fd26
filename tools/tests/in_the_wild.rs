//! The command lines that other programs give to `qemu-img`, given to it and to us: the same files, the same answers.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};

use common::{Folder, Ran, assert_shared_fields_equal, noise, oracles};

/// Two folders with the same images: in one the stock program runs, in the other ours, under its name.
struct Both {
    ours: Folder,
    theirs: Folder,
}

impl Both {
    /// `None` where the stock program is missing.
    fn new() -> Option<Self> {
        if !oracles() {
            return None;
        }
        let both = Self { ours: Folder::new(), theirs: Folder::new() };
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_block-img"), both.ours.file("qemu-img"))
            .unwrap();
        for folder in [&both.ours, &both.theirs] {
            let content = [(0, noise(1, 70_000)), ((3 << 20) + 512, noise(2, 1 << 20))];
            folder.raw("disk.raw", 10 << 20, &content);
            folder.theirs("convert -f raw -O vdi disk.raw disk.vdi").ok();
        }
        // One image, not two of the same content.
        fs::copy(both.theirs.file("disk.vdi"), both.ours.file("disk.vdi")).unwrap();
        Some(both)
    }

    /// The same words to both; the status must be the same.
    #[track_caller]
    fn run(&self, args: &[&str]) -> (Ran, Ran) {
        let program = self.ours.file("qemu-img");
        let ours = self.ours.stock(program.to_str().unwrap(), args);
        let theirs = self.theirs.stock("qemu-img", args);
        assert_eq!(ours.status, theirs.status, "{args:?}\n{ours:?}\n{theirs:?}");
        (ours, theirs)
    }

    /// As [`run`](Self::run), and both must succeed with the same words.
    #[track_caller]
    fn same(&self, args: &[&str]) -> String {
        let (ours, theirs) = self.run(args);
        assert_eq!(ours.status, 0, "{ours:?}");
        assert_eq!(ours.out, theirs.out, "{args:?}");
        ours.out
    }

    /// As [`run`](Self::run), and the fields that both answers have must be equal.
    #[track_caller]
    fn same_json(&self, args: &[&str]) -> serde_json::Value {
        let (ours, theirs) = self.run(args);
        assert_shared_fields_equal(&without_place(&ours), &without_place(&theirs), &args.join(" "));
        ours.json()
    }

    /// The disks in these files must hold the same.
    #[track_caller]
    fn same_disk(&self, name: &str) {
        let ours = self.ours.file(name);
        let line = ["compare", ours.to_str().unwrap(), name];
        let ran = self.theirs.stock("qemu-img", &line).ok();
        assert_eq!(ran.out, "Images are identical.\n");
    }
}

/// The space a file takes is the file system's business.
#[track_caller]
fn without_place(ran: &Ran) -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        if let Some(object) = value.as_object_mut() {
            object.remove("actual-size");
            object.values_mut().for_each(strip);
        }
        value.as_array_mut().into_iter().flatten().for_each(strip);
    }
    let mut value = ran.json();
    strip(&mut value);
    value
}

#[test]
fn lima() {
    let Some(both) = Both::new() else { return };
    for file in ["disk.raw", "disk.vdi"] {
        let info = both.same_json(&["info", "--output=json", "--force-share", file]);
        // It wants one child, which has the parent's name and no children.
        assert_eq!(info["children"][0]["info"]["filename"], info["filename"]);
        assert_eq!(info["children"][0]["info"]["children"].as_array().unwrap().len(), 0);
    }
    both.same(&["convert", "-O", "raw", "disk.vdi", "disk.out"]);
    both.same_disk("disk.out");
    both.same(&["resize", "-f", "raw", "disk.out", "42949672960"]);
    assert_eq!(fs::metadata(both.ours.file("disk.out")).unwrap().len(), 40 << 30);
}

#[test]
fn packer() {
    let Some(both) = Both::new() else { return };
    both.same(&["create", "-f", "raw", "packer-disk", "40960M"]);
    both.same(&["create", "-f", "vdi", "packer.vdi", "5120M"]);
    both.same(&["convert", "-O", "vdi", "disk.raw", "converted.vdi"]);
    both.same_disk("converted.vdi");
    both.same(&["resize", "-f", "raw", "disk.raw", "20480K"]);
    both.same_disk("disk.raw");
    let (ours, _) = both.run(&["convert", "-c", "-O", "vdi", "disk.raw", "compressed.vdi"]);
    assert!(ours.err.contains("Compression not supported for this file format"), "{}", ours.err);
}

#[test]
fn packer_retries_on_the_words_about_the_lock() {
    let Some(both) = Both::new() else { return };
    // The stock program holds the image while it waits for its input.
    let image = both.ours.file("disk.vdi");
    let mut holder = std::process::Command::new("qemu-io")
        .args(["-f", "vdi", image.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has read something it has the image open.
    holder.stdin.as_mut().unwrap().write_all(b"read 0 512\n").unwrap();
    let answers = BufReader::new(holder.stdout.take().unwrap()).lines();
    let read = answers.map(Result::unwrap).find(|line| line.contains("read 512/512 bytes"));
    assert!(read.is_some(), "the stock program did not open the image");
    let line = ["convert", "-O", "raw", "disk.vdi", "out.raw"];
    let ran = both.ours.ours_with(&line);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let ran = ran.fails(1);
    assert!(ran.err.contains("Failed to get shared \"write\" lock"), "{}", ran.err);
    assert!(ran.err.contains("Is another process using the image"), "{}", ran.err);
    both.ours.ours_with(&line).ok();
}

#[test]
fn openstack_nova_glance_cinder_ironic() {
    let Some(both) = Both::new() else { return };
    for file in ["disk.raw", "disk.vdi"] {
        // Wrapped in limits, as oslo's processutils does.
        let limits = ["--as=1073741824", "--cpu=30", "env", "LC_ALL=C", "LANG=C"];
        let mut line = limits.to_vec();
        let program = both.ours.file("qemu-img");
        line.extend([program.to_str().unwrap(), "info", "--force-share", "--output=json", file]);
        let ran = both.ours.stock("prlimit", &line).ok();
        let info = both.same_json(&["info", "--force-share", "--output=json", file]);
        assert_eq!(ran.json()["virtual-size"], info["virtual-size"]);
    }
    both.same(&["convert", "-t", "none", "-O", "raw", "-f", "vdi", "disk.vdi", "nova.part"]);
    both.same(&["convert", "-t", "writeback", "-O", "vdi", "-f", "raw", "disk.raw", "ironic.vdi"]);
    both.same(&[
        "convert", "-O", "raw", "-t", "none", "-f", "vdi", "-S", "0", "disk.vdi", "cinder",
    ]);
    for file in ["nova.part", "ironic.vdi", "cinder"] {
        both.same_disk(file);
    }
    both.same(&["resize", "nova.part", "1G"]);
    both.same(&["resize", "-f", "raw", "--shrink", "nova.part", "100M"]);
    assert_eq!(fs::metadata(both.ours.file("nova.part")).unwrap().len(), 100 << 20);
}

#[test]
fn kubevirt() {
    let Some(both) = Both::new() else { return };
    for file in ["disk.raw", "disk.vdi"] {
        let info = both.same_json(&["info", file, "--output", "json"]);
        assert!(info["virtual-size"].is_u64() && info["actual-size"].is_u64());
        assert!(info.get("backing-filename").is_none());
    }
}

#[test]
fn kubevirt_cdi() {
    let Some(both) = Both::new() else { return };
    let line = |options: &[&'static str]| {
        [&["convert", "-t", "writeback", "-p", "-O", "raw"][..], options].concat()
    };
    let told = line(&["disk.vdi", "target.img", "-o", "preallocation=falloc"]);
    let (ours, _) = both.run(&told);
    assert_eq!(ours.status, 0, "{ours:?}");
    // Its expression: \((\d?\d\.\d\d)\/100%\)
    let percents: Vec<f64> = ours
        .out
        .split('\r')
        .filter_map(|part| part.trim().strip_prefix('(')?.strip_suffix("/100%)")?.parse().ok())
        .collect();
    assert!(percents.len() >= 2 && percents.is_sorted(), "{:?}", ours.out);
    assert_eq!((percents.first(), percents.last()), (Some(&0.0), Some(&100.0)));
    both.same_disk("target.img");
    let source = r#"json: {"file.driver": "file", "file.filename": "disk.vdi", "driver": "vdi"}"#;
    let (ours, _) = both.run(&["convert", "-t", "none", "-p", "-O", "raw", source, "other.img"]);
    assert_eq!(ours.status, 0, "{ours:?}");
    both.same_disk("other.img");
    both.same_json(&["info", "--output=json", "disk.vdi"]);
    both.same(&["create", "-f", "raw", "blank.img", "1073741824"]);
    both.same(&["resize", "-f", "raw", "blank.img", "2147483648"]);
    both.same_disk("blank.img");
}

#[test]
fn ovirt_vdsm() {
    let Some(both) = Both::new() else { return };
    for file in ["disk.raw", "disk.vdi"] {
        let format = &file[5..];
        both.same_json(&["info", "--output", "json", "-f", format, "-U", file]);
        both.same_json(&["map", "--output", "json", "-f", format, file]);
        both.same_json(&["measure", "--output", "json", "-O", "raw", "-f", format, file]);
    }
    both.same_json(&["check", "--output", "json", "-f", "vdi", "disk.vdi"]);
    let copy =
        ["convert", "-p", "-t", "none", "-T", "none", "-f", "vdi", "-O", "raw", "-W", "disk.vdi"];
    let (ours, _) = both.run(&[&copy[..], &["volume"]].concat());
    assert!(ours.out.split('\r').any(|part| part == "    (100.00/100%)"), "{:?}", ours.out);
    both.same_disk("volume");
    // Into a volume that is there already.
    both.run(&[&copy[..11], &["-n", "disk.vdi", "volume"]].concat());
    both.same_disk("volume");
    let (ours, theirs) = both.run(&["compare", "-p", "-s", "volume", "volume"]);
    assert!(ours.out.trim_end().ends_with("Images are identical."), "{ours:?} {theirs:?}");
    let source = r#"json:{"driver":"vdi","file":{"driver":"file","filename":"disk.vdi"}}"#;
    both.same_json(&["measure", "--output", "json", "-O", "raw", source]);
    // What belongs to images with parents and bitmaps is refused, as there.
    for line in [
        &["commit", "-p", "-t", "none", "-d", "-f", "raw", "disk.raw"][..],
        &["rebase", "-u", "-b", "volume", "-F", "raw", "-f", "raw", "disk.raw"],
        &["amend", "-f", "raw", "-o", "compat=1.1", "disk.raw"],
        &["bitmap", "--add", "--enable", "disk.vdi", "bits"],
    ] {
        let (ours, theirs) = both.run(line);
        assert!(ours.status == 1 && !ours.err.is_empty(), "{ours:?} {theirs:?}");
    }
}

#[test]
fn cloudstack() {
    let Some(both) = Both::new() else { return };
    assert_eq!(both.same(&["snapshot", "-l", "disk.vdi"]), "");
    // It decides by the first two numbers of the version.
    let (ours, theirs) = both.run(&["--version"]);
    let numbers = |text: &str| {
        let rest = text.strip_prefix("qemu-img version ").expect(text).to_owned();
        rest.split(['.', ' ', '\n']).take(2).map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&ours.out), numbers(&theirs.out));
    both.same(&["create", "-f", "raw", "target.raw", "10485760"]);
    both.same(&[
        "convert",
        "-n",
        "--target-is-zero",
        "-W",
        "-S",
        "1M",
        "-O",
        "raw",
        "-U",
        "--image-opts",
        "driver=vdi,file.filename=disk.vdi",
        "target.raw",
    ]);
    both.same_disk("target.raw");
    // It reads the human answer line by line, up to the first colon.
    let (ours, theirs) = both.run(&["info", "-U", "disk.vdi"]);
    let fields = |text: &str| -> Vec<(String, String)> {
        let wanted = ["image", "file format", "virtual size", "cluster_size"];
        let fields = text.lines().filter_map(|line| line.split_once(": "));
        let fields = fields.filter(|(name, _)| wanted.contains(name));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(fields(&ours.out), fields(&theirs.out));
    assert_eq!(fields(&ours.out).len(), 4);
    for (option, what) in [("-c", "create"), ("-d", "delete")] {
        let (ours, _) = both.run(&["snapshot", option, "before", "disk.raw"]);
        assert!(ours.err.contains(&format!("Could not {what} snapshot 'before'")), "{}", ours.err);
    }
    both.run(&["rebase", "-u", "-b", "target.raw", "-F", "raw", "disk.raw"]);
    both.same(&["resize", "disk.raw", "20971520"]);
}

#[test]
fn libvirt() {
    let Some(both) = Both::new() else { return };
    both.same(&["create", "-f", "raw", "volume.raw", "10240K"]);
    both.same(&["create", "-f", "vdi", "volume.vdi", "10240K"]);
    both.same(&["convert", "-f", "raw", "-O", "vdi", "disk.raw", "volume.vdi"]);
    both.same_disk("volume.vdi");
    both.same(&[
        "convert",
        "-f",
        "vdi",
        "-O",
        "raw",
        "-o",
        "preallocation=falloc",
        "disk.vdi",
        "volume.raw",
    ]);
    both.same_disk("volume.raw");
    both.same(&[
        "convert",
        "--image-opts",
        "-n",
        "--target-image-opts",
        "driver=vdi,file.driver=file,file.filename=disk.vdi",
        "driver=raw,file.driver=file,file.filename=volume.raw",
    ]);
    both.same_disk("volume.raw");
    // It reads the help to learn what there is.
    let help = both.run(&["--help"]).0.out;
    for word in ["create", "convert", "info", "resize", "raw", "vdi"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn multipass() {
    let Some(both) = Both::new() else { return };
    both.same(&["resize", "disk.raw", "5368709120"]);
    both.same_json(&["info", "--output=json", "disk.raw"]);
    assert_eq!(both.same(&["snapshot", "-l", "disk.raw"]), "");
    for option in ["-c", "-a", "-d"] {
        let (ours, _) = both.run(&["snapshot", option, "base", "disk.raw"]);
        assert!(ours.status == 1 && ours.err.contains("'base'"), "{ours:?}");
    }
    let (ours, _) = both.run(&["convert", "-p", "-O", "raw", "disk.vdi", "instance.img"]);
    assert_eq!(ours.status, 0, "{ours:?}");
    both.same_disk("instance.img");
}

#[test]
fn scripts_and_continuous_integration() {
    let Some(both) = Both::new() else { return };
    both.same(&["convert", "-f", "vdi", "-O", "raw", "disk.vdi", "a.raw"]);
    both.same(&["convert", "-O", "vdi", "disk.raw", "b.vdi"]);
    both.same(&["create", "-f", "raw", "c.raw", "1G"]);
    both.same(&["resize", "-f", "raw", "c.raw", "+10G"]);
    for file in ["a.raw", "b.vdi", "c.raw"] {
        both.same_disk(file);
    }
    // info F | awk '/file format:/ {print $3}' and the bytes of the virtual size.
    let awk = |ran: &Ran| {
        let line =
            |start: &str| ran.out.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        (line("file format:"), line("virtual size:"))
    };
    let (ours, theirs) = both.run(&["info", "disk.vdi"]);
    assert_eq!(awk(&ours), awk(&theirs));
    assert_eq!(awk(&ours).1, "virtual size: 10 MiB (10485760 bytes)");
    let (ours, _) = both.run(&["check", "disk.vdi"]);
    assert!(ours.out.contains("No errors were found on the image."), "{}", ours.out);
}

#[test]
fn a_format_without_a_driver_is_refused_by_name() {
    let Some(both) = Both::new() else { return };
    both.theirs.theirs("create -q -f qcow2 base.qcow2 1G").ok();
    fs::copy(both.theirs.file("base.qcow2"), both.ours.file("base.qcow2")).unwrap();
    for line in [
        &["create", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", "over.qcow2"][..],
        &["convert", "-O", "qcow2", "disk.vdi", "out.qcow2"],
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            "preallocation=falloc,compat=0.10",
            "disk.raw",
            "out.qcow2",
        ],
        &["convert", "-p", "-O", "qcow2", "disk.raw", "out.qcow2"],
    ] {
        let ran = both.ours.ours_with(line).fails(1);
        assert!(ran.err.contains("Unknown file format 'qcow2'"), "{line:?}: {}", ran.err);
        assert!(both.ours.leftovers().is_empty());
        assert!(!both.ours.file("out.qcow2").exists() && !both.ours.file("over.qcow2").exists());
    }
    for (options, format) in
        [("subformat=fixed,force_size", "vpc"), ("subformat=streamOptimized", "vmdk")]
    {
        let line = ["convert", "-f", "raw", "-o", options, "-O", format, "disk.raw", "out"];
        let ran = both.ours.ours_with(&line).fails(1);
        assert!(ran.err.contains(&format!("Unknown file format '{format}'")), "{}", ran.err);
    }
    for line in [
        &["info", "--output=json", "base.qcow2"][..],
        &["convert", "-f", "qcow2", "-O", "raw", "base.qcow2", "out.raw"],
        &["convert", "-O", "raw", "base.qcow2", "out.raw"],
        &["resize", "base.qcow2", "+10G"],
    ] {
        let ran = both.ours.ours_with(line).fails(1);
        assert!(ran.err.contains("qcow2"), "{line:?}: {}", ran.err);
        assert!(!both.ours.file("out.raw").exists());
    }
}
