//! Images that lost their header, and maps that tell nonsense.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;

use common::{Folder, noise};

const MIB: usize = 1 << 20;

/// `disk.vdi` with noise in the second and the fifth of its eight blocks; its disk is `disk.raw`.
fn image(layout: &str) -> Folder {
    let folder = Folder::new();
    let content = [(MIB as u64 + 4096, noise(1, 5000)), (4 * MIB as u64, noise(2, MIB))];
    folder.raw("disk.raw", 8 * MIB as u64 - 512, &content);
    let line = format!("convert -q -f raw -O vdi -o layout={layout} disk.raw disk.vdi");
    folder.ours(&line).ok();
    folder
}

fn lose_header(folder: &Folder, with: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(folder.file("disk.vdi")).unwrap();
    file.write_all_at(with, 0).unwrap();
    fs::copy(folder.file("disk.vdi"), folder.file("lost.vdi")).unwrap();
}

#[test]
fn a_lost_header_is_made_anew_from_the_map() {
    for layout in ["virtualbox", "qemu"] {
        for rubbish in [vec![0; 512], noise(7, 512)] {
            let folder = image(layout);
            let header = fs::read(folder.file("disk.vdi")).unwrap()[..512].to_vec();
            lose_header(&folder, &rubbish);
            let told = folder.ours("check -f vdi -r all disk.vdi").fails(1);
            assert!(told.err.contains("--assume"), "{told:?}");

            let size = 8 * MIB - 512;
            let shown =
                folder.ours(&format!("check -f vdi --assume size={size} disk.vdi")).fails(2);
            assert!(shown.err.contains(&format!("disk size: {size}")), "{shown:?}");
            assert!(shown.err.contains("blocks stored: 2"), "{shown:?}");
            assert!(shown.err.contains(&format!("layout: {layout}")), "{shown:?}");
            assert!(folder.same_bytes("disk.vdi", "lost.vdi"), "it was only to be shown");

            let line = format!("check -f vdi -r all --assume size={size} disk.vdi");
            folder.ours(&line).ok();
            folder.ours("convert -O raw disk.vdi found.raw").ok();
            assert!(folder.same_bytes("found.raw", "disk.raw"));
            let now = fs::read(folder.file("disk.vdi")).unwrap();
            // All but the two UUIDs is as it was.
            assert!(now[..0x188] == header[..0x188] && now[0x1A8..0x200] == header[0x1A8..]);
            folder.ours("check disk.vdi").ok();
        }
    }
}

#[test]
fn a_header_is_not_made_from_what_does_not_fit() {
    let folder = image("virtualbox");
    let refused = |line: &str, why: &str| {
        fs::copy(folder.file("disk.vdi"), folder.file("before.vdi")).unwrap();
        let ran = folder.ours(&format!("check -f vdi -r all --assume {line} disk.vdi")).fails(1);
        assert!(ran.err.contains(why), "{line}: {ran:?}");
        assert!(folder.same_bytes("disk.vdi", "before.vdi"), "{line}: it was written to");
    };
    refused("size=8M", "is not lost");
    lose_header(&folder, &[0; 512]);
    refused("static=on,size=8M", "names no slot");
    refused("layout=qemu,size=8M", "no sound map");
    refused("size=1M", "more follows behind the map");
    refused("block_size=128k,size=8M", "no sound map");
    refused("size=1T", "past the file");
    refused("comment=x", "needs size=");
    refused("size=8M,backing_file=x", "base image");
    refused("size=8M,color=red", "color");
    // A raw disk is no image without its header.
    fs::write(folder.file("disk.vdi"), noise(3, 4 * MIB)).unwrap();
    refused("size=8M", "no sound map");
    fs::write(folder.file("disk.vdi"), vec![0; 4 * MIB]).unwrap();
    refused("size=8M", "that another block has");
    folder.ours("check -f raw -r all --assume size=1M disk.vdi").fails(63);
}

#[test]
fn a_map_ends_where_it_names_more_than_the_file_holds() {
    let folder = Folder::new();
    folder.ours("create -q -f vdi disk.vdi 100G").ok();
    let file = fs::OpenOptions::new().write(true).open(folder.file("disk.vdi")).unwrap();
    // Every entry names slot 0, which is there; then the size of the file is that of three slots.
    file.write_all_at(&vec![0; 100 << 10 << 2], 1 << 20).unwrap();
    file.set_len(5 << 20).unwrap();
    for output in ["human", "json"] {
        let ran = folder.ours(&format!("map --output={output} disk.vdi")).fails(1);
        assert!(ran.err.contains("blocks share places") && ran.err.contains("check"), "{ran:?}");
        assert!(ran.out.lines().count() < 10, "{ran:?}");
    }
    // So many findings are counted, and only some of each kind are told.
    let ran = folder.ours("check disk.vdi").fails(2);
    assert!(ran.err.lines().count() < 50 && ran.err.contains(" more ["), "{}", ran.err.len());
    // Twenty of them, and how many more there are.
    assert_eq!(ran.err.matches("[vdi.map.duplicate]").count(), 21, "{}", ran.err);
    assert!(ran.out.contains("102400 errors were found"), "{ran:?}");
    // A part of the map that is true is shown.
    folder.ours("map --output=json -l 4M disk.vdi").ok();
}
