//! What people and programs are shown, word by word: help, JSON and errors against the transcripts in `golden/`.
//!
//! `BLOCK_IMG_BLESS=1 cargo test -p block-img --test golden` writes them anew; the difference is then for a reviewer.

mod common;

use std::fs;
use std::path::Path;

use common::{Folder, noise};

/// Runs `lines` and compares what is shown with the transcript `name`.
fn transcript(folder: &Folder, name: &str, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = folder.command(&words).env("COLUMNS", "100").env("LC_ALL", "C.UTF-8").output();
        let output = output.unwrap();
        text.push_str(&format!("$ block-img {line}\n"));
        for (mark, bytes) in [("", output.stdout), ("2> ", output.stderr)] {
            for line in String::from_utf8(bytes).unwrap().lines() {
                text.push_str(format!("{mark}{}", stable(line)).trim_end());
                text.push('\n');
            }
        }
        match output.status.code() {
            Some(0) => text.push('\n'),
            status => text.push_str(&format!("status {}\n\n", status.unwrap_or(-1))),
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLOCK_IMG_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(text.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or_else(|| kept.lines().count().min(text.lines().count()));
    assert!(
        kept == text,
        "{name}:{}\n  kept: {}\n   now: {}\nBLOCK_IMG_BLESS=1 cargo test -p block-img --test golden",
        at + 1,
        kept.lines().nth(at).unwrap_or("(the end)"),
        text.lines().nth(at).unwrap_or("(the end)"),
    );
}

/// The words of a line; quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words
}

/// What differs from run to run or from one file system to another, replaced.
fn stable(line: &str) -> String {
    let mut line = line.to_owned();
    for start in ["\"actual-size\": ", "disk size: "] {
        if let Some(at) = line.find(start) {
            let end = if line.ends_with(',') { "," } else { "" };
            line = format!("{}{start}…{end}", &line[..at]);
        }
    }
    let is_uuid = |word: &str| {
        word.len() == 36
            && word.chars().enumerate().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            })
    };
    let uuid =
        (0..line.len().saturating_sub(35)).find(|at| line.get(*at..at + 36).is_some_and(is_uuid));
    match uuid {
        Some(at) if !line.contains("00000000-0000") => line.replace(&line[at..at + 36], "(uuid)"),
        _ => line,
    }
}

/// A disk with data at three places, in both formats, and files that are no sound image.
fn folder() -> Folder {
    let folder = Folder::new();
    let content = [(0, noise(1, 1 << 20)), (3 << 20, noise(2, 2 << 20)), (8 << 20, noise(3, 4096))];
    folder.raw("disk.raw", 16 << 20, &content);
    folder.raw("other.raw", 16 << 20, &[(0, noise(1, 1 << 20)), (6 << 20, noise(4, 4096))]);
    folder.ours("convert -f raw -O vdi disk.raw disk.vdi").ok();
    folder.ours("create -q -f vdi empty.vdi 64M").ok();
    let mut broken = fs::read(folder.file("disk.vdi")).unwrap();
    // The block size of the header.
    broken[0x178..0x17c].copy_from_slice(&3u32.to_le_bytes());
    fs::write(folder.file("broken.vdi"), &broken).unwrap();
    let mut shared = fs::read(folder.file("disk.vdi")).unwrap();
    let map = u32::from_le_bytes(shared[0x154..0x158].try_into().unwrap()) as usize;
    shared.copy_within(map..map + 4, map + 12);
    fs::write(folder.file("shared.vdi"), &shared).unwrap();
    fs::write(folder.file("text.txt"), "no disk at all\n").unwrap();
    let mut qcow2 = vec![0; 65536];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    fs::write(folder.file("disk.qcow2"), qcow2).unwrap();
    folder
}

#[test]
fn help_reads_as_agreed() {
    let folder = Folder::new();
    let grammar = block_img::command(&block_img::registry());
    let mut lines = vec!["--help".to_owned()];
    lines.extend(grammar.get_subcommands().map(|sub| format!("{} --help", sub.get_name())));
    lines.push("create -f vdi -o help".to_owned());
    lines.push("create -f raw -o help".to_owned());
    lines.push("convert -O vdi -o ?".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert!(lines.len() > 20);
    transcript(&folder, "help.txt", &lines);
}

#[test]
fn results_for_programs_have_the_agreed_fields() {
    transcript(
        &folder(),
        "json.txt",
        &[
            "info --output=json disk.vdi",
            "info --output=json --backing-chain disk.raw",
            "check --output=json disk.vdi",
            "check --output=json shared.vdi",
            "map --output=json disk.vdi",
            "map --output=json empty.vdi",
            "measure --output=json -O raw disk.vdi",
            "diff --output=json disk.vdi other.raw",
            "diff --output=nbd disk.vdi other.raw",
            "digest --output=json disk.vdi disk.raw",
            "formats --output=json",
            "chain --output=json disk.vdi",
        ],
    );
}

#[test]
fn results_for_people_read_as_agreed() {
    transcript(
        &folder(),
        "human.txt",
        &[
            "create -f vdi new.vdi 10G",
            "info disk.vdi",
            "check disk.vdi",
            "check shared.vdi",
            "check -r all shared.vdi",
            "check shared.vdi",
            "map disk.vdi",
            "map --picture disk.vdi",
            "compare disk.vdi disk.raw",
            "compare disk.vdi other.raw",
            "diff disk.vdi other.raw",
            "digest disk.vdi disk.raw",
            "measure -O raw disk.vdi",
            "resize disk.vdi +16M",
            "formats",
            "explain vdi.map.duplicate",
        ],
    );
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    transcript(
        &folder(),
        "errors.txt",
        &[
            "",
            "conver",
            "info",
            "info disk.vdi disk.raw",
            "info --outptu json disk.vdi",
            "info --output yaml disk.vdi",
            "info gone.vdi",
            "info -f vdj disk.vdi",
            "info -f vdi disk.raw",
            "info broken.vdi",
            "info disk.qcow2",
            "info http://example.org/disk.vdi",
            "check text.txt",
            "create -f vdi new.vdi",
            "create -f vdi new.vdi 12X",
            "create -f vid new.vdi 1G",
            "create -f vdi -o statik=on new.vdi 1G",
            "create -f vdi -o static=maybe new.vdi 1G",
            "create -f vdi new.vdi 1P",
            "convert -O vdi gone.raw new.vdi",
            "convert -O qcow2 disk.vdi new.qcow2",
            "convert -c -O vdi disk.raw new.vdi",
            "convert -O raw disk.vdi no/where.raw",
            "convert --target-is-zero -O raw disk.vdi new.raw",
            "resize disk.vdi 1M",
            "resize -f raw disk.raw -- -1G",
            "measure -O vdi2 disk.raw",
            "commit disk.vdi",
            "snapshot -c one disk.vdi",
            "map --png no/where.png disk.vdi",
            "explain vdi.map.duplicat",
        ],
    );
}
