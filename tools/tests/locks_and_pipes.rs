//! Images that another program has open, and disks on standard input and output.

mod common;

use std::io::{Read, Write};
use std::process::Stdio;

use common::{Folder, noise, oracles};

#[test]
fn an_image_in_use_is_refused_with_the_words_scripts_match() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    folder.ours("create -q -f vdi a.vdi 4M").ok();
    folder.ours("create -q -f raw b.raw 4M").ok();
    let mut holder = std::process::Command::new("qemu-io")
        .args(["-f", "vdi", "a.vdi"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its prompt says that the image is open.
    holder.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    let mut prompt = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut prompt).unwrap();
    for line in ["info a.vdi", "check a.vdi", "map a.vdi", "convert a.vdi c", "compare a.vdi b.raw"]
    {
        let ours = folder.ours(line);
        let theirs = folder.theirs(line);
        assert_eq!(ours.status, theirs.status, "{line}: {ours:?}");
        for words in [
            "Failed to get shared \"write\" lock",
            "\nIs another process using the image [a.vdi]?\n",
        ] {
            assert!(theirs.err.contains(words), "{line}: {theirs:?}");
            assert!(ours.err.contains(words), "{line}: {ours:?}");
        }
    }
    folder.ours("info -U a.vdi").ok();
    for command in ["info", "check", "probe"] {
        for said in ["force-share=on", "file.locking=off"] {
            let shared = format!("--image-opts driver=vdi,{said},file.filename=a.vdi");
            folder.ours(&format!("{command} {shared}")).ok();
        }
    }
    for line in ["convert -O vdi b.raw a.vdi", "resize -f vdi a.vdi 8M", "create -f raw a.vdi 1M"] {
        let ours = folder.ours(line).fails(1);
        assert!(ours.err.contains("\" lock"), "{line}: {ours:?}");
        folder.theirs(line).fails(1);
    }
    drop(holder.stdin.take());
    holder.wait().unwrap();
    folder.ours("info a.vdi").ok();
    assert!(folder.leftovers().is_empty());
}

#[test]
fn disks_stream_through_pipes() {
    let folder = Folder::new();
    folder.raw("a.raw", 3 << 20, &[(1 << 20, noise(1, 70_000))]);
    folder.ours("convert -O vdi a.raw a.vdi").ok();
    let output = folder.command(&["convert", "-O", "raw", "a.vdi", "-"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == std::fs::read(folder.file("a.raw")).unwrap());
    for line in ["convert - b.raw", "convert -f raw -O vdi -o size=4M - b.vdi"] {
        let words: Vec<&str> = line.split(' ').collect();
        let mut child = folder.command(&words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&output.stdout).unwrap();
        assert!(child.wait().unwrap().success(), "{line}");
        folder.ours(&format!("compare a.raw {}", words.last().unwrap())).ok();
    }
    folder.ours("convert -O vdi a.raw -").fails(1);
    folder.ours("convert -O vdi - c.vdi").fails(1);
    assert!(!folder.file("c.vdi").exists());
}

/// A stock program that has an image open until this is dropped.
struct Holder(std::process::Child);

impl Holder {
    /// Starts the words of `line`, and waits until `ready` is there in the folder.
    fn start(folder: &Folder, line: &str, ready: &str) -> Self {
        let mut words = line.split(' ');
        let mut command = std::process::Command::new(words.next().unwrap());
        let command = command.args(words).current_dir(folder.path());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut holder = Self(child);
        if ready.is_empty() {
            // The answer says that the image is open.
            holder.0.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
            holder.0.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
            return holder;
        }
        let begun = std::time::Instant::now();
        while !folder.file(ready).exists() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{line}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How stock programs hold the image `FORMAT`: a name, the command line, and the file that says that it is open.
const HOLDERS: [(&str, &str, &str); 7] = [
    ("qemu-io", "qemu-io -f FORMAT disk.FORMAT", ""),
    ("qemu-io -r", "qemu-io -r -f FORMAT disk.FORMAT", ""),
    ("qemu-io -r -U", "qemu-io -r -U -f FORMAT disk.FORMAT", ""),
    ("qemu-nbd", "qemu-nbd -t -f FORMAT -k SOCKET disk.FORMAT", "socket"),
    ("qemu-nbd -r", "qemu-nbd -r -t -f FORMAT -k SOCKET disk.FORMAT", "socket"),
    (
        "storage daemon",
        "qemu-storage-daemon --blockdev driver=FORMAT,node-name=n,file.driver=file,file.filename=disk.FORMAT \
         --nbd-server addr.type=unix,addr.path=SOCKET --export type=nbd,id=e,node-name=n,writable=on --pidfile PID",
        "pid",
    ),
    (
        "storage daemon, reading",
        "qemu-storage-daemon --blockdev driver=FORMAT,read-only=on,node-name=n,file.driver=file,file.filename=disk.FORMAT \
         --nbd-server addr.type=unix,addr.path=SOCKET --export type=nbd,id=e,node-name=n --pidfile PID",
        "pid",
    ),
];

#[test]
fn readers_and_writers_exclude_each_other_as_stock_ones_do() {
    if !oracles() {
        return;
    }
    let mut table = Vec::new();
    for format in ["raw", "vdi"] {
        for (holder, line, ready) in HOLDERS {
            let folder = Folder::new();
            folder.ours(&format!("create -q -f {format} disk.{format} 1M")).ok();
            folder.ours("create -q -f raw zeros.raw 1M").ok();
            let in_folder = |name: &str| folder.file(name).display().to_string();
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = line.replace("FORMAT", format).replace("SOCKET", &in_folder("socket"));
            let held = Holder::start(&folder, &line.replace("PID", &in_folder("pid")), ready);
            for reader in [
                "info disk",
                "info -f FORMAT disk",
                "map disk",
                "map -f FORMAT disk",
                "measure disk",
                "convert disk out.raw",
                "compare disk zeros.raw",
                "dd if=disk of=out.raw",
            ] {
                for shared in ["", "-U "] {
                    let line = reader.replace("disk", &format!("disk.{format}"));
                    let (command, rest) = line.split_once(' ').unwrap();
                    let line = format!("{command} {shared}{rest}").replace("FORMAT", format);
                    let (ours, theirs) = (folder.ours(&line), folder.theirs(&line));
                    assert_eq!(ours.status, theirs.status, "{holder}: {line}: {ours:?} {theirs:?}");
                    table.push((format, holder, line, ours.status));
                }
            }
            // A writer excludes every other one here; stock has two write a raw disk at once.
            let theirs = folder.theirs(&format!("resize -q -f {format} disk.{format} 1M"));
            let ours = folder.ours(&format!("resize -q -f {format} disk.{format} 1M"));
            if format == "raw" && holder == "qemu-io" {
                assert_eq!((ours.status, theirs.status), (1, 0), "{ours:?} {theirs:?}");
            } else if format == "raw" {
                assert_eq!(ours.status, theirs.status, "{holder}: {ours:?} {theirs:?}");
            } else {
                let alone = holder == "qemu-io -r -U";
                assert_eq!(ours.status, i32::from(!alone), "{holder}: {ours:?}");
            }
            drop(held);
        }
    }
    let refused = table.iter().filter(|row| row.3 != 0).count();
    assert!(table.len() == 224 && refused > 10, "{refused} of {}: {table:#?}", table.len());
}

#[test]
fn a_reader_of_a_raw_disk_lets_others_write_and_one_of_an_image_does_not() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    folder.raw("disk.raw", 8 << 20, &[(0, noise(1, 8 << 20))]);
    folder.ours("convert -O vdi disk.raw disk.vdi").ok();
    for named in [true, false] {
        for format in ["raw", "vdi"] {
            let file = format!("disk.{format}");
            let mut reader = vec!["bench", "-q", "-d", "1", "-c", "1000000000"];
            reader.extend(if named { vec!["-f", format] } else { vec![] });
            reader.push(&file);
            let mut ours = folder.command(&reader).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(500));
            let write = ["-f", format, "-c", "write 0 512", &file];
            let theirs = folder.stock("qemu-io", &write);
            assert_eq!(ours.try_wait().unwrap(), None, "it still reads");
            ours.kill().unwrap();
            ours.wait().unwrap();
            assert_eq!(theirs.status == 0, format == "raw", "{theirs:?}");
        }
    }
}
