//! Every disk container and every text descriptor is recognised, with the score its evidence deserves.

use crate::images::*;
use block_core::probe::Kind;

/// A row: the name, the score of a sound file, and the file.
pub type Row = (&'static str, u8, Image);

pub fn rows() -> Vec<Row> {
    let json = r#"{"keyslots":{},"segments":{}}"#;
    let ewf2 = |magic: &[u8; 8]| Image::zeros(256).put(0, magic).put(8, &[2, 1, 1, 0]).le32(12, 1);
    vec![
        ("qcow1", 90, qcow1()),
        ("qcow2", 90, qcow2_v2()),
        ("qcow2", 95, qcow2()),
        ("qed", 90, qed()),
        ("vdi", 95, vdi()),
        ("vdi", 75, vdi_0()),
        ("vhd", 100, vhd_dynamic()),
        ("vhd-diff", 100, vhd_diff(&[(b"W2ru", "base.vhd")])),
        ("vhd-tap", 100, vhd_tap()),
        ("vhd-fixed", 95, vhd_fixed()),
        ("vhd-fixed", 80, short_footer()),
        ("vhdx", 100, vhdx()),
        ("avhdx", 100, avhdx()),
        ("vmdk", 95, vmdk()),
        ("vmdk-stream", 97, vmdk_stream()),
        ("vmdk-cowd", 85, cowd()),
        ("vmdk-sesparse", 95, sesparse()),
        ("vmdk-descriptor", 90, Image(DESCRIPTOR.as_bytes().to_vec())),
        ("parallels", 95, parallels()),
        ("parallels", 95, parallels_old()),
        ("dmg", 95, dmg()),
        ("dmg", 75, Image(dmg().0).append(&[0; 100])),
        ("dmg", 85, Image(koly(512, (0, 0))).be64(0x18, 512).append(&[0; 512])),
        ("dmg-encrypted", 85, Image::zeros(256).put(0, b"encrcdsa").be32(8, 2).be32(0x34, 512)),
        ("dmg-encrypted", 60, Image::zeros(256).put_end(8, b"cdsaencr")),
        (
            "sparseimage",
            85,
            Image::zeros(4096).put(0, b"sprs").be32(4, 3).be32(8, 2048).be32(16, 9),
        ),
        ("asif", 85, asif()),
        ("bochs", 95, bochs()),
        ("bochs", 75, bochs().put(48, b"Undoable\0")),
        ("bochs", 95, bochs().le32(64, 0x1_0000).le64(84, 4 << 20)),
        ("bochs-sparse", 60, Image::zeros(512).le32(0, 0x0246_8ACE).le32(4, 1)),
        ("cloop", 90, cloop()),
        ("luks1", 95, luks1()),
        ("luks2", 100, luks2(json)),
        ("luks2", 75, luks2(json).put(0, &[0; 0x4000])),
        ("ewf", 100, ewf(b"EVF\x09\r\n\xFF\0")),
        ("ewf-logical", 90, ewf(b"LVF\x09\r\n\xFF\0")),
        ("ewf2", 90, ewf2(b"EVF2\r\n\x81\0")),
        ("ewf2-logical", 90, ewf2(b"LEF2\r\n\x81\0")),
        ("aff", 90, Image::zeros(64).put(0, b"AFF10\r\n\0").put(8, b"AFF\0")),
        ("aff4", 87, zip("container.description", "aff4://0123")),
        ("android-sparse", 95, android()),
        ("cow", 60, Image::zeros(2048).put(0, b"OOOM").be32(4, 2)),
        ("libvirt-save", 90, Image::zeros(128).put(0, b"LibvirtQemudSave").le32(16, 2)),
        ("libvirt-save", 90, Image::zeros(128).put(0, b"LibvirtQemudPart").le32(16, 2)),
        ("qemu-vmstate", 60, Image::zeros(128).put(0, b"QEVM").be32(4, 3)),
        (
            "viso",
            90,
            text("--iprt-iso-maker-file-marker=01234567-89ab-cdef-0123-456789abcdef\n/x=/etc"),
        ),
        (
            "viso",
            90,
            text("\n --iprt-iso-maker-file-marker-bourne-sh 01234567-89ab-cdef-0123-456789abcdef"),
        ),
        ("parallels-bundle", 85, text(PARALLELS_XML)),
        (
            "ovf",
            80,
            text(
                "<?xml version=\"1.0\"?><!-- x --><ovf:Envelope xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"/>",
            ),
        ),
        (
            "vbox",
            80,
            text(
                "<?xml version=\"1.0\"?><!-- x --><VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.16\"/>",
            ),
        ),
        (
            "sparsebundle",
            80,
            text(
                "<?xml version=\"1.0\"?>\n<!DOCTYPE plist>\n<plist><dict><key>diskimage-bundle-type</key><string>com.apple.diskimage.sparsebundle</string></dict></plist>",
            ),
        ),
    ]
}

fn text(text: &str) -> Image {
    Image(text.as_bytes().to_vec())
}

/// The oldest writers omit the footer's last byte.
fn short_footer() -> Image {
    let image = vhd_fixed();
    let len = image.0.len();
    image.truncate(len - 1)
}

#[test]
fn every_container_and_descriptor_is_named_and_scored() {
    for (id, score, image) in rows() {
        let report = image.report();
        assert_eq!(image.named(), (id.to_owned(), score), "{}", report.explain());
    }
}

/// Text files whose format is only a guess.
pub fn weak_rows() -> Vec<(&'static str, Image)> {
    let cue = text("FILE \"disc.bin\" BINARY\n  TRACK 01 MODE1/2352\n");
    let manifest = text("<manifest><importer/><parts/></manifest>");
    vec![
        ("cue", cue),
        ("import-manifest", manifest),
        ("vmdk-descriptor", text("version=1\nCID=1\ncreateType=\"x\"\n")),
    ]
}

#[test]
fn texts_that_are_hardly_evidence_stay_raw() {
    for (id, image) in weak_rows() {
        let report = image.report();
        assert_eq!(report.candidate(id).map(|c| c.score.value), Some(45), "{id}");
        assert_eq!(report.selected.as_deref(), Some("raw"), "{id}");
    }
}

#[test]
fn magic_alone_is_broken_and_never_raw() {
    for (id, magic) in [
        ("qcow2", &b"QFI\xFB\0\0\0\x04"[..]),
        ("qcow2", b"QFI\xFB\0\0\0\0"),
        ("qed", b"QED\0"),
        ("vhdx", b"vhdxfile"),
        ("vmdk", b"KDMV"),
        ("parallels", b"WithoutFreeSpace\x03"),
        ("luks1", b"LUKS\xBA\xBE\0\x09"),
        ("android-sparse", b"\x3A\xFF\x26\xED\x02"),
        ("vhd", b"conectix"),
        ("vmdk-cowd", b"COWD"),
        ("vmdk-descriptor", b"# Disk DescriptorFile\n"),
        ("cloop", b"#!/bin/sh\n#V2.0 Format\n"),
        ("bochs", b"Bochs Virtual HD Image\0"),
    ] {
        let image = Image::zeros(0x2_0000).put(0, magic);
        assert_eq!(image.named(), (id.to_owned(), 60), "{}", image.report().explain());
        assert_eq!(format!("{:?}", image.report().decision), "Broken");
    }
}

#[test]
fn a_bare_magic_with_nothing_behind_it_is_raw() {
    assert_eq!(qcow2().truncate(4).named().0, "raw");
    assert_eq!(qcow2().truncate(40).named(), ("qcow2".to_owned(), 60));
    assert_eq!(qcow2().truncate(104).named(), ("qcow2".to_owned(), 60));
    assert_eq!(qcow2().truncate(511).named(), ("qcow2".to_owned(), 60));
}

#[test]
fn each_broken_field_lowers_the_score() {
    type Case = (&'static str, fn() -> Image, fn(Image) -> Image, u8);
    let cases: &[Case] = &[
        ("unknown qcow2 feature", qcow2, |i| i.put(72, &[0x80]), 60),
        ("dirty qcow2", qcow2, |i| i.put(79, &[1]), 75),
        ("corrupt qcow2", qcow2, |i| i.put(79, &[2]), 75),
        ("qcow2 cluster bits", qcow2, |i| i.be32(20, 30), 60),
        ("qcow2 header length", qcow2, |i| i.be32(100, 0x7FFF_FFFF), 60),
        ("short qcow2 header", qcow2, |i| i.be32(100, 96), 60),
        ("qcow2 disk size", qcow2, |i| i.be64(24, u64::MAX), 60),
        ("qcow2 L1 entries", qcow2, |i| i.be32(36, u32::MAX), 60),
        ("qcow2 snapshots", qcow2, |i| i.be32(60, 65_537), 60),
        ("qcow2 extension", qcow2, |i| i.be32(112, 7).be32(116, 0xFFFF_FFF0), 60),
        ("qcow2 backing name of no length", qcow2, |i| i.be64(8, 0x200), 75),
        ("qcow2 data file without name", qcow2, |i| i.put(79, &[4]), 75),
        ("qcow2 extended L2", qcow2, |i| i.put(79, &[0x10]), 95),
        ("v2 extension that looks like a feature", qcow2_v2, |i| i.be32(72, 7).be32(76, 5), 90),
        ("unknown qed feature", qed, |i| i.put(16, &[0x80]), 60),
        ("dirty qed", qed, |i| i.put(16, &[2]), 75),
        ("VHD type", vhd_dynamic, |i| i.be32(0x3C, 9).put_end(512 - 0x3C, &[0, 0, 0, 9]), 60),
        ("VHD without its copy", vhd_dynamic, |i| i.put(0, &[0; 512]), 75),
        ("VHDX without its first header", vhdx, |i| i.put(0x1_0000, &[0; 4096]), 75),
        ("VHDX without headers", vhdx, |i| i.put(0x1_0000, &[0; 0x1_1000]), 60),
        ("VMDK guard", vmdk, |i| i.put(0x49, b"\n\n\n\n"), 60),
        ("VMDK version", vmdk, |i| i.le32(4, 4), 60),
        ("VMDK capacity", vmdk, |i| i.le64(0xC, 0), 60),
        ("stream without footer", vmdk_stream, |i| i.put_end(1024, &[0; 512]), 75),
        ("Parallels version", parallels, |i| i.le32(16, 3), 60),
        ("Parallels cluster", parallels, |i| i.le32(28, 0), 60),
        ("DMG version", dmg, |i| i.put_end(508, &[0, 0, 0, 5]), 60),
        ("LUKS slot", luks1, |i| i.be32(256, 1), 60),
        ("EWF checksum", || ewf(b"EVF\x09\r\n\xFF\0"), |i| i.put(86, &[0xAA]), 60),
    ];
    for (what, sound, edit, score) in cases {
        let image = edit(sound());
        assert_eq!(image.named().1, *score, "{what}: {}", image.report().explain());
    }
}

#[test]
fn saved_states_are_no_disks() {
    let image = Image::zeros(128).put(0, b"LibvirtQemudSave").le32(16, 2);
    let report = image.report();
    assert_eq!(report.selected().unwrap().kind, Kind::NotADisk);
    assert!(report.drivers().is_empty());
}
