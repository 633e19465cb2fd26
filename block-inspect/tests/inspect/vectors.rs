//! Known vectors: the format, score, verdict for untrusted files, and findings of each.

use crate::images::*;
use block_core::MemStorage;
use block_inspect::Code::{self, *};
use block_inspect::Verdict::{self, Accept, Refuse, Warn};
use block_inspect::{InspectOptions, inspect};

/// A test image with its expected format, score, verdict and findings.
type Row = (&'static str, Image, &'static str, u8, Verdict, &'static [Code]);

const DATA: u32 = 0x4441_5441;

fn backed(name: &[u8]) -> Image {
    qcow2().be64(8, 0x300).be32(16, name.len() as u32).put(0x300, name)
}

fn extended(image: Image, data: &[u8]) -> Image {
    image.be32(112, DATA).be32(116, data.len() as u32).put(120, data)
}

fn raw_rows() -> Vec<Row> {
    let noise = |len: usize| {
        let mut state = 1u64;
        let bytes = (0..len).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8 | 0x80
        });
        Image(bytes.collect())
    };
    let xfs = |image: Image| image.put(0, b"XFSB").be32(4, 4096).be64(8, 256);
    let ext = |image: Image| image.le32(0x400, 16).le32(0x404, 1024).put(0x438, &[0x53, 0xEF]);
    let swap = |image: Image| image.put(0xFF6, b"SWAPSPACE2");
    let hybrid = gpt(512).put(466, &[7]).le32(470, 40).le32(474, 20);
    vec![
        ("A-1", Image::zeros(1 << 20), "raw", 1, Warn, &[RawFallback]),
        ("A-2", noise(1 << 20), "raw", 1, Warn, &[RawFallback]),
        ("A-4", noise(1), "raw", 1, Warn, &[RawFallback, Truncated]),
        ("A-5", Image::zeros(511), "raw", 1, Warn, &[RawFallback]),
        ("A-6", with_mbr(Image::zeros(1 << 20)), "raw", 36, Warn, &[RawFallback]),
        ("A-7", gpt(512), "raw", 48, Warn, &[RawFallback]),
        ("A-8", gpt(4096), "raw", 48, Warn, &[RawFallback]),
        ("A-9", gpt(512).put_end(512, &[0; 512]), "raw", 38, Warn, &[CopyMismatch]),
        ("A-10", gpt(512).put(512, &[0; 512]), "raw", 38, Warn, &[CopyMismatch]),
        ("A-11", gpt(512).put(528, &[0x55]), "raw", 38, Warn, &[Checksum]),
        ("A-12", hybrid, "raw", 48, Warn, &[PtHybrid]),
        ("A-15", ext(Image::zeros(1 << 20)), "raw", 41, Warn, &[RawFallback]),
        ("A-17", xfs(ext(Image::zeros(1 << 20))), "raw", 43, Warn, &[RawFallback, PtBad]),
        ("A-18", swap(ext(Image::zeros(1 << 20))), "raw", 41, Warn, &[RawFallback]),
    ]
}

fn qcow_rows() -> Vec<Row> {
    let passwd = qcow1().be64(8, 0x200).be32(16, 11).put(0x200, b"/etc/passwd");
    let aes = qcow2().be32(32, 1);
    let feature = |byte: usize, bit: u8| qcow2().put(byte, &[bit]);
    vec![
        ("B-1", qcow1(), "qcow1", 90, Warn, &[FormatDeprecated]),
        ("B-3", passwd, "qcow1", 90, Refuse, &[ExtBacking, PathAbsolute, BackingFormatMissing]),
        ("B-4", qcow2_v2(), "qcow2", 90, Accept, &[]),
        ("B-5", qcow2(), "qcow2", 95, Accept, &[]),
        ("B-6", qcow2().put(79, &[8]).put(104, &[1]), "qcow2", 95, Accept, &[]),
        ("B-7", feature(79, 0x10), "qcow2", 95, Accept, &[]),
        ("B-8", feature(87, 1), "qcow2", 95, Accept, &[]),
        ("B-9", extended(feature(79, 4), b"ext.raw"), "qcow2", 95, Refuse, &[ExtDatafile]),
        (
            "B-10",
            extended(feature(79, 4).put(95, &[2]), b"ext2.raw"),
            "qcow2",
            95,
            Refuse,
            &[ExtDatafile, DatafileRaw],
        ),
        ("B-11", backed(b"qcow2-v3.qcow2"), "qcow2", 95, Refuse, &[ExtBacking]),
        (
            "B-12",
            backed(b"/etc/passwd"),
            "qcow2",
            95,
            Refuse,
            &[ExtBacking, PathAbsolute, BackingFormatMissing],
        ),
        ("B-13", backed(b"json:{\"driver\":\"file\"}"), "qcow2", 95, Refuse, &[ExtProtocol]),
        ("B-14", backed(b"nbd://host/export"), "qcow2", 95, Refuse, &[ExtProtocol]),
        ("B-15", qcow2().be64(8, 0x300), "qcow2", 75, Refuse, &[ExtBacking, Structure]),
        (
            "B-16",
            extended(feature(79, 4), b"/etc/passwd"),
            "qcow2",
            95,
            Refuse,
            &[ExtDatafile, PathAbsolute],
        ),
        ("B-17", extended(qcow2(), b"ext.raw"), "qcow2", 95, Refuse, &[ExtDatafileLatent]),
        ("B-18", feature(79, 4), "qcow2", 75, Refuse, &[ExtDatafile]),
        ("B-19", qcow2().be32(32, 2), "qcow2", 95, Warn, &[Encrypted]),
        ("B-20", aes, "qcow2", 95, Warn, &[Encrypted, EncryptionWeak]),
        ("B-22", qcow2_v2().be32(72, 7).be32(76, 5), "qcow2", 90, Accept, &[]),
        ("B-23", qcow2().be32(4, 4), "qcow2", 60, Refuse, &[VersionUnsupported]),
        ("B-23", qcow2().be32(4, u32::MAX), "qcow2", 60, Refuse, &[VersionUnsupported]),
        ("B-24", qcow2().be32(4, 0), "qcow2", 60, Refuse, &[VersionUnsupported]),
        ("B-25", feature(72, 0x80), "qcow2", 60, Refuse, &[FeatureUnknown]),
        ("B-25", feature(79, 0x20), "qcow2", 60, Refuse, &[FeatureUnknown]),
        ("B-26", feature(79, 1), "qcow2", 75, Warn, &[Dirty]),
        ("B-26", feature(79, 2), "qcow2", 75, Warn, &[Corrupt]),
        ("B-27", qcow2().be32(20, 30), "qcow2", 60, Refuse, &[Structure]),
        ("B-28", qcow2().be32(100, 0x7FFF_FFFF), "qcow2", 60, Refuse, &[Structure]),
        ("B-28", qcow2().be32(100, 96), "qcow2", 60, Refuse, &[Structure]),
        ("B-29", qcow2().be64(24, u64::MAX), "qcow2", 60, Refuse, &[SizeExcessive]),
        ("B-30", qcow2().be32(36, u32::MAX), "qcow2", 60, Refuse, &[TableExcessive]),
        ("B-31", qcow2().be32(60, 65_537), "qcow2", 60, Refuse, &[TableExcessive]),
        ("B-32", qcow2().be32(112, 7).be32(116, 0xFFFF_FFF0), "qcow2", 60, Refuse, &[Structure]),
        ("B-33", qcow2().truncate(4), "raw", 1, Warn, &[RawFallback, Truncated]),
        ("B-33", qcow2().truncate(40), "qcow2", 60, Refuse, &[Truncated]),
        ("B-33", qcow2().truncate(104), "qcow2", 60, Refuse, &[]),
        ("B-33", qcow2().truncate(511), "qcow2", 60, Refuse, &[]),
        ("B-34", qcow2().append(&[0xA5; 65_536]), "qcow2", 95, Warn, &[TrailingData]),
    ]
}

fn other_rows() -> Vec<Row> {
    let qed_backed = qed().le64(16, 1).le32(56, 0x100).le32(60, 4).put(0x100, b"base");
    let child = vdi().le32(0x4C, 4).put(0x1A8, &[1; 16]).put(0x1B8, &[2; 16]);
    let huge = vdi().le64(0x170, 1 << 62).le32(0x180, u32::MAX);
    vec![
        ("C-1", qed(), "qed", 90, Warn, &[FormatDeprecated]),
        ("C-2", qed_backed, "qed", 90, Refuse, &[ExtBacking]),
        ("C-3", qed().put(16, &[0x80]), "qed", 60, Refuse, &[FeatureUnknown]),
        ("C-3", qed().put(16, &[2]), "qed", 75, Warn, &[Dirty]),
        ("C-4", vdi(), "vdi", 95, Accept, &[]),
        ("C-5", vdi().le32(0x4C, 2), "vdi", 95, Accept, &[]),
        ("C-6", child, "vdi", 95, Refuse, &[Parent]),
        ("C-7", vdi().le32(0x4C, 3), "vdi", 75, Refuse, &[Parent]),
        ("C-8", vdi().put(0, &[0; 64]), "vdi", 90, Accept, &[]),
        ("C-9", vdi().le32(0x44, 1), "vdi", 60, Refuse, &[VersionUnsupported]),
        ("C-10", huge, "vdi", 60, Refuse, &[SizeExcessive, TableExcessive]),
        ("C-11", vdi().le32(0x178, 3), "vdi", 60, Refuse, &[Structure]),
    ]
}

#[test]
fn every_vector_is_named_scored_and_judged_as_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut wrong = Vec::new();
    for (id, image, format, score, verdict, wanted) in
        [raw_rows(), qcow_rows(), other_rows()].into_iter().flatten()
    {
        let storage = MemStorage::from_bytes(&image.0);
        let options = InspectOptions::default();
        let report = runtime.block_on(inspect(&*storage, &options, &registry())).unwrap();
        let codes: Vec<Code> = report.findings.iter().map(|finding| finding.code).collect();
        let found = (image.named(), report.verdict);
        let missing: Vec<&Code> = wanted.iter().filter(|code| !codes.contains(code)).collect();
        if found != ((format.to_owned(), score), verdict) || !missing.is_empty() {
            wrong.push(format!("{id}: {found:?}, lacks {missing:?} among {codes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
