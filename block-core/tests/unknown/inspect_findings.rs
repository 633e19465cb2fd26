//! Every risk of every format raises its code, and sound files are accepted.

use crate::containers::PARALLELS_XML;
use crate::image::*;
use block_core::inspect::{Code, InspectOptions, InspectReport, Policy, Verdict, inspect};
use block_core::{MemStorage, Registry};

fn judge(image: &Image, options: &InspectOptions) -> InspectReport {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let storage = MemStorage::from_bytes(&image.0);
    runtime.block_on(inspect(&*storage, options, &Registry::new())).unwrap()
}

fn look(image: &Image) -> InspectReport {
    judge(image, &InspectOptions::default())
}

fn codes(report: &InspectReport) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// What a file raises at the least, and what comes of it.
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
        ("cloop", cloop()),
        ("android", android_small()),
        ("iso", iso()),
    ] {
        let report = look(&image);
        assert!(codes(&report).is_empty(), "{what}: {:#?}", report.findings);
        assert_eq!(report.verdict, Verdict::Accept, "{what}");
    }
    // A VHD always tells who made it.
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

#[test]
fn qcow2_risks_raise_their_codes() {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    const DATA: u32 = 0x4441_5441;
    check(vec![
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
        ("snapshots", qcow2().be32(60, 1).be64(64, 0x2_8000), &[Snapshots], Warn),
        ("too many snapshots", qcow2().be32(60, 65_537), &[TableExcessive], Refuse),
        ("bitmaps", extension(qcow2().put(95, &[1]), 0x2385_2875, &[0; 24]), &[Bitmaps], Accept),
        ("luks", qcow2().be32(32, 2), &[Encrypted], Warn),
        ("aes", qcow2().be32(32, 1), &[Encrypted, EncryptionWeak], Warn),
        ("size", qcow2().be64(24, u64::MAX), &[SizeExcessive], Refuse),
        ("L1", qcow2().be32(36, u32::MAX), &[TableExcessive, OutOfBounds], Refuse),
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
        ("qed feature", qed().le64(16, 0x80), &[FeatureUnknown], Refuse),
        ("qed dirty", qed().le64(16, 2), &[Dirty], Warn),
        (
            "cow",
            Image::zeros(2048).put(0, b"OOOM").be32(4, 2).put(8, b"base"),
            &[ExtBacking, FormatDeprecated],
            Refuse,
        ),
    ]);
}

#[test]
fn vdi_and_vhd_risks_raise_their_codes() {
    use Code::*;
    use Verdict::{Refuse, Warn};
    let footer_edit = |at: usize, bytes: &[u8]| vhd_fixed().put_end(512 - at, bytes);
    check(vec![
        ("vdi differencing", vdi().le32(0x4C, 4).put(0x1A8, &[1; 16]), &[Parent], Refuse),
        ("vdi undo", vdi().le32(0x4C, 3), &[Parent], Refuse),
        ("vdi parent state", vdi().put(0x1B8, &[1; 16]), &[Parent], Refuse),
        ("vdi map", vdi().le32(0x180, 536_870_784), &[TableExcessive, OutOfBounds], Refuse),
        ("vdi block size", vdi().le32(0x178, 3), &[Structure], Refuse),
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
    ]);
}

#[test]
fn vhdx_risks_raise_their_codes() {
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
    check(vec![
        ("log", vhdx().put(0x2_0000, &vhdx_header(8, [1; 16])), &[LogReplay], Refuse),
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
    ]);
}

fn descriptor(edit: impl Fn(String) -> String) -> Image {
    Image(edit(DESCRIPTOR.to_owned()).into_bytes())
}

fn embedded(edit: impl Fn(String) -> String) -> Image {
    let text = edit(DESCRIPTOR.to_owned());
    vmdk().put(512, &[0; 1024]).put(512, text.as_bytes())
}

#[test]
fn vmdk_risks_raise_their_codes() {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    let extent =
        |line: &'static str| move |text: String| text.replace("RW 8192 SPARSE \"disk.vmdk\"", line);
    let add = |line: &'static str| move |text: String| text + line + "\n";
    check(vec![
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
    ]);
}

#[test]
fn risks_of_the_other_formats_raise_their_codes() {
    use Code::*;
    use Verdict::{Accept, Refuse, Warn};
    let json = r#"{"keyslots":{"0":{"kdf":{"type":"argon2id","memory":4194304}}}}"#;
    let bundle = |name: &str| Image(PARALLELS_XML.replace("root.hds", name).into_bytes());
    check(vec![
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
    ]);
}

#[test]
fn raw_disks_and_partition_tables_raise_their_codes() {
    use Code::*;
    use Verdict::{Refuse, Warn};
    check(vec![
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
        ("gpt without backup", gpt(512).put_end(512, &[0; 512]), &[CopyMismatch], Refuse),
        ("gpt without primary", gpt(512).put(512, &[0; 512]), &[CopyMismatch], Refuse),
        ("gpt checksum", gpt(512).put(530, &[0xAA]), &[Checksum], Refuse),
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
    ]);
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
