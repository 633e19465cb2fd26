//! Test files, made of zeros and a few fields.

use block_core::Registry;
use block_core::probe::ProbeReport;

/// Returns a registry with all recognised formats: those of the catalogue, and VDI with its driver.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    block_inspect::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    registry
}

/// A file in memory.
#[derive(Clone, Debug)]
pub struct Image(pub Vec<u8>);

impl Image {
    pub fn zeros(len: usize) -> Self {
        Self(vec![0; len])
    }

    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Puts `bytes` at `from_end` bytes before the end.
    pub fn put_end(self, from_end: usize, bytes: &[u8]) -> Self {
        let at = self.0.len() - from_end;
        self.put(at, bytes)
    }

    pub fn le16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn le32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn le64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub fn be16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn be32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn be64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    pub fn append(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn truncate(mut self, len: usize) -> Self {
        self.0.truncate(len);
        self
    }

    pub fn report(&self) -> ProbeReport {
        let registry = registry();
        registry.recognise(&registry.probe_bytes(None, &self.0))
    }

    /// Returns the name and the score of the selected format.
    pub fn named(&self) -> (String, u8) {
        let report = self.report();
        match report.selected() {
            Some(candidate) => (candidate.id.clone(), candidate.score.value),
            None => (format!("{:?}", report.decision), 0),
        }
    }

    /// Returns the weight of a hint.
    pub fn hint(&self, id: &str) -> Option<u8> {
        self.report().raw_hints.iter().find(|hint| hint.id == id).map(|hint| hint.weight)
    }
}

/// Computes a reflected CRC bit by bit, independently of the table-driven code under test.
pub fn crc(polynomial: u32, seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = seed;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
        }
    }
    crc
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !crc(0xEDB8_8320, !0, bytes)
}

pub fn crc32c(bytes: &[u8]) -> u32 {
    !crc(0x82F6_3B78, !0, bytes)
}

pub fn qcow2() -> Image {
    Image::zeros(0x4_0000)
        .put(0, b"QFI\xFB")
        .be32(4, 3)
        .be32(20, 16)
        .be64(24, 4 << 20)
        .be32(36, 1)
        .be64(40, 0x3_0000)
        .be64(48, 0x1_0000)
        .be32(56, 1)
        .be32(96, 4)
        .be32(100, 112)
        // The refcount table, its block, and one for each of the four clusters.
        .be64(0x1_0000, 0x2_0000)
        .put(0x2_0000, &[0, 1, 0, 1, 0, 1, 0, 1])
}

pub fn qcow2_v2() -> Image {
    qcow2().be32(4, 2).put(72, &[0; 40])
}

pub fn qcow1() -> Image {
    Image::zeros(0x1000)
        .put(0, b"QFI\xFB")
        .be32(4, 1)
        .be64(24, 4 << 20)
        .put(32, &[12, 9])
        .be64(40, 48)
}

pub fn qed() -> Image {
    Image::zeros(0x6_0000)
        .put(0, b"QED\0")
        .le32(4, 0x1_0000)
        .le32(8, 4)
        .le32(12, 1)
        .le64(40, 0x1_0000)
        .le64(48, 4 << 20)
}

pub fn vdi() -> Image {
    Image::zeros(0x400)
        .put(0, b"<<< test image >>>\n")
        .le32(0x40, 0xBEDA_107F)
        .le32(0x44, 0x0001_0001)
        .le32(0x48, 0x190)
        .le32(0x4C, 1)
        .le32(0x154, 0x200)
        .le32(0x158, 0x400)
        .le32(0x168, 512)
        .le64(0x170, 4 << 20)
        .le32(0x178, 1 << 20)
        .le32(0x180, 4)
        .put(0x200, &[0xFF; 16])
}

/// Returns the checksum of a VHD structure whose checksum field is still zero.
fn vhd_sum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

pub fn vhd_footer(kind: u32, size: u64, header: u64, creator: &[u8; 4]) -> Vec<u8> {
    let footer = Image::zeros(512)
        .put(0, b"conectix")
        .be32(8, 2)
        .be32(0xC, 0x1_0000)
        .be64(0x10, header)
        .put(0x1C, creator)
        .be64(0x28, size)
        .be64(0x30, size)
        .be16(0x38, 120)
        .put(0x3A, &[4, 17])
        .be32(0x3C, kind)
        .put(0x44, &[7; 16]);
    let sum = vhd_sum(&footer.0);
    footer.be32(0x40, sum).0
}

pub fn vhd_fixed() -> Image {
    Image::zeros(1 << 20).append(&vhd_footer(2, 1 << 20, u64::MAX, b"win "))
}

fn vhd_sparse(kind: u32, creator: &[u8; 4], edit: impl Fn(Image) -> Image) -> Image {
    let footer = vhd_footer(kind, 4 << 20, 512, creator);
    let header = edit(
        Image::zeros(1024)
            .put(0, b"cxsparse")
            .be64(8, u64::MAX)
            .be64(0x10, 1536)
            .be32(0x18, 0x1_0000)
            .be32(0x1C, 2)
            .be32(0x20, 2 << 20),
    );
    let sum = vhd_sum(&header.0);
    let header = header.be32(0x24, sum);
    Image(footer.clone()).append(&header.0).append(&[0xFF; 512]).append(&footer)
}

pub fn vhd_dynamic() -> Image {
    vhd_sparse(3, b"win ", |header| header)
}

pub fn vhd_tap() -> Image {
    vhd_sparse(3, b"tap\0", |header| header)
}

/// A differencing disk whose parent is named in UTF-16 by the locators in `locators`.
pub fn vhd_diff(locators: &[(&[u8; 4], &str)]) -> Image {
    let mut image = vhd_sparse(4, b"win ", |header| {
        let mut header = header.put(0x28, &[9; 16]);
        let name: Vec<u8> = "base.vhd".encode_utf16().flat_map(u16::to_be_bytes).collect();
        header = header.put(0x40, &name);
        for (index, (code, text)) in locators.iter().enumerate() {
            let at = 0x240 + index * 24;
            header = header
                .put(at, *code)
                .be32(at + 4, 512)
                .be32(at + 8, (text.encode_utf16().count() * 2) as u32)
                .be64(at + 16, 2048 + 512 * index as u64);
        }
        header
    });
    let footer = image.0.split_off(image.0.len() - 512);
    for (index, (_, text)) in locators.iter().enumerate() {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        image = image.put(2048 + 512 * index, &[0; 512]).put(2048 + 512 * index, &bytes);
    }
    image.append(&footer)
}

fn guid(text: &str) -> [u8; 16] {
    uuid::Uuid::parse_str(text).unwrap().to_bytes_le()
}

pub fn vhdx_header(sequence: u64, log: [u8; 16]) -> Vec<u8> {
    let header = Image::zeros(4096)
        .put(0, b"head")
        .le64(8, sequence)
        .put(0x30, &log)
        .le16(0x42, 1)
        .le32(0x44, 1 << 20)
        .le64(0x48, 1 << 20);
    let sum = crc32c(&header.0);
    header.le32(4, sum).0
}

/// Returns the region table, modified by `edit`: no log, block table at 3 MiB, metadata at 2 MiB.
pub fn vhdx_regions(edit: impl Fn(Image) -> Image) -> Vec<u8> {
    let table = Image::zeros(0x1_0000)
        .put(0, b"regi")
        .le32(8, 2)
        .put(16, &guid("2dc27766-f623-4200-9d64-115e9bfd4a08"))
        .le64(32, 3 << 20)
        .le32(40, 1 << 20)
        .le32(44, 1)
        .put(48, &guid("8b7ca206-4790-4b9a-b8fe-575f050f886e"))
        .le64(64, 2 << 20)
        .le32(72, 1 << 20)
        .le32(76, 1);
    let table = edit(table);
    let sum = crc32c(&table.0);
    table.le32(4, sum).0
}

pub fn vhdx() -> Image {
    let regions = vhdx_regions(|table| table);
    Image::zeros(4 << 20)
        .put(0, b"vhdxfile")
        .put(0x1_0000, &vhdx_header(7, [0; 16]))
        .put(0x2_0000, &vhdx_header(8, [0; 16]))
        .put(0x3_0000, &regions)
        .put(0x4_0000, &regions)
        .put(2 << 20, b"metadata")
        .le16((2 << 20) + 10, 2)
        .put((2 << 20) + 32, &guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b"))
        .le32((2 << 20) + 48, 0x1_0000)
        .le32((2 << 20) + 52, 8)
        .le32((2 << 20) + 56, 4)
        .put((2 << 20) + 64, &guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8"))
        .le32((2 << 20) + 80, 0x1_0008)
        .le32((2 << 20) + 84, 8)
        .le32((2 << 20) + 88, 6)
        .le32((2 << 20) + 0x1_0000, 1 << 20)
        .le64((2 << 20) + 0x1_0008, 1 << 30)
}

pub fn avhdx() -> Image {
    vhdx()
        .le16((2 << 20) + 10, 3)
        .put((2 << 20) + 96, &guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c"))
        .le32((2 << 20) + 112, 0x1_0010)
        .le32((2 << 20) + 116, 20)
        .le32((2 << 20) + 120, 4)
        .le32((2 << 20) + 0x1_0004, 2)
}

pub const DESCRIPTOR: &str = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\n\
    parentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n\
    # Extent description\nRW 8192 SPARSE \"disk.vmdk\"\n";

pub fn vmdk() -> Image {
    Image::zeros(0x1_0000)
        .put(0, b"KDMV")
        .le32(4, 1)
        .le32(8, 3)
        .le64(0xC, 8192)
        .le64(0x14, 128)
        .le64(0x1C, 1)
        .le64(0x24, 20)
        .le32(0x2C, 512)
        .le64(0x30, 21)
        .le64(0x38, 26)
        .le64(0x40, 128)
        .put(0x49, b"\n \r\n")
        .put(512, DESCRIPTOR.as_bytes())
}

pub fn vmdk_stream() -> Image {
    let text = DESCRIPTOR.replace("monolithicSparse", "streamOptimized");
    let head = vmdk()
        .le32(4, 3)
        .le32(8, 0x3_0001)
        .le64(0x38, u64::MAX)
        .le16(0x4D, 1)
        .put(512, &[0; 512])
        .put(512, text.as_bytes());
    let footer = Image(head.0[..512].to_vec()).le64(0x38, 140);
    head.append(&Image::zeros(512).le64(0, 1).le32(12, 3).0).append(&footer.0).append(&[0; 512])
}

pub fn cowd() -> Image {
    Image::zeros(0x2000)
        .put(0, b"COWD")
        .le32(4, 1)
        .le32(8, 3)
        .le32(0xC, 8192)
        .le32(0x10, 1)
        .le32(0x14, 4)
        .le32(0x18, 2)
}

pub fn sesparse() -> Image {
    Image::zeros(0x4000)
        .le64(0, 0xCAFE_BABE)
        .le64(8, 0x2_0000_0001)
        .le64(0x10, 8192)
        .le64(0x18, 8)
        .le64(0x20, 64)
        .le64(0x50, 1)
        .le64(0x58, 1)
        .le64(512, 0xCAFE_CAFE)
}

pub fn parallels() -> Image {
    Image::zeros(0x1000)
        .put(0, b"WithouFreSpacExt")
        .le32(16, 2)
        .le32(20, 16)
        .le32(24, 16)
        .le32(28, 2048)
        .le32(32, 4)
        .le64(36, 8192)
        .le32(48, 2048)
}

pub fn parallels_old() -> Image {
    parallels().put(0, b"WithoutFreeSpace").le32(48, 0)
}

pub fn koly(data_len: u64, plist: (u64, u64)) -> Vec<u8> {
    Image::zeros(512)
        .put(0, b"koly")
        .be32(4, 4)
        .be32(8, 512)
        .be64(0x20, data_len)
        .be32(0x38, 1)
        .be32(0x3C, 1)
        .be64(0xD8, plist.0)
        .be64(0xE0, plist.1)
        .be64(0x1EC, 8)
        .0
}

pub fn dmg() -> Image {
    let text = b"<?xml version=\"1.0\"?><plist></plist>";
    Image::zeros(4096)
        .put(0, &[0x78, 0x9C])
        .append(text)
        .append(&koly(4096, (4096, text.len() as u64)))
}

pub fn asif() -> Image {
    Image::zeros(0x8000)
        .put(0, b"shdw")
        .be32(4, 1)
        .be32(8, 512)
        .be64(16, 512)
        .be64(24, 1024)
        .be64(48, 8192)
        .be64(56, 1 << 32)
        .be32(64, 1 << 20)
        .be16(68, 512)
}

pub fn bochs() -> Image {
    Image::zeros(0x1000)
        .put(0, b"Bochs Virtual HD Image\0")
        .put(32, b"Redolog\0")
        .put(48, b"Growing\0")
        .le32(64, 0x2_0000)
        .le32(68, 512)
        .le32(72, 64)
        .le32(76, 1)
        .le32(80, 0x1_0000)
        .le64(88, 4 << 20)
}

pub fn cloop() -> Image {
    Image::zeros(0x200)
        .put(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n")
        .be32(128, 0x1_0000)
        .be32(132, 4)
        .be64(136, 136 + 8 * 5)
}

pub fn luks1() -> Image {
    let mut image = Image::zeros(0x20_0000)
        .put(0, b"LUKS\xBA\xBE\0\x01")
        .put(8, b"aes\0")
        .put(40, b"xts-plain64\0")
        .put(72, b"sha256\0")
        .be32(104, 4096)
        .be32(108, 64)
        .be32(164, 100_000)
        .put(168, b"01234567-89ab-cdef-0123-456789abcdef\0");
    for slot in 0..8 {
        image = image.be32(208 + slot * 48, if slot == 0 { 0x00AC_71F3 } else { 0xDEAD });
    }
    image.be32(212, 200_000)
}

pub fn luks2(json: &str) -> Image {
    let mut image = Image::zeros(0x10_0000);
    for (at, magic) in [(0usize, b"LUKS\xBA\xBE"), (0x4000, b"SKUL\xBA\xBE")] {
        image = image
            .put(at, magic)
            .be16(at + 6, 2)
            .be64(at + 8, 0x4000)
            .be64(at + 16, 3)
            .put(at + 72, b"sha256\0")
            .be64(at + 256, at as u64)
            .put(at + 4096, json.as_bytes());
        let sum = sha256(&image.0[at..at + 0x4000]);
        image = image.put(at + 448, &sum);
    }
    image
}

/// Computes the digest with `sha256sum`, independently of the code under test.
fn sha256(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum is part of every system");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    let hex = std::str::from_utf8(&out[..64]).unwrap();
    (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub fn ewf(magic: &[u8; 8]) -> Image {
    let section = Image::zeros(72).put(0, b"header2\0").le64(16, 0x100).le64(24, 0x80);
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &section.0 {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    Image::zeros(0x200)
        .put(0, magic)
        .put(8, &[1, 1, 0, 0, 0])
        .put(13, &section.0)
        .le32(85, (b << 16) | a)
}

pub fn android() -> Image {
    Image::zeros(0x100)
        .le32(0, 0xED26_FF3A)
        .le16(4, 1)
        .le16(8, 28)
        .le16(10, 12)
        .le32(12, 4096)
        .le32(16, 1024)
        .le32(20, 1)
        .le16(28, 0xCAC3)
        .le32(32, 1024)
        .le32(36, 12)
}

pub fn iso() -> Image {
    Image::zeros(0x1_8000)
        .put(0x8000, b"\x01CD001\x01")
        .le32(0x8050, 48)
        .be32(0x8054, 48)
        .le16(0x8080, 2048)
        .be16(0x8082, 2048)
        .put(0x8800, b"\xFFCD001\x01")
}

/// Adds a UDF volume recognition sequence from `at` on and an anchor at block 256 of 2048 bytes.
pub fn with_udf(image: Image, at: usize) -> Image {
    let tag = Image::zeros(16).le16(0, 2).le16(2, 2).le32(12, 256);
    let sum = tag.0.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    image
        .put(at, b"\0BEA01\x01")
        .put(at + 2048, b"\0NSR02\x01")
        .put(at + 4096, b"\0TEA01\x01")
        .put(256 * 2048, &tag.put(4, &[sum]).0)
        .put(0x9_0000, &[0])
}

pub fn with_mbr(image: Image) -> Image {
    let sectors = (image.0.len() / 512) as u32;
    image
        .put(446, &[0; 64])
        .put(446, &[0x80, 0, 2, 0, 0x83, 0, 0, 0])
        .le32(454, 1)
        .le32(458, sectors - 1)
        .put(510, &[0x55, 0xAA])
}

/// A disk of 1 MiB with a GPT for sectors of `sector` bytes.
pub fn gpt(sector: usize) -> Image {
    let len = 1usize << 20;
    let table =
        Image::zeros(128 * 128).put(0, &[0xAF; 16]).put(16, &[0xBB; 16]).le64(32, 40).le64(40, 60);
    let last = (len / sector - 1) as u64;
    let header = |own: u64, other: u64, entries: u64| {
        let header = Image::zeros(92)
            .put(0, b"EFI PART")
            .le32(8, 0x1_0000)
            .le32(12, 92)
            .le64(24, own)
            .le64(32, other)
            .le64(72, entries)
            .le32(80, 128)
            .le32(84, 128)
            .le32(88, crc32(&table.0));
        let sum = crc32(&header.0);
        header.le32(16, sum).0
    };
    let behind = last - (table.0.len() / sector) as u64;
    Image::zeros(len)
        .put(446, &[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF])
        .le32(454, 1)
        .le32(458, last as u32)
        .put(510, &[0x55, 0xAA])
        .put(sector, &header(1, last, 2))
        .put(2 * sector, &table.0)
        .put(behind as usize * sector, &table.0)
        .put(len - sector, &header(last, 1, behind))
}

pub fn tar(name: &str) -> Image {
    let header = Image::zeros(512)
        .put(0, name.as_bytes())
        .put(100, b"0000644\0")
        .put(124, b"00000000000\0")
        .put(148, b"        ")
        .put(257, b"ustar\x0000");
    let sum: u32 = header.0.iter().map(|byte| u32::from(*byte)).sum();
    header.put(148, format!("{sum:06o}\0 ").as_bytes()).append(&[0; 1024])
}

pub fn zip(name: &str, comment: &str) -> Image {
    let local =
        Image::zeros(30).put(0, b"PK\x03\x04").le16(26, name.len() as u16).append(name.as_bytes());
    let central =
        Image::zeros(46).put(0, b"PK\x01\x02").le16(28, name.len() as u16).append(name.as_bytes());
    let at = local.0.len() as u32;
    let end = Image::zeros(22)
        .put(0, b"PK\x05\x06")
        .le16(8, 1)
        .le16(10, 1)
        .le32(12, central.0.len() as u32)
        .le32(16, at)
        .le16(20, comment.len() as u16)
        .append(comment.as_bytes());
    local.append(&central.0).append(&end.0)
}

pub const PARALLELS_XML: &str = "<?xml version=\"1.0\"?><Parallels_disk_image Version=\"1.0\"><StorageData><Storage><Image>\
    <GUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}</GUID><Type>Compressed</Type><File>root.hds</File></Image></Storage></StorageData>\
    </Parallels_disk_image>";

pub fn vdi_0() -> Image {
    Image::zeros(0x400)
        .put(0, b"<<< old >>>\n")
        .le32(0x40, 0xBEDA_107F)
        .le32(0x44, 1)
        .le32(0x48, 1)
        .le64(0x160, 4 << 20)
        .le32(0x168, 1 << 20)
        .le32(0x16C, 4)
}
