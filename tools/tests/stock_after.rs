//! After each operation on a base image the stock tool finds it sound and reads what was meant.

mod common;

use std::fs;

use common::{Folder, noise, oracles};

/// An image and the raw disk that it has to show.
struct Pair {
    folder: Folder,
    image: &'static str,
}

impl Pair {
    fn new(options: &str) -> Self {
        let folder = Folder::new();
        let content =
            [(0, noise(1, 3 << 20)), (5 << 20, noise(2, 1 << 20)), (9 << 20, noise(3, 70_000))];
        folder.raw("want.raw", (10 << 20) + 5120, &content);
        folder.ours(&format!("convert -f raw -O vdi {options} want.raw disk.vdi")).ok();
        let pair = Self { folder, image: "disk.vdi" };
        pair.agrees(&format!("create {options}"));
        pair
    }

    /// Both tools find nothing wrong, and stock reads the wanted bytes.
    #[track_caller]
    fn agrees(&self, what: &str) {
        let image = self.image;
        for line in
            [format!("check -f vdi {image}"), format!("compare -f raw -F vdi want.raw {image}")]
        {
            let (ours, theirs) = (self.folder.ours(&line), self.folder.theirs(&line));
            assert_eq!((ours.status, theirs.status), (0, 0), "{what}: {ours:?} {theirs:?}");
        }
    }

    /// Changes the wanted disk.
    fn want(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.folder.file("want.raw");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn ours(&self, line: &str) {
        self.folder.ours(line).ok();
        self.agrees(line);
    }
}

#[test]
fn stock_agrees_after_every_operation_on_a_base_image() {
    if !oracles() {
        return;
    }
    for options in ["", "-o layout=qemu", "-o static=on", "-o static=on,layout=qemu"] {
        let pair = Pair::new(options);
        // Writes: into stored blocks, and into new ones.
        pair.want(|bytes| bytes[(1 << 20) + 512..(3 << 20) + 4096].fill(0x5A));
        pair.want(|bytes| bytes[7 << 20..(7 << 20) + 4096].fill(0xA5));
        pair.ours("convert -n -f raw -O vdi want.raw disk.vdi");
        // Zeros: whole blocks and a part of one.
        pair.want(|bytes| bytes[5 << 20..6 << 20].fill(0));
        pair.want(|bytes| bytes[70_000..90_000].fill(0));
        pair.ours("convert -n -f raw -O vdi want.raw disk.vdi");
        if !options.contains("static") {
            pair.ours("compact disk.vdi");
        }
        pair.ours("amend -o comment=seen disk.vdi");
        pair.want(|bytes| bytes.resize(300 << 20, 0));
        pair.ours("resize -f vdi disk.vdi 300M");
        pair.want(|bytes| bytes.truncate((2 << 20) + 1024));
        pair.ours("resize -f vdi --shrink disk.vdi 2098176");
        pair.want(|bytes| bytes.resize(4 << 20, 0));
        pair.ours("resize -f vdi --preallocation=falloc disk.vdi 4M");
    }
}

#[test]
fn stock_agrees_after_repairs_and_after_a_commit() {
    if !oracles() {
        return;
    }
    let pair = Pair::new("-o layout=qemu");
    // A counter that is too small is what stock would write over data with.
    let path = pair.folder.file("disk.vdi");
    for (at, value, mode) in [(0x184, 1_u32, "all"), (0x184, 9, "leaks"), (0x200 + 4 * 9, 0, "all")]
    {
        let mut bytes = fs::read(&path).unwrap();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let line = format!("check -r {mode} disk.vdi");
        let repaired = pair.folder.ours(&line).ok();
        assert!(
            repaired.out.contains("repaired") || repaired.out.contains("fixed"),
            "{repaired:?}"
        );
        if at == 0x184 {
            pair.agrees(&line);
        } else {
            // The entry said that block 9 is what block 0 is: now it is a copy.
            pair.want(|bytes| {
                let first = bytes[..1 << 20].to_vec();
                bytes[9 << 20..10 << 20].copy_from_slice(&first);
            });
            pair.agrees(&line);
        }
    }
    pair.folder.ours("create -q -f vdi -b disk.vdi -F vdi child.vdi").ok();
    pair.folder.ours("bench -q -w -f vdi --pattern=51 -c 40 -s 65536 -S 196608 child.vdi").ok();
    pair.folder.ours("convert -f vdi -O raw child.vdi want.raw").ok();
    pair.ours("commit -d child.vdi");
}
