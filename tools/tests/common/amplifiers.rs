//! Small files that claim much: each made a program take time or memory out of proportion to it.

/// A file of zeros with a few fields.
struct File(Vec<u8>);

impl File {
    fn of(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn le32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn le64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn be32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    fn be64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_be_bytes())
    }
}

/// All of them: a name that ends as the files of the format do, and the bytes.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("map.vdi", vdi(536_870_784)),
        ("size.qcow", qcow(560, 1 << 55)),
        ("blocks.cloop", cloop()),
        ("l1.qcow2", qcow2(0x3_0008).be32(36, 4 << 20).0),
        ("snapshots.qcow2", snapshots()),
        ("catalog.bochs", bochs()),
        ("table.vhd", vhd()),
        ("table.hdd", parallels()),
        ("table.qcow", qcow(4096, 1 << 57)),
        ("size.qcow2", qcow2(0x4_0000).be64(24, 1 << 60).be32(36, 1 << 22).0),
    ]
}

/// A block map of two gigabytes, in a kilobyte.
fn vdi(blocks: u32) -> Vec<u8> {
    File::of(1024)
        .put(0, b"<<< claims much >>>\n")
        .le32(0x40, 0xBEDA_107F)
        .le32(0x44, 0x1_0001)
        .le32(0x48, 0x180)
        .le32(0x4C, 1)
        .le32(0x154, 0x200)
        .le32(0x158, 0x8000_0200)
        .le32(0x168, 512)
        .le64(0x170, u64::from(blocks) << 20)
        .le32(0x178, 1 << 20)
        .le32(0x180, blocks)
        .put(0x188, &[7; 32])
        .0
}

fn qcow(len: usize, size: u64) -> Vec<u8> {
    File::of(len).put(0, b"QFI\xFB").be32(4, 1).be64(24, size).put(32, &[16, 13]).be64(40, 48).0
}

fn cloop() -> Vec<u8> {
    let blocks = 67_108_862u32;
    File::of(236)
        .put(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n")
        .be32(128, 0x1_0000)
        .be32(132, blocks)
        .be64(136, 136 + 8 * (u64::from(blocks) + 1))
        .0
}

fn qcow2(len: usize) -> File {
    File::of(len)
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
        .be64(0x1_0000, 0x2_0000)
        .put(0x2_0000, &[0, 1, 0, 1, 0, 1, 0, 1])
}

/// As many snapshots as there may be, all of them zeros.
fn snapshots() -> Vec<u8> {
    let count = 65_536;
    qcow2(0x4_0000 + count * 40).be32(60, count as u32).be64(64, 0x4_0000).0
}

fn bochs() -> Vec<u8> {
    File::of(4608)
        .put(0, b"Bochs Virtual HD Image\0")
        .put(32, b"Redolog\0")
        .put(48, b"Growing\0")
        .le32(64, 0x2_0000)
        .le32(68, 512)
        .le32(72, 1 << 20)
        .le32(76, 1)
        .le32(80, 0x1_0000)
        .le64(88, 4 << 20)
        .0
}

fn vhd() -> Vec<u8> {
    let sum = |bytes: &[u8]| !bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add((*byte).into()));
    let footer = File::of(512)
        .put(0, b"conectix")
        .be32(8, 2)
        .be32(0xC, 0x1_0000)
        .be64(0x10, 512)
        .put(0x1C, b"win ")
        .be64(0x28, 1 << 40)
        .be64(0x30, 1 << 40)
        .be32(0x3C, 3);
    let checksum = sum(&footer.0);
    let footer = footer.be32(0x40, checksum).0;
    let header = File::of(1024)
        .put(0, b"cxsparse")
        .be64(8, u64::MAX)
        .be64(0x10, 1536)
        .be32(0x18, 0x1_0000)
        .be32(0x1C, 0x1FFF_FFFF)
        .be32(0x20, 2 << 20);
    let checksum = sum(&header.0);
    let header = header.be32(0x24, checksum).0;
    [footer.clone(), header, vec![0xFF; 512], footer].concat()
}

fn parallels() -> Vec<u8> {
    File::of(4096)
        .put(0, b"WithouFreSpacExt")
        .le32(16, 2)
        .le32(20, 16)
        .le32(24, 16)
        .le32(28, 2048)
        .le32(32, 0x1FFF_FFFF)
        .le64(36, 0x1FFF_FFFF * 2048)
        .le32(48, 2048)
        .0
}
