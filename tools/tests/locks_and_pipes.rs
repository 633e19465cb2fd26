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
