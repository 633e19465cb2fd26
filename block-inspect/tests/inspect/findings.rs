//! Every risk of every format raises its code, and sound files are accepted.

use crate::images::*;
use block_core::MemStorage;
use block_inspect::{Code, InspectLimits, InspectOptions, InspectReport, Policy, Verdict, inspect};

fn judge(image: &Image, options: &InspectOptions) -> InspectReport {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let storage = MemStorage::from_bytes(&image.0);
    runtime.block_on(inspect(&*storage, options, &registry())).unwrap()
}

fn look(image: &Image) -> InspectReport {
    judge(image, &InspectOptions::default())
}

fn codes(report: &InspectReport) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// The codes that a file must at least raise, and the verdict.
type Row = (&'static str, Image, &'static [Code], Verdict);

fn check(rows: Vec<Row>) {
    assert!(!rows.is_empty());
    for (what, image, wanted, verdict) in rows {
        let report = look(&image);
        let found = codes(&report);
        for code in wanted {
            assert!(found.contains(code), "{what}: no {code} among {:#?}", report.findings);
        }
        assert_eq!(report.verdict, verdict, "{what}: {:#?}", report.findings);
    }
}

#[test]
fn sound_files_raise_nothing() {
    for (what, image) in [
        ("qcow2", qcow2()),
        ("qcow2 v2", qcow2_v2()),
        ("qcow2 v2 with an extension of length 5", qcow2_v2().be32(72, 7).be32(76, 5)),
        ("vdi", vdi()),
        ("vhdx", vhdx()),
        ("vmdk", vmdk()),
        ("vmdk stream", vmdk_stream()),
        ("parallels", parallels()),
        ("bochs", bochs()),
        ("dmg", dmg()),
        ("cloop", cloop_blocks()),
        ("android", android_small()),
        ("iso", iso()),
    ] {
        let report = look(&image);
        assert!(codes(&report).is_empty(), "{what}: {:#?}", report.findings);
        assert_eq!(report.verdict, Verdict::Accept, "{what}");
    }
    // A VHD always names the program that created it.
    for image in [vhd_dynamic(), vhd_fixed()] {
        let report = look(&image);
        assert!(
            codes(&report).iter().all(|c| matches!(c, Code::Creator | Code::SizeDisagree)),
            "{:?}",
            report.findings
        );
    }
}

fn android_small() -> Image {
    android().le32(16, 16).le32(32, 16)
}

fn extension(image: Image, id: u32, data: &[u8]) -> Image {
    image.be32(112, id).be32(116, data.len() as u32).put(120, data)
}

fn backed(name: &[u8]) -> Image {
    qcow2().be64(8, 0x300).be32(16, name.len() as u32).put(0x300, name)
}

/// A qcow2 image with one snapshot that has an L1 table.
fn snapshot(l1: u64, entries: u32) -> Image {
    let at = 0x2_8000;
    qcow2().be32(60, 1).be64(64, at as u64).be64(at, l1).be32(at + 8, entries).be16(at + 12, 1)
}

fn qcow2_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    const DATA: u32 = 0x4441_5441;
    vec![
        ("backing", backed(b"base.qcow2"), &[ExtBacking, BackingFormatMissing], Refuse),
        (
            "backing format",
            extension(backed(b"base"), 0xE279_2ACA, b"qcow2"),
            &[ExtBacking],
            Refuse,
        ),
        ("absolute backing", backed(b"/etc/passwd"), &[ExtBacking, PathAbsolute], Refuse),
        ("json backing", backed(b"json:{}"), &[ExtProtocol], Refuse),
        ("nbd backing", backed(b"nbd://host/x"), &[ExtProtocol], Refuse),
        ("backing of no length", qcow2().be64(8, 0x300), &[ExtBacking, Structure], Refuse),
        ("traversal", backed(b"../../x"), &[PathTraversal], Refuse),
        ("data file", extension(qcow2().put(79, &[4]), DATA, b"ext.raw"), &[ExtDatafile], Refuse),
        (
            "absolute data file",
            extension(qcow2().put(79, &[4]), DATA, b"/etc/passwd"),
            &[ExtDatafile, PathAbsolute],
            Refuse,
        ),
        ("data file without name", qcow2().put(79, &[4]), &[ExtDatafile], Refuse),
        ("latent data file", extension(qcow2(), DATA, b"ext.raw"), &[ExtDatafileLatent], Refuse),
        (
            "raw data file",
            extension(qcow2().put(79, &[4]).put(95, &[2]), DATA, b"e"),
            &[ExtDatafile, DatafileRaw],
            Refuse,
        ),
        ("raw data file without data file", qcow2().put(95, &[2]), &[FeatureInconsistent], Refuse),
        ("unknown feature", qcow2().put(72, &[0x80]), &[FeatureUnknown], Refuse),
        ("dirty", qcow2().put(79, &[1]), &[Dirty], Warn),
        ("corrupt", qcow2().put(79, &[2]), &[Corrupt], Warn),
        ("compression type", qcow2().put(104, &[1]), &[FeatureInconsistent], Refuse),
        ("snapshots", snapshot(0x3_0000, 1), &[Snapshots], Warn),
        ("snapshot without a map", snapshot(0, 0), &[Snapshots, Structure], Refuse),
        ("snapshot map behind the end", snapshot(1 << 40, 1), &[OutOfBounds], Refuse),
        ("snapshot map too large", snapshot(0x3_0000, 1 << 28), &[TableExcessive], Refuse),
        ("too many snapshots", qcow2().be32(60, 65_537), &[TableExcessive], Refuse),
        ("bitmaps", extension(qcow2().put(95, &[1]), 0x2385_2875, &[0; 24]), &[Bitmaps], Accept),
        ("luks", qcow2().be32(32, 2), &[Encrypted], Warn),
        ("aes", qcow2().be32(32, 1), &[Encrypted, EncryptionWeak], Warn),
        ("size", qcow2().be64(24, u64::MAX), &[SizeExcessive], Refuse),
        ("L1", qcow2().be32(36, u32::MAX), &[TableExcessive, OutOfBounds], Refuse),
        ("refcount table", qcow2().be32(56, 1 << 20), &[TableExcessive, OutOfBounds], Refuse),
        ("snapshot table over L1", qcow2().be32(60, 1).be64(64, 0x3_0000), &[Overlap], Refuse),
        ("name over L1", backed(b"base").be64(8, 0x3_0000), &[Overlap], Refuse),
        ("L1 behind the end", qcow2().be64(40, 1 << 40), &[OutOfBounds], Refuse),
        ("extension overrun", qcow2().be32(112, 7).be32(116, 0xFFFF_FFF0), &[Structure], Refuse),
        ("L1 over the header", qcow2().be64(40, 0), &[Overlap], Refuse),
        ("L1 over refcounts", qcow2().be64(40, 0x1_0000), &[Overlap], Refuse),
        ("trailing data", qcow2().append(&[0x55; 0x1_0000]), &[TrailingData], Warn),
        ("slack", qcow2().put(0x800, b"hidden"), &[SlackNonzero], Warn),
        ("version", qcow2().be32(4, 4), &[VersionUnsupported], Refuse),
        ("version 0", qcow2().be32(4, 0), &[VersionUnsupported], Refuse),
        ("cluster bits", qcow2().be32(20, 30), &[Structure], Refuse),
        ("cut", qcow2().truncate(511), &[OutOfBounds], Refuse),
        ("cut in the header", qcow2().truncate(40), &[Truncated], Refuse),
        ("qcow1", qcow1(), &[FormatDeprecated], Warn),
        (
            "qcow1 backing",
            qcow1().be64(8, 0x200).be32(16, 11).put(0x200, b"/etc/passwd"),
            &[ExtBacking, PathAbsolute, BackingFormatMissing],
            Refuse,
        ),
        ("qcow1 size", qcow1().be64(24, 1 << 55), &[TableExcessive], Refuse),
        ("qed", qed(), &[FormatDeprecated], Warn),
        (
            "qed backing",
            qed().le64(16, 1).le32(56, 0x100).le32(60, 4).put(0x100, b"base"),
            &[ExtBacking, BackingFormatMissing],
            Refuse,
        ),
        (
            "qed backing that is raw",
            qed().le64(16, 5).le32(56, 0x100).le32(60, 4).put(0x100, b"/etc"),
            &[ExtBacking, PathAbsolute],
            Refuse,
        ),
        ("qed feature", qed().le64(16, 0x80), &[FeatureUnknown], Refuse),
        ("qed dirty", qed().le64(16, 2), &[Dirty], Warn),
        (
            "cow",
            Image::zeros(2048).put(0, b"OOOM").be32(4, 2).put(8, b"base"),
            &[ExtBacking, FormatDeprecated],
            Refuse,
        ),
    ]
}

#[test]
fn qcow2_risks_raise_their_codes() {
    check(qcow2_rows());
}

fn vdi_and_vhd_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::{Refuse, Warn};
    let footer_edit = |at: usize, bytes: &[u8]| vhd_fixed().put_end(512 - at, bytes);
    vec![
        ("vdi differencing", vdi().le32(0x4C, 4).put(0x1A8, &[1; 16]), &[Parent], Refuse),
        ("vdi undo", vdi().le32(0x4C, 3), &[Parent], Refuse),
        ("vdi parent state", vdi().put(0x1B8, &[1; 16]), &[Parent], Refuse),
        ("vdi map", vdi().le32(0x180, 536_870_784), &[TableExcessive, OutOfBounds], Refuse),
        ("vdi block size", vdi().le32(0x178, 3), &[Structure], Refuse),
        ("vdi of version 0 that is a difference", vdi_0().le32(0x48, 4), &[Parent], Refuse),
        ("vdi of version 0 that is short", vdi_0().le32(0x170, 3), &[OutOfBounds], Refuse),
        ("vdi extra", vdi().le32(0x17C, 512), &[FeatureUnknown], Refuse),
        ("vdi size", vdi().le64(0x170, 1 << 62), &[SizeExcessive], Refuse),
        ("vdi data over map", vdi().le32(0x158, 0x200), &[Overlap], Refuse),
        ("vdi version", vdi().le32(0x44, 1), &[VersionUnsupported], Refuse),
        ("vdi tail", vdi().append(&[1; 512]), &[TrailingData], Warn),
        ("vhd parent", vhd_diff(&[(b"W2ru", ".\\base.vhd")]), &[Parent], Refuse),
        (
            "vhd relative locator",
            vhd_diff(&[(b"W2ru", "..\\..\\base.vhd")]),
            &[Parent, PathTraversal],
            Refuse,
        ),
        (
            "vhd absolute locator",
            vhd_diff(&[(b"W2ku", "C:\\base.vhd")]),
            &[Parent, PathAbsolute],
            Refuse,
        ),
        (
            "vhd locators of other kinds",
            vhd_diff(&[
                (b"Wi2r", "../a"),
                (b"Wi2k", "C:\\a"),
                (b"MacX", "file:///a"),
                (b"Mac ", "a"),
            ]),
            &[Parent, PathTraversal, PathAbsolute],
            Refuse,
        ),
        ("vhd copies", vhd_dynamic().put(0x44, &[8]), &[CopyMismatch], Refuse),
        ("vhd one copy", vhd_dynamic().put(0, &[0; 512]), &[CopyMismatch], Refuse),
        ("vhd checksum", footer_edit(0x44, &[9]), &[Checksum], Refuse),
        ("vhd header checksum", vhd_dynamic().put(512 + 0x18, &[9]), &[Checksum], Refuse),
        ("vhd saved state", footer_edit(0x54, &[1]), &[SavedState], Refuse),
        ("vhd sizes", footer_edit(0x28, &[0, 0, 0, 1]), &[SizeDisagree], Refuse),
        (
            "vhd table",
            vhd_dynamic().be32(512 + 0x1C, u32::MAX),
            &[TableExcessive, OutOfBounds],
            Refuse,
        ),
    ]
}

#[test]
fn vdi_and_vhd_risks_raise_their_codes() {
    check(vdi_and_vhd_rows());
}

/// A VHDX with two log entries. The newer one expects a file of `len` bytes.
fn logged(len: u64) -> Image {
    let entry = |sequence: u64| {
        let entry = Image::zeros(4096)
            .put(0, b"loge")
            .le32(8, 4096)
            .le64(16, sequence)
            .put(32, &[1; 16])
            .le64(48, len)
            .le64(56, len);
        let sum = crc32c(&entry.0);
        entry.le32(4, sum).0
    };
    vhdx()
        .put(0x2_0000, &vhdx_header(8, [1; 16]))
        .put(1 << 20, &entry(5))
        .put((1 << 20) + 4096, &entry(6))
}

/// A VHDX with logical sectors of `size` bytes.
fn with_sectors(size: u32) -> Image {
    let id = uuid::Uuid::parse_str("8141bf1d-a96f-4709-ba47-f233a8faab5f").unwrap().to_bytes_le();
    vhdx()
        .le16((2 << 20) + 10, 3)
        .put((2 << 20) + 96, &id)
        .le32((2 << 20) + 112, 0x1_0020)
        .le32((2 << 20) + 116, 4)
        .le32((2 << 20) + 120, 6)
        .le32((2 << 20) + 0x1_0020, size)
}

#[test]
fn a_log_is_read_and_an_old_one_is_not_held_against_the_file() {
    let told = |image: &Image| {
        let report = look(image);
        let log = report.findings.iter().find(|finding| finding.code == Code::LogReplay);
        log.map(|finding| finding.message.clone())
    };
    let message = told(&logged(4 << 20)).unwrap();
    assert!(message.contains("2 sound entries") && message.contains("number 6"), "{message}");
    let message = told(&logged(4 << 20).put((1 << 20) + 5000, &[1])).unwrap();
    assert!(message.contains("1 sound entries") && message.contains("number 5"), "{message}");
    // The signature of a log entry means nothing if the header names no log.
    assert_eq!(told(&logged(4 << 20).put(0x2_0000, &vhdx_header(8, [0; 16]))), None);
    assert!(codes(&look(&with_sectors(4096))).is_empty());
}

fn vhdx_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::Refuse;
    let guid = |text: &str| uuid::Uuid::parse_str(text).unwrap().to_bytes_le();
    let odd_region = vhdx_regions(|table| {
        table.le32(8, 3).put(80, &[5; 16]).le64(96, 5 << 20).le32(104, 1 << 20).le32(108, 1)
    });
    let overlapping = vhdx_regions(|table| table.le64(32, 2 << 20));
    let locator = 0x20_0000 + 0x1_0010;
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let key = utf16("relative_path");
    let value = utf16("..\\base.vhdx");
    let located = avhdx()
        .le32((2 << 20) + 116, 200)
        .put(locator, &guid("b04aefb7-d19e-4a81-b789-25b8e9445913"))
        .le16(locator + 18, 1)
        .le32(locator + 20, 64)
        .le32(locator + 24, 128)
        .le16(locator + 28, key.len() as u16)
        .le16(locator + 30, value.len() as u16)
        .put(locator + 64, &key)
        .put(locator + 128, &value);
    vec![
        ("log", vhdx().put(0x2_0000, &vhdx_header(8, [1; 16])), &[LogReplay], Refuse),
        ("log with entries", logged(4 << 20), &[LogReplay], Refuse),
        ("log of a longer file", logged(1 << 40), &[LogReplay, OutOfBounds], Refuse),
        (
            "log version",
            vhdx().put(0x2_0000, &{
                let header = Image(vhdx_header(8, [1; 16])).le16(0x40, 1).le32(4, 0);
                let sum = crc32c(&header.0);
                header.le32(4, sum).0
            }),
            &[LogReplay, VersionUnsupported],
            Refuse,
        ),
        (
            "log behind the end",
            vhdx().put(0x2_0000, &{
                let header = Image(vhdx_header(8, [1; 16])).le64(0x48, 1 << 40).le32(4, 0);
                let sum = crc32c(&header.0);
                header.le32(4, sum).0
            }),
            &[LogReplay, OutOfBounds],
            Refuse,
        ),
        ("sector size", with_sectors(520), &[Structure], Refuse),
        ("parent", avhdx(), &[Parent], Refuse),
        ("parent path", located, &[Parent, PathTraversal], Refuse),
        (
            "region",
            vhdx().put(0x3_0000, &odd_region).put(0x4_0000, &odd_region),
            &[FeatureUnknown],
            Refuse,
        ),
        (
            "item",
            vhdx().le16((2 << 20) + 10, 3).put((2 << 20) + 96, &[5; 16]).le32((2 << 20) + 120, 4),
            &[FeatureUnknown],
            Refuse,
        ),
        ("same sequence", vhdx().put(0x1_0000, &vhdx_header(8, [3; 16])), &[CopyMismatch], Refuse),
        (
            "version",
            vhdx().put(0x2_0000, &{
                let header = Image(vhdx_header(8, [0; 16])).le16(0x42, 2).le32(4, 0);
                let sum = crc32c(&header.0);
                header.le32(4, sum).0
            }),
            &[VersionUnsupported],
            Refuse,
        ),
        (
            "overlap",
            vhdx().put(0x3_0000, &overlapping).put(0x4_0000, &overlapping),
            &[Overlap],
            Refuse,
        ),
        ("size", vhdx().le64((2 << 20) + 0x1_0008, 1 << 60), &[SizeExcessive], Refuse),
        ("block size", vhdx().le32((2 << 20) + 0x1_0000, 3), &[Structure], Refuse),
    ]
}

#[test]
fn vhdx_risks_raise_their_codes() {
    check(vhdx_rows());
}

fn descriptor(edit: impl Fn(String) -> String) -> Image {
    Image(edit(DESCRIPTOR.to_owned()).into_bytes())
}

fn embedded(edit: impl Fn(String) -> String) -> Image {
    let text = edit(DESCRIPTOR.to_owned());
    vmdk().put(512, &[0; 1024]).put(512, text.as_bytes())
}

fn vmdk_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    let extent =
        |line: &'static str| move |text: String| text.replace("RW 8192 SPARSE \"disk.vmdk\"", line);
    let add = |line: &'static str| move |text: String| text + line + "\n";
    vec![
        ("extent", descriptor(extent("RW 8192 FLAT \"disk-flat.vmdk\" 0")), &[ExtExtent], Refuse),
        (
            "absolute extent",
            descriptor(extent("RW 8192 FLAT \"/etc/passwd\" 0")),
            &[ExtExtent, PathAbsolute],
            Refuse,
        ),
        ("extent above", descriptor(extent("RW 8192 FLAT \"../x\" 0")), &[PathTraversal], Refuse),
        ("device extent", descriptor(extent("RW 8192 FLAT \"/dev/sda\" 0")), &[ExtDevice], Refuse),
        (
            "physical drive",
            descriptor(extent("RW 8192 FLAT \"\\\\.\\PhysicalDrive0\" 0")),
            &[ExtDevice],
            Refuse,
        ),
        (
            "device type",
            descriptor(|t| t.replace("monolithicSparse", "fullDevice")),
            &[ExtDevice],
            Refuse,
        ),
        (
            "embedded extent",
            embedded(extent("RW 8192 FLAT \"/etc/passwd\" 0")),
            &[ExtExtent, PathAbsolute],
            Refuse,
        ),
        (
            "parent hint",
            embedded(add("parentFileNameHint=\"/etc/passwd\"")),
            &[ExtParent, PathAbsolute],
            Refuse,
        ),
        (
            "parent id",
            embedded(|t| t.replace("parentCID=ffffffff", "parentCID=12345678")),
            &[ExtParent],
            Refuse,
        ),
        ("text after NUL", embedded(add("\0parentFileNameHint=\"x\"")), &[TextNul], Refuse),
        ("duplicate key", embedded(add("CID=12345678")), &[DupKey], Refuse),
        (
            "duplicate key in another case",
            embedded(add("CREATETYPE=\"x\"")),
            &[DupKey, Noncanonical],
            Refuse,
        ),
        (
            "key in another case",
            embedded(|t| t.replace("createType", "CreateType")),
            &[Noncanonical],
            Warn,
        ),
        (
            "descriptor tail",
            vmdk().le64(0x24, 1).put(1024, b"parentFileNameHint=\"x\""),
            &[DescTail],
            Refuse,
        ),
        ("hidden descriptor", vmdk().le64(0xC, 0), &[HiddenDescriptor], Refuse),
        ("footer", vmdk_stream().put_end(1024 - 0xC, &[0xFF; 4]), &[CopyMismatch], Refuse),
        (
            "descriptor place",
            vmdk().le64(0x1C, 2).put(1024, DESCRIPTOR.as_bytes()),
            &[Structure],
            Refuse,
        ),
        ("unclean", vmdk().put(0x48, &[1]), &[Dirty], Warn),
        ("version", vmdk().le32(4, 4), &[FeatureUnknown, VersionUnsupported], Refuse),
        ("flags", vmdk().le32(8, 0x103), &[FeatureUnknown], Refuse),
        ("encryption", embedded(add("encryption.keySafe=\"x\"")), &[Encrypted], Warn),
        (
            "change tracking",
            embedded(add("changeTrackPath=\"disk-ctk.vmdk\"")),
            &[ExtExtent],
            Accept,
        ),
        ("byte order mark", descriptor(|t| "\u{feff}".to_owned() + &t), &[Noncanonical], Refuse),
        (
            "COWD parent",
            cowd().le32(8, 0).put(0x20, b"../base.vmdk"),
            &[ExtParent, PathTraversal],
            Refuse,
        ),
        ("seSparse journal", sesparse().le64(512 + 0x18, 1), &[LogReplay], Refuse),
        ("slack", vmdk().put(0x100, &[1]), &[SlackNonzero], Warn),
    ]
}

#[test]
fn vmdk_risks_raise_their_codes() {
    check(vmdk_rows());
}

/// A table of chunks: kind, first sector, sectors, place and length of each.
fn mish(chunks: &[[u64; 5]], count: u32) -> Vec<u8> {
    let table = Image::zeros(204).put(0, b"mish").be32(4, 1).be64(16, 8).be32(200, count);
    chunks
        .iter()
        .fold(table, |table, [kind, first, sectors, at, len]| {
            let chunk = Image::zeros(40).be32(0, *kind as u32).be64(8, *first).be64(16, *sectors);
            table.append(&chunk.be64(24, *at).be64(32, *len).0)
        })
        .0
}

const RAW_CHUNK: [u64; 5] = [1, 0, 8, 0, 4096];
const END_CHUNK: [u64; 5] = [0xFFFF_FFFF, 8, 0, 0, 0];

fn dmg_chunks(chunks: &[[u64; 5]]) -> Image {
    dmg_with(&mish(chunks, chunks.len() as u32))
}

/// A disk image whose property list holds one table in base64, with line breaks as writers put them.
fn dmg_with(table: &[u8]) -> Image {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (index, three) in table.chunks(3).enumerate() {
        let mut word = [0; 4];
        word[1..=three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes(word);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= three.len() { digit } else { '=' });
        }
        if index % 11 == 10 {
            text.push_str("\n\t\t\t\t");
        }
    }
    let list = format!(
        "<?xml version=\"1.0\"?><plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict>\
         <key>Data</key><data>\n{text}\n</data></dict></array></dict></dict></plist>"
    );
    Image::zeros(4096)
        .put(0, &[0x78, 0x9C])
        .append(list.as_bytes())
        .append(&koly(4096, (4096, list.len() as u64)))
}

/// A disk image whose only table is in a resource fork.
fn dmg_fork(table: &[u8]) -> Image {
    let body = Image::zeros(4).be32(0, table.len() as u32).append(table);
    let len = body.0.len() as u32;
    let fork = Image::zeros(256).be32(0, 256).be32(4, 256 + len).be32(8, len).append(&body.0);
    let koly = Image(koly(4096, (0, 0))).be64(0x28, 4096).be64(0x30, fork.0.len() as u64);
    Image::zeros(4096).append(&fork.0).append(&koly.0)
}

/// A cloop image with its table of offsets filled in.
fn cloop_blocks() -> Image {
    (0..5).fold(cloop().append(&[0; 1 << 18]), |image, block| {
        image.be64(136 + 8 * block, 176 + 100 * block as u64)
    })
}

/// An ASIF image with chunks of 32 KiB and one table, whose first entry is `entry`.
fn asif_table(entry: u64) -> Image {
    let image = asif().be32(64, 0x8000).be64(48, 128).be64(512, 7).be64(520, 1).be64(1024, 6);
    image.append(&[0; 0x1_8000]).be64(0x8000, entry)
}

/// Adds a section descriptor at `at`. Its predecessor is at `before`.
fn ewf2_section(image: Image, at: usize, kind: u32, before: u64) -> Image {
    let section = Image::zeros(64).le32(0, kind).le64(8, before).le32(24, 64);
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &section.0[..60] {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    image.put(at, &section.le32(60, (b << 16) | a).0)
}

/// An EWF version 2 file with two sections, the last one of type `last`.
fn ewf2(last: u32) -> Image {
    let head = Image::zeros(0x240).put(0, b"EVF2\r\n\x81\0").put(8, &[2, 1, 1, 0]).le32(12, 1);
    ewf2_section(ewf2_section(head, 0x100, 1, 0), 0x200, last, 0x100)
}

fn bytes(bytes: &[u8]) -> Image {
    Image::zeros(256).put(0, bytes)
}

fn lz4_bomb() -> Image {
    bytes(&[0x04, 0x22, 0x4D, 0x18, 0x6C, 0x40]).le64(6, 1 << 30)
}

/// An XZ stream whose index lists one block of `len` bytes.
fn xz_stating(len: u64) -> Image {
    let flags = [0u8, 4];
    let mut index = vec![0, 1, 20];
    let mut rest = len;
    while rest > 0x7F {
        index.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    index.push(rest as u8);
    index.resize(index.len().next_multiple_of(4), 0);
    let sum = crc32(&index);
    index.extend(sum.to_le_bytes());
    let words = (index.len() / 4 - 1) as u32;
    let mut tail = words.to_le_bytes().to_vec();
    tail.extend(flags);
    let sum = crc32(&tail);
    Image::zeros(64)
        .put(0, b"\xFD7zXZ\0")
        .put(6, &flags)
        .le32(8, crc32(&flags))
        .append(&index)
        .append(&sum.to_le_bytes())
        .append(&tail)
        .append(b"YZ")
}

fn other_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    let json = r#"{"keyslots":{"0":{"kdf":{"type":"argon2id","memory":4194304}}}}"#;
    let bundle = |name: &str| Image(PARALLELS_XML.replace("root.hds", name).into_bytes());
    vec![
        ("parallels dirty", parallels().le32(44, 0x746F_6E59), &[Dirty], Warn),
        ("parallels extension", parallels().le64(56, 3), &[Feature], Warn),
        ("parallels table", parallels().le32(32, u32::MAX), &[TableExcessive], Refuse),
        ("parallels bundle", bundle("root.hds"), &[ExtExtent], Refuse),
        ("parallels bundle above", bundle("../x.hds"), &[PathTraversal], Refuse),
        (
            "parallels snapshot",
            Image(
                PARALLELS_XML
                    .replace("<Storage>", "<ParentGUID>{1}</ParentGUID><Storage>")
                    .into_bytes(),
            ),
            &[Parent],
            Refuse,
        ),
        ("dmg segments", dmg().put_end(512 - 0x3C, &[0, 0, 0, 2]), &[ExtExtent], Refuse),
        ("dmg chunks", dmg_chunks(&[RAW_CHUNK, END_CHUNK]), &[], Accept),
        (
            "dmg chunk past the disk",
            dmg_chunks(&[[0, 0, 9, 0, 0]]),
            &[SizeExcessive],
            Refuse,
        ),
        (
            "dmg chunk too long",
            dmg_chunks(&[[0x8000_0005, 0, 8, 0, 65 << 20]]),
            &[SizeExcessive, OutOfBounds],
            Refuse,
        ),
        (
            "dmg chunk that unpacks to too much",
            dmg_chunks(&[[0x8000_0005, 0, 1 << 18, 0, 64]]).put_end(512 - 0x1EC, &(1u64 << 18).to_be_bytes()),
            &[SizeExcessive, Bomb],
            Refuse,
        ),
        ("dmg chunk of no known kind", dmg_chunks(&[[7, 0, 8, 0, 0]]), &[FeatureUnknown], Refuse),
        (
            "dmg chunk table cut short",
            dmg_with(&mish(&[RAW_CHUNK], 9)),
            &[TableExcessive],
            Refuse,
        ),
        ("dmg table of another kind", dmg_with(b"nothing of the kind"), &[Structure], Refuse),
        ("dmg resource fork", dmg_fork(&mish(&[[0, 0, 9, 0, 0]], 1)), &[SizeExcessive], Refuse),
        ("dmg size", dmg().put_end(512 - 0x1EC, &[0x10]), &[SizeExcessive, Bomb], Refuse),
        (
            "dmg encrypted",
            Image::zeros(256).put(0, b"encrcdsa").be32(8, 2).be32(0x34, 512),
            &[Encrypted],
            Warn,
        ),
        ("bochs overlay", bochs().put(48, b"Volatile\0"), &[Parent], Refuse),
        ("bochs catalog", bochs().le32(72, 0x20_0000), &[TableExcessive, OutOfBounds], Refuse),
        ("cloop table", cloop().be32(132, 67_108_862), &[TableExcessive, Bomb], Refuse),
        (
            "cloop block that grows",
            cloop_blocks().be64(144, 408 + 0x2_0001).be64(152, 408 + 0x2_0002),
            &[Bomb],
            Refuse,
        ),
        ("cloop blocks out of order", cloop_blocks().be64(144, 100), &[Structure], Refuse),
        ("asif dirty", asif_table(1 << 62), &[Dirty], Warn),
        ("asif dirty, other bit", asif_table(1 << 63), &[Dirty], Warn),
        ("asif clean", asif_table(5), &[], Accept),
        (
            "asif metadata",
            asif_table(0).be64(72, 3).put(0x1_8000, b"meta").be32(0x1_8008, 0x200).be64(0x1_800C, 2 << 20),
            &[TableExcessive],
            Refuse,
        ),
        ("asif table behind the end", asif_table(0).be64(520, 1 << 40), &[OutOfBounds], Refuse),
        ("ewf2", ewf2(0x0F), &[], Accept),
        ("ewf2 segments", ewf2(0x0D), &[ExtExtent], Refuse),
        ("ewf2 second segment", ewf2(0x0F).le32(12, 2), &[ExtExtent], Refuse),
        ("ewf2 without its end", ewf2(3), &[Truncated], Warn),
        ("ewf2 loop", ewf2_section(ewf2(0x0F), 0x200, 0x0F, 0x200), &[Loop], Refuse),
        ("ewf2 chain that leaves the file", ewf2_section(ewf2(0x0F), 0x200, 0x0F, 8), &[OutOfBounds], Refuse),
        ("ewf2 checksum", ewf2(0x0F).put(0x204, &[0x10]), &[Checksum], Refuse),
        ("ewf2 keys", ewf2_section(ewf2(0x0F), 0x100, 0x0B, 0), &[Encrypted], Warn),
        (
            "ewf chunk",
            ewf(b"EVF\x09\r\n\xFF\0")
                .put(0x100, b"volume\0")
                .le64(0x110, 0x190)
                .le32(0x100 + 76 + 8, 1 << 20)
                .le32(0x100 + 76 + 12, 512),
            &[TableExcessive],
            Refuse,
        ),
        ("gzip bomb", bytes(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3]).put_end(4, &[0, 0, 0, 0x40]), &[Bomb, Wrapper], Refuse),
        ("zstd bomb", bytes(&[0x28, 0xB5, 0x2F, 0xFD, 0xA0, 0, 0, 0, 0x40]), &[Bomb, Wrapper], Refuse),
        ("zstd window", bytes(&[0x28, 0xB5, 0x2F, 0xFD, 0x80, 9, 0, 0, 0, 0x40]), &[Bomb], Refuse),
        ("zstd small", bytes(&[0x28, 0xB5, 0x2F, 0xFD, 0x20, 200]), &[Wrapper], Warn),
        ("lz4 bomb", lz4_bomb(), &[Bomb, Wrapper], Refuse),
        ("lzip bomb", bytes(b"LZIP\x01\x0C").put_end(16, &[0, 0, 0, 0x40]), &[Bomb, Wrapper], Refuse),
        ("xz bomb", xz_stating(1 << 30), &[Bomb, Wrapper], Refuse),
        ("xz", xz_stating(1000), &[Wrapper], Warn),
        ("zip of many members", zip("a", "").put_end(12, &[9, 0]), &[TableExcessive], Refuse),
        ("zip64", zip("a", "").put_end(12, &[0xFF, 0xFF]), &[Feature, TableExcessive], Refuse),
        ("ovf", Image(b"<?xml version=\"1.0\"?><Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"/>".to_vec()), &[ExtExtent], Refuse),
        ("bundle with a name in a folder", bundle("sub/x.hds"), &[ExtExtent], Refuse),
        ("bundle with an absolute name", bundle("/x.hds"), &[ExtExtent, PathAbsolute], Refuse),
        ("bundle with a document type", Image(PARALLELS_XML.replace("<Parallels", "<!DOCTYPE x><Parallels").into_bytes()), &[Noncanonical], Refuse),
        ("luks1", luks1(), &[Encrypted], Warn),
        ("luks1 cost", luks1().be32(212, 20_000_000), &[KdfCost], Refuse),
        ("luks1 detached", luks1().be32(104, 0), &[ExtDatafile], Refuse),
        ("luks1 slack", luks1().put(1000, &[1]), &[SlackNonzero], Warn),
        ("luks2", luks2("{}"), &[Encrypted], Warn),
        ("luks2 cost", luks2(json), &[KdfCost], Refuse),
        (
            "luks2 re-encryption",
            luks2(r#"{"requirements":["online-reencrypt"]}"#),
            &[Reencrypt],
            Warn,
        ),
        ("luks2 headers", luks2("{}").be64(0x4000 + 16, 9), &[CopyMismatch], Refuse),
        ("ewf segments", ewf(b"EVF\x09\r\n\xFF\0").put(0x100, b"next\0"), &[ExtExtent], Refuse),
        (
            "ewf loop",
            ewf(b"EVF\x09\r\n\xFF\0").put(0x100, b"table\0").le64(0x110, 0x20),
            &[Loop],
            Refuse,
        ),
        ("zip path", zip("../../etc/passwd", ""), &[PathTraversal, Wrapper], Refuse),
        ("zip bomb", zip("a", "").put(31 + 24, &[0, 0, 0, 0x40]), &[Bomb], Refuse),
        ("android size", android().le32(16, 0x1000_0000), &[SizeExcessive], Refuse),
        (
            "viso",
            Image(
                b"--iprt-iso-maker-file-marker=01234567-89ab-cdef-0123-456789abcdef /x=/etc"
                    .to_vec(),
            ),
            &[ExtHostpath],
            Refuse,
        ),
        ("iso volume", iso().le32(0x8050, 4096).be32(0x8054, 4096), &[SizeDisagree], Warn),
        ("hybrid iso", with_mbr(iso()), &[PtHybrid], Accept),
        ("gzip", Image::zeros(64).put(0, &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 3]), &[Wrapper], Warn),
        (
            "saved state",
            Image::zeros(128).put(0, b"LibvirtQemudSave").le32(16, 2),
            &[NotADisk],
            Refuse,
        ),
    ]
}

#[test]
fn risks_of_the_other_formats_raise_their_codes() {
    check(other_rows());
}

/// A disk whose backup GPT describes other partitions, with every checksum correct.
fn two_gpts() -> Image {
    let disk = gpt(512);
    let last = disk.0.len() - 512;
    let table = (last / 512 - 32) * 512;
    let disk = disk.put(table, &[0xCC; 16]);
    let sum = crc32(&disk.0[table..table + 128 * 128]);
    let disk = disk.le32(last + 88, sum).le32(last + 16, 0);
    let sum = crc32(&disk.0[last..last + 92]);
    disk.le32(last + 16, sum)
}

fn raw_rows() -> Vec<Row> {
    use Code::*;
    use Verdict::{Refuse, Warn};
    vec![
        ("zeros", Image::zeros(4096), &[RawFallback], Warn),
        ("nothing", Image::zeros(0), &[Empty], Warn),
        ("a byte", Image::zeros(1), &[RawFallback, Truncated], Warn),
        ("a bare magic", qcow2().truncate(4), &[RawFallback, Truncated], Warn),
        ("mbr", with_mbr(Image::zeros(1 << 20)), &[RawFallback], Warn),
        (
            "mbr status",
            with_mbr(Image::zeros(1 << 20)).put(462, &[0x55]).put(466, &[7]).le32(470, 1),
            &[RawFallback, PtBad],
            Warn,
        ),
        ("gpt without backup", gpt(512).put_end(512, &[0; 512]), &[CopyMismatch], Warn),
        ("gpt without primary", gpt(512).put(512, &[0; 512]), &[CopyMismatch], Warn),
        ("gpt checksum", gpt(512).put(530, &[0xAA]), &[Checksum], Warn),
        (
            "gpt without a sound copy",
            gpt(512).put(530, &[0xAA]).put_end(512, &[0; 512]),
            &[Checksum, CopyMismatch],
            Refuse,
        ),
        ("two sound gpts that differ", two_gpts(), &[CopyMismatch], Refuse),
        (
            "protective entry not the first",
            gpt(512).put(446, &[0; 16]).put(466, &[0xEE]).le32(470, 1).le32(474, 2047),
            &[PtBad],
            Warn,
        ),
        ("hybrid mbr", gpt(512).put(466, &[7]).le32(470, 40).le32(474, 20), &[PtHybrid], Warn),
        (
            "partition behind the end",
            gpt(512).put(466, &[7]).le32(470, 40).le32(474, 1 << 30),
            &[PtBad],
            Warn,
        ),
        (
            "two file systems",
            Image::zeros(1 << 20)
                .put(0, b"XFSB")
                .be32(4, 4096)
                .be64(8, 256)
                .le32(0x400, 16)
                .le32(0x404, 1024)
                .put(0x438, &[0x53, 0xEF]),
            &[PtBad],
            Warn,
        ),
        ("polyglot", vdi().put(0, b"QFI\xFB\0\0\0\x03"), &[Polyglot], Refuse),
        (
            "nested",
            qcow2().append(&vhd_footer(2, 0x4_0000, u64::MAX, b"win ")),
            &[Polyglot, NestedContainer],
            Refuse,
        ),
    ]
}

#[test]
fn raw_disks_and_partition_tables_raise_their_codes() {
    check(raw_rows());
}

#[test]
fn a_declared_format_that_the_content_belies_is_refused() {
    let declared = |image: &Image, format: &str| {
        codes(&judge(image, &InspectOptions::default().declared(format)))
            .contains(&Code::ContentMismatch)
    };
    assert!(declared(&qcow2(), "raw"));
    assert!(declared(&Image::zeros(4096), "qcow2"));
    assert!(!declared(&qcow2(), "qcow2"));
    assert!(!declared(&Image::zeros(4096), "raw"));
    assert!(!declared(&iso(), "raw"));
    assert!(!declared(&vhd_fixed(), "vhd"));
}

#[test]
fn the_policy_decides_and_each_code_can_be_overridden() {
    let image = backed(b"base.qcow2");
    let verdict = |policy: Policy| judge(&image, &InspectOptions::new(policy)).verdict;
    assert_eq!(verdict(Policy::untrusted()), Verdict::Refuse);
    assert_eq!(verdict(Policy::trusted()), Verdict::Warn);
    let lenient = Policy::untrusted().with(Code::ExtBacking, Verdict::Accept);
    assert_eq!(verdict(lenient.with(Code::BackingFormatMissing, Verdict::Accept)), Verdict::Accept);
    assert_eq!(verdict(Policy::trusted().with(Code::ExtBacking, Verdict::Refuse)), Verdict::Refuse);
}

#[test]
fn names_from_the_file_are_escaped() {
    let report = look(&backed(b"a\x1b[31m\n"));
    let finding = report.findings.iter().find(|f| f.code == Code::ExtBacking).unwrap();
    assert_eq!(finding.name.as_deref(), Some("a\\u{1b}[31m\\n"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "refuse");
    assert_eq!(json["findings"][0]["code"], "EXT_BACKING");
}

#[test]
fn a_file_that_names_itself_is_a_loop() {
    let named = |image: &Image, uri: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let storage = MemStorage::named(uri);
        let options = InspectOptions::default();
        let report = runtime.block_on(async {
            block_core::Storage::write_at(&*storage, 0, &image.0).await.unwrap();
            inspect(&*storage, &options, &registry()).await.unwrap()
        });
        codes(&report)
    };
    let data = extension(qcow2().put(79, &[4]), 0x4441_5441, b"./self.qcow2");
    for image in [backed(b"self.qcow2"), data, vhd_diff(&[(b"W2ru", ".\\self.qcow2")])] {
        assert!(named(&image, "/images/self.qcow2").contains(&Code::Loop));
        assert!(!named(&image, "/images/other.qcow2").contains(&Code::Loop));
    }
}

#[test]
fn what_a_file_says_is_escaped_inside_of_sentences_too() {
    // A line that is not UTF-8 may have any word as its type.
    let line = b"RW 8192 FLAT\x01\x1B[2J \xFF\"disk.vmdk\"\n";
    let report = look(&Image([DESCRIPTOR.as_bytes(), line].concat()));
    let told = |text: &str| report.findings.iter().any(|finding| finding.message.contains(text));
    assert!(told("FLAT\\u{1}\\u{1b}[2J"), "{:#?}", report.findings);
    for finding in &report.findings {
        assert!(!finding.message.contains(char::is_control), "{:?}", finding.message);
    }
}

/// Codes that depend on more than the file's bytes.
const BY_OTHER_MEANS: &[Code] = &[
    // They depend on what the caller declares and on the file name, and have their own tests.
    Code::ContentMismatch,
    Code::NameMismatch,
    Code::Limit,
];

#[test]
fn every_code_is_raised_by_some_row() {
    let rows =
        [qcow2_rows(), vdi_and_vhd_rows(), vhdx_rows(), vmdk_rows(), other_rows(), raw_rows()];
    let mut raised: Vec<Code> = BY_OTHER_MEANS.to_vec();
    for (_, image, _, _) in rows.into_iter().flatten() {
        raised.extend(codes(&look(&image)));
    }
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !raised.contains(code)).collect();
    assert!(missing.is_empty(), "no row raises {missing:?}");
}

#[test]
fn a_name_of_another_format_and_a_limit_are_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let codes_of = |uri: &str, image: &Image, options: &InspectOptions| {
        let storage = MemStorage::named(uri);
        let report = runtime.block_on(async {
            block_core::Storage::write_at(&*storage, 0, &image.0).await.unwrap();
            inspect(&*storage, options, &registry()).await.unwrap()
        });
        codes(&report)
    };
    let options = InspectOptions::default();
    assert!(codes_of("a.vmdk", &qcow2(), &options).contains(&Code::NameMismatch));
    assert!(!codes_of("a.qcow2", &qcow2(), &options).contains(&Code::NameMismatch));
    let mut limits = InspectLimits::default();
    limits.reads = 0;
    let tight = InspectOptions::default().limits(limits);
    let large = Image(DESCRIPTOR.as_bytes().to_vec()).append(&[b'\n'; 200_000]);
    assert!(codes_of("a.vmdk", &large, &tight).contains(&Code::Limit));
    let mut limits = InspectLimits::default();
    limits.table_bytes = 15;
    let tight = InspectOptions::default().limits(limits);
    assert_eq!(codes_of("a.vdi", &vdi(), &tight), [Code::TableExcessive]);
    limits.table_bytes = 16;
    let tight = InspectOptions::default().limits(limits);
    assert!(codes_of("a.vdi", &vdi(), &tight).is_empty());
}
