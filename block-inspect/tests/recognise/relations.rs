//! The relations between two matches on one file, and the refusal of polyglots.

use crate::images::*;
use block_core::probe::{Decision, RelationKind};

fn relation(image: &Image, outer: &str, inner: &str) -> Option<RelationKind> {
    let report = image.report();
    let mut found = report.relations.iter().filter(|r| r.outer == outer && r.inner == inner);
    found.next().map(|relation| relation.kind)
}

#[test]
fn a_special_case_stands_for_the_general_one() {
    for (child, parent, image) in [
        ("ova", "tar", tar("machine.ovf")),
        ("aff4", "zip", zip("container.description", "aff4://0123")),
        ("avhdx", "vhdx", avhdx()),
        ("vhd-diff", "vhd", vhd_diff(&[(b"W2ru", "base.vhd")])),
        ("vhd-tap", "vhd", vhd_tap()),
        ("vmdk-stream", "vmdk", vmdk_stream()),
        (
            "esd",
            "wim",
            Image::zeros(256)
                .put(0, b"MSWIM\0\0\0")
                .le32(8, 208)
                .le32(12, 0xE00)
                .le16(40, 1)
                .le16(42, 1),
        ),
        (
            "gcp-tarball",
            "gzip",
            Image::zeros(64).put(0, b"\x1F\x8B\x08\x08\0\0\0\0\0\x03disk.raw.tar\0"),
        ),
    ] {
        let report = image.report();
        assert_eq!(report.selected.as_deref(), Some(child), "{}", report.explain());
        assert_eq!(relation(&image, child, parent), Some(RelationKind::Refinement), "{child}");
        assert!(report.candidate(parent).is_none(), "{child}");
    }
}

#[test]
fn two_names_for_the_same_bytes_are_one_hint() {
    let ntfs = with_mbr(Image::zeros(1 << 20))
        .put(0, b"\xEB\x52\x90NTFS    ")
        .le16(0xB, 512)
        .put(0xD, &[8])
        .le64(0x30, 4);
    let boot =
        |name: &[u8; 8]| with_mbr(Image::zeros(1 << 20)).put(0, &[0xEB, 0x76, 0x90]).put(3, name);
    let exfat = boot(b"EXFAT   ").put(11, &[0; 53]).put(108, &[9]);
    let fat = boot(b"mkfs.fat")
        .le16(0xB, 512)
        .put(0xD, &[4, 1, 0, 2])
        .put(0x15, &[0xF8])
        .put(0x36, b"FAT16   ");
    for (outer, image) in [("gpt", gpt(512)), ("ntfs", ntfs), ("exfat", exfat), ("fat", fat)] {
        assert_eq!(relation(&image, outer, "mbr"), Some(RelationKind::SameBytes), "{outer}");
        assert_eq!(image.hint("mbr"), None, "{outer}");
    }
}

#[test]
fn a_carrier_stands_and_what_it_carries_is_listed() {
    let fixed = |disk: Image| {
        let footer = vhd_footer(2, disk.0.len() as u64, u64::MAX, b"win ");
        disk.append(&footer)
    };
    let udif = |disk: Image| {
        let len = disk.0.len() as u64;
        disk.append(&koly(len, (0, 0)))
    };
    let ext = Image::zeros(1 << 20).le32(0x400, 16).le32(0x404, 1024).put(0x438, &[0x53, 0xEF]);
    let apm = Image::zeros(1 << 20).put(0, b"ER\x02\x00").put(512, b"PM");
    let hfs = Image::zeros(1 << 20).put(0x400, b"H+\0\x04").be32(0x428, 4096);
    for (outer, inner, image) in [
        ("vhd-fixed", "mbr", fixed(with_mbr(Image::zeros(1 << 20)))),
        ("vhd-fixed", "gpt", fixed(gpt(512))),
        ("vhd-fixed", "ext", fixed(ext)),
        ("vhd-fixed", "iso9660", fixed(iso())),
        ("dmg", "apm", udif(apm.clone())),
        ("dmg", "hfs+", udif(hfs)),
        ("iso9660", "gpt", iso_with_gpt()),
        ("iso9660", "hfs+", iso().put(0x400, b"H+\0\x04").be32(0x428, 4096)),
        ("iso9660", "mbr", with_mbr(iso())),
        ("iso9660", "apm", iso().put(0, b"ER\x02\x00").put(512, b"PM")),
        ("udf", "iso9660", with_udf(iso(), 0x9000)),
    ] {
        let report = image.report();
        assert_eq!(report.selected.as_deref(), Some(outer), "{}", report.explain());
        assert_eq!(relation(&image, outer, inner), Some(RelationKind::Carrier), "{outer} {inner}");
    }
}

/// A disc that firmware could treat as a disk with a GPT.
fn iso_with_gpt() -> Image {
    let disc = iso();
    gpt(512).put(0x8000, &disc.0[0x8000..0x9000])
}

#[test]
fn the_first_bytes_of_a_packed_disk_are_no_stream() {
    // A packed disk usually begins with the two bytes of zlib. They claim nothing.
    let report = dmg().report();
    assert_eq!(report.selected.as_deref(), Some("dmg"));
    assert_eq!(report.candidate("zlib").map(|zlib| zlib.score.value), Some(20));
    assert_eq!(report.relations, []);
}

#[test]
fn several_hints_of_a_raw_disk_are_no_conflict() {
    let boot =
        with_mbr(Image::zeros(1 << 20)).le32(0x400, 16).le32(0x404, 1024).put(0x438, &[0x53, 0xEF]);
    let report = boot.report();
    assert_eq!(report.selected.as_deref(), Some("raw"));
    assert_eq!(report.raw_hints.len(), 2);
    let member = boot.put_end(8 << 10, &[0xFC, 0x4E, 0x2B, 0xA9, 1]);
    assert_eq!(member.report().raw_hints.len(), 3);
    let old = member.clone().put_end(64 << 10, &[0xFC, 0x4E, 0x2B, 0xA9, 0]);
    assert_eq!(old.report().decision, Decision::Raw);
    assert_eq!(member.report().decision, Decision::Raw);
}

#[test]
fn a_trailer_around_a_container_is_refused_as_nested() {
    for inner in [("qcow2", qcow2()), ("vmdk", vmdk()), ("vdi", vdi()), ("vhdx", vhdx())] {
        let (id, image) = inner;
        let len = image.0.len() as u64;
        let footer = vhd_footer(2, len, u64::MAX, b"win ");
        for (outer, image) in [
            ("vhd-fixed", image.clone().append(&footer)),
            ("dmg", image.append(&koly(len, (0, 0)))),
        ] {
            assert_eq!(image.report().decision, Decision::Ambiguous, "{outer} {id}");
            assert_eq!(
                relation(&image, outer, id),
                Some(RelationKind::NestedContainer),
                "{outer} {id}"
            );
        }
    }
}

#[test]
fn polyglots_are_refused() {
    let vdi_bytes = |image: Image| {
        let header = vdi().0;
        image.put(0x40, &header[0x40..0x200])
    };
    let gzip = Image::zeros(0x1000).put(0, &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3]);
    let disc = iso().0;
    let table: Vec<(&str, Image)> = vec![
        ("vdi and qcow1", vdi().put(0, b"QFI\xFB\0\0\0\x01")),
        ("vdi and qcow2", vdi().put(0, b"QFI\xFB\0\0\0\x03")),
        ("vdi and vmdk", vdi().put(0, b"KDMV\x01")),
        ("vdi and qed", vdi().put(0, b"QED\0")),
        ("vdi and luks", vdi().put(0, b"LUKS\xBA\xBE\0\x01")),
        ("vdi and vhdx", vdi().put(0, b"vhdxfile")),
        ("vdi and vhd", vdi().put(0, b"conectix")),
        ("vdi and parallels", vdi().put(0, b"WithoutFreeSpace")),
        ("vdi and gzip", vdi_bytes(gzip)),
        ("vdi and a descriptor", vdi().put(0, &DESCRIPTOR.as_bytes()[..0x40])),
        ("qcow2 and iso", qcow2().put(0x8000, &disc[0x8000..0x9000])),
        ("luks1 and iso", luks1().put(0x8000, &disc[0x8000..0x9000])),
        ("vmdk and iso", vmdk().put(0x8000, &disc[0x8000..0x9000])),
        ("two trailers", {
            let image = Image::zeros(1 << 20);
            let koly = koly(1 << 20, (0, 0));
            let image = image.append(&koly);
            let len = image.0.len() as u64;
            image.append(&vhd_footer(2, len, u64::MAX, b"win ")[..511])
        }),
        ("tar and vmdk", tar("KDMV\x01")),
        ("qcow2 and mbr", with_mbr(qcow2())),
        ("vhdx and mbr", with_mbr(vhdx())),
        ("vmdk and mbr", with_mbr(vmdk().put(512, &[0; 512]).le64(0x1C, 0))),
        ("a descriptor and mbr", with_mbr(Image::zeros(1 << 20).put(0, DESCRIPTOR.as_bytes()))),
        ("a text and a disc", iso().put(0, DESCRIPTOR.as_bytes())),
    ];
    for (what, image) in table {
        let report = image.report();
        assert_eq!(report.decision, Decision::Ambiguous, "{what}: {}", report.explain());
        assert_eq!(report.selected, None, "{what}");
        assert!(report.drivers().is_empty(), "{what}");
    }
}
