//! Archives, compressed streams and optical discs are recognised, and none is mistaken for raw.

use crate::containers::Row;
use crate::images::*;
use block_core::probe::Kind;

fn xz() -> Image {
    let flags = [0u8, 4];
    Image::zeros(64).put(0, b"\xFD7zXZ\0").put(6, &flags).le32(8, crc32(&flags)).put_end(2, b"YZ")
}

fn wim(version: u32) -> Image {
    Image::zeros(256)
        .put(0, b"MSWIM\0\0\0")
        .le32(8, 208)
        .le32(12, version)
        .le32(20, 0x8000)
        .le16(40, 1)
        .le16(42, 1)
}

fn squashfs() -> Image {
    Image::zeros(4096).put(0, b"hsqs").le32(12, 1 << 17).le16(22, 17).le16(28, 4).le64(40, 4096)
}

fn raw_sectors() -> Image {
    let sync = b"\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0";
    Image::zeros(17 * 2352)
        .put(0, sync)
        .put(12, &[0, 2, 0, 1])
        .put(2352, sync)
        .put(2352 + 12, &[0, 2, 1, 1])
        .put(37649, b"CD001")
}

pub fn wrapper_rows() -> Vec<Row> {
    let bytes = |bytes: &[u8]| Image::zeros(256).put(0, bytes);
    vec![
        ("wim", 95, wim(0x1_0D00)),
        ("wim", 95, wim(0x1_0D00).put(0, b"WLPWM\0\0\0")),
        ("esd", 97, wim(0xE00)),
        ("tar", 90, tar("disk.raw")),
        ("ova", 92, tar("machine.ovf")),
        ("zip", 85, zip("a", "")),
        ("zip", 85, zip("a", "a comment")),
        ("7z", 85, bytes(b"7z\xBC\xAF\x27\x1C\0\x04")),
        ("xar", 85, bytes(b"xar!\0\x1C\0\x01")),
        ("cab", 85, bytes(b"MSCF\0\0\0\0\x80\0\0\0").put(24, &[3, 1])),
        ("rpm", 85, bytes(b"\xED\xAB\xEE\xDB\x03")),
        ("gzip", 85, bytes(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3])),
        ("gcp-tarball", 87, bytes(b"\x1F\x8B\x08\x08\0\0\0\0\0\x03disk.raw.tar\0")),
        ("xz", 95, xz()),
        ("zstd", 85, bytes(&[0x28, 0xB5, 0x2F, 0xFD, 4])),
        ("zstd", 85, bytes(&[0x53, 0x2A, 0x4D, 0x18, 4, 0, 0, 0])),
        ("bzip2", 90, bytes(b"BZh9\x31\x41\x59\x26\x53\x59")),
        ("lz4", 90, bytes(&[0x04, 0x22, 0x4D, 0x18, 0x64, 0x40])),
        ("lz4", 90, bytes(&[0x02, 0x21, 0x4C, 0x18, 16, 0, 0, 0])),
        ("lzip", 85, bytes(b"LZIP\x01\x0C")),
        ("lzop", 85, bytes(b"\x89LZO\0\r\n\x1A\n\x10\x30")),
    ]
}

#[test]
fn every_wrapper_is_named_and_has_no_driver() {
    for (id, score, image) in wrapper_rows() {
        let report = image.report();
        assert_eq!(image.named(), (id.to_owned(), score), "{}", report.explain());
        assert_eq!(report.selected().unwrap().kind, Kind::Wrapper, "{id}");
        assert!(report.drivers().is_empty(), "{id}");
    }
}

/// Magics that prove very little.
pub const WEAK: &[(&str, u8, &[u8])] = &[
    ("lzma", 30, b"\x5D\0\0\x80\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
    ("compress", 30, b"\x1F\x9D\x90"),
    ("zlib", 20, b"\x78\x9C"),
    ("bzip2", 30, b"BZh9 is no stream"),
    ("gzip", 30, b"\x1F\x8B\x08\xFF\0\0\0\0\x07"),
];

#[test]
fn magics_of_two_or_three_bytes_stay_raw() {
    for (id, score, magic) in WEAK {
        let report = Image::zeros(512).put(0, magic).report();
        assert_eq!(report.candidate(id).map(|c| c.score.value), Some(*score), "{id}");
        assert_eq!(report.selected.as_deref(), Some("raw"), "{id}");
    }
}

pub fn disc_rows() -> Vec<Row> {
    let boot_first =
        iso().put(0x8000, &[0]).put(0x8800, b"\x01CD001\x01").put(0x9000, b"\xFFCD001\x01");
    let boot_first =
        boot_first.le32(0x8850, 48).be32(0x8854, 48).le16(0x8880, 2048).be16(0x8882, 2048);
    vec![
        ("iso9660", 95, iso()),
        ("iso9660", 90, boot_first),
        ("high-sierra", 75, Image::zeros(0x9000).put(0x8008, b"\x01CDROM")),
        ("iso-raw-2352", 85, raw_sectors()),
        ("udf", 95, with_udf(Image::zeros(0x9_0001), 0x8000)),
        ("squashfs", 95, squashfs()),
        ("squashfs", 90, Image::zeros(256).put(0, b"sqsh").be16(28, 4).be32(12, 1 << 17)),
    ]
}

#[test]
fn every_disc_is_named_and_served_by_raw() {
    for (id, score, image) in disc_rows() {
        let report = image.report();
        assert_eq!(image.named(), (id.to_owned(), score), "{}", report.explain());
        assert!(report.is_raw(), "{id}");
    }
}

#[test]
fn a_disc_with_both_file_systems_is_one_disc() {
    let bridge = with_udf(iso(), 0x9000);
    let report = bridge.report();
    assert_eq!(report.selected.as_deref(), Some("udf"), "{}", report.explain());
    assert!(report.is_raw());
}

#[test]
fn damaged_discs_and_archives_say_so() {
    assert_eq!(iso().be32(0x8054, 49).named(), ("iso9660".to_owned(), 60));
    assert_eq!(iso().put(0x8800, &[0; 8]).named(), ("iso9660".to_owned(), 75));
    assert_eq!(wim(0x9999).named(), ("wim".to_owned(), 60));
    assert_eq!(xz().put(9, &[0x55]).named().1, 60);
    // The magic of a tar without its checksum is just a word in another file.
    assert_eq!(tar("x").put(148, b"0000000\0").named().0, "raw");
}
