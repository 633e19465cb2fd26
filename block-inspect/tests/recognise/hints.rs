//! Partition tables and file systems support raw and select nothing.

use crate::containers::Row;
use crate::images::*;

fn btrfs() -> Image {
    let block = Image::zeros(4096).le64(0x30, 0x1_0000).put(0x40, b"_BHRfS_M");
    let sum = crc32c(&block.0[32..]);
    Image::zeros(1 << 20).put(0x1_0000, &block.le32(0, sum).0)
}

fn lvm2() -> Image {
    let label = Image::zeros(512).put(0, b"LABELONE").le64(8, 1).put(0x18, b"LVM2 001");
    let sum = crc(0xEDB8_8320, 0xF597_A6CF, &label.0[20..]);
    Image::zeros(1 << 20).put(512, &label.le32(16, sum).0)
}

fn apfs() -> Image {
    let block = Image::zeros(4096).put(0x20, b"NXSB").le32(36, 4096);
    let (mut low, mut high) = (0u64, 0u64);
    for word in block.0[8..].chunks(4) {
        low = (low + u64::from(u32::from_le_bytes(word.try_into().unwrap()))) % 0xFFFF_FFFF;
        high = (high + low) % 0xFFFF_FFFF;
    }
    let first = 0xFFFF_FFFF - (low + high) % 0xFFFF_FFFF;
    let second = 0xFFFF_FFFF - (low + first) % 0xFFFF_FFFF;
    Image::zeros(1 << 20).put(0, &block.le64(0, (second << 32) | first).0)
}

fn fat(at: usize, name: &[u8; 8]) -> Image {
    Image::zeros(1 << 20)
        .put(0, &[0xEB, 0x3C, 0x90])
        .le16(0xB, 512)
        .put(0xD, &[4, 1, 0, 2])
        .put(0x15, &[0xF8])
        .put(at, name)
        .put(510, &[0x55, 0xAA])
}

fn zfs(label: usize) -> Image {
    (0..5).fold(Image::zeros(4 << 20), |image, slot| {
        image.le64(label + (128 << 10) + slot * 1024, 0x00BA_B10C)
    })
}

pub fn rows() -> Vec<Row> {
    let disk = || Image::zeros(1 << 20);
    let large = || Image::zeros(4 << 20);
    let boot = |image: Image| image.put(510, &[0x55, 0xAA]);
    vec![
        ("mbr", 70, with_mbr(disk())),
        ("gpt", 95, gpt(512)),
        ("gpt", 95, gpt(1024)),
        ("gpt", 95, gpt(4096)),
        ("gpt", 75, gpt(512).put_end(512, &[0; 512])),
        ("gpt", 75, gpt(512).put(512, &[0; 512])),
        ("gpt", 75, gpt(512).put(530, &[0xAA])),
        ("gpt", 60, gpt(512).put(530, &[0xAA]).put_end(512 - 18, &[0xAA])),
        ("apm", 70, disk().put(0, b"ER\x02\x00").put(512, b"PM")),
        ("fat", 85, fat(0x36, b"FAT12   ")),
        ("fat", 85, fat(0x36, b"FAT16   ")),
        ("fat", 85, fat(0x52, b"FAT32   ")),
        ("exfat", 90, boot(disk().put(0, b"\xEB\x76\x90EXFAT   ").put(108, &[9]))),
        (
            "ntfs",
            90,
            boot(
                disk().put(0, b"\xEB\x52\x90NTFS    ").le16(0xB, 512).put(0xD, &[8]).le64(0x30, 4),
            ),
        ),
        ("refs", 70, disk().put(0, b"\0\0\0ReFS\0").put(16, b"FSRS")),
        ("bitlocker", 70, disk().put(0, b"\xEB\x58\x90-FVE-FS-")),
        (
            "ext",
            80,
            disk().le32(0x400, 16).le32(0x404, 1024).put(0x438, &[0x53, 0xEF]).le32(0x44C, 1),
        ),
        ("xfs", 85, disk().put(0, b"XFSB").be32(4, 4096).be64(8, 256)),
        ("btrfs", 95, btrfs()),
        ("zfs", 85, zfs(0)),
        ("zfs", 85, zfs(256 << 10)),
        ("zfs", 85, zfs((4 << 20) - (512 << 10))),
        ("zfs", 85, zfs((4 << 20) - (256 << 10))),
        ("f2fs", 80, disk().le32(0x400, 0xF2F5_2010).le32(0x410, 12)),
        ("erofs", 80, disk().le32(0x400, 0xE0F5_E1E2).put(0x40C, &[12])),
        ("nilfs2", 70, disk().le32(0x400, 2).le16(0x406, 0x3434)),
        ("reiserfs", 70, disk().le16(0x1_002C, 4096).put(0x1_0034, b"ReIsEr2Fs")),
        ("jfs", 70, disk().put(0x8000, b"JFS1").le32(0x8018, 4096)),
        ("swap", 70, disk().le32(1024, 1).put(0xFF6, b"SWAPSPACE2")),
        ("swap", 70, disk().le32(1024, 1).put(0xFFF6, b"SWAPSPACE2")),
        ("hfs+", 60, disk().put(0x400, b"H+\0\x04").be32(0x428, 4096)),
        ("hfsx", 60, disk().put(0x400, b"HX\0\x05").be32(0x428, 4096)),
        ("hfs", 60, disk().put(0x400, b"BD").be32(0x414, 4096)),
        ("apfs", 75, apfs()),
        ("lvm2", 90, lvm2()),
        ("md-raid", 75, disk().le32(0x1000, 0xA92B_4EFC).le32(0x1004, 1)),
        ("md-raid", 75, disk().le32(0, 0xA92B_4EFC).le32(4, 1)),
        ("md-raid", 75, disk().put_end(8 << 10, &[0xFC, 0x4E, 0x2B, 0xA9, 1])),
        ("md-raid", 75, disk().put_end(64 << 10, &[0xFC, 0x4E, 0x2B, 0xA9, 0])),
        ("vmfs", 80, large().put(1 << 20, &[0x0D, 0xD0, 0x01, 0xC0])),
        ("vmfs", 80, large().put(2 << 20, &[0x5E, 0xF1, 0xAB, 0x2F])),
        (
            "bcache",
            70,
            disk().put(0x1018, b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81"),
        ),
        ("dm-verity", 70, disk().put(0, b"verity\0\0")),
        ("dm-integrity", 70, disk().put(0, b"integrt\0")),
        ("vdo", 70, disk().put(0, b"dmvdo001")),
        ("stratis", 70, disk().put(0x204, b"!Stra0tis")),
        ("bluestore", 70, disk().put(0, b"bluestore block device\n")),
        ("ubi", 70, disk().put(0, b"UBI#\x01")),
        ("cramfs", 70, disk().le32(0, 0x28CD_3D45).put(16, b"Compressed ROMFS")),
        ("romfs", 70, disk().put(0, b"-rom1fs-")),
        ("android-super", 70, disk().put(0x1000, b"gDla")),
        ("android-vbmeta", 70, disk().put(0, b"AVB0\0\0\0\x01")),
    ]
}

#[test]
fn every_partition_table_and_file_system_is_a_hint_of_its_weight() {
    for (id, weight, image) in rows() {
        let report = image.report();
        let found: Vec<_> =
            report.raw_hints.iter().map(|hint| (hint.id.as_ref(), hint.weight)).collect();
        assert_eq!(found, [(id, weight)], "{id}");
        assert_eq!(image.named(), ("raw".to_owned(), (weight / 2 + 1).min(50)), "{id}");
    }
}

#[test]
fn a_hint_whose_checks_fail_hardly_counts() {
    for (id, image) in [
        ("mbr", Image::zeros(4096).put(510, &[0x55, 0xAA])),
        ("mbr", with_mbr(Image::zeros(4096)).put(446, &[0x55])),
        ("ext", Image::zeros(4096).put(0x438, &[0x53, 0xEF]).le32(0x418, 9)),
        ("xfs", Image::zeros(4096).put(0, b"XFSB")),
        ("btrfs", btrfs().put(0x1_0100, &[1])),
        ("lvm2", lvm2().put(600, &[1])),
        ("apfs", apfs().put(100, &[1])),
        ("swap", Image::zeros(8192).put(0xFF6, b"SWAPSPACE2")),
    ] {
        assert_eq!(image.hint(id), Some(25), "{id}");
    }
}
