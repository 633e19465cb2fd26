//! Compressed streams. None is decompressed.

use crate::checksum::crc32;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::within;
use block_core::probe::{Kind, Probe, ProbeBuilder};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("gzip", gzip),
    Recogniser::new("xz", xz),
    Recogniser::new("zstd", zstd),
    Recogniser::new("bzip2", bzip2),
    Recogniser::new("lz4", lz4),
    Recogniser::new("lzip", lzip),
    Recogniser::new("lzma", lzma),
    Recogniser::new("compress", compress),
    Recogniser::new("lzop", lzop),
    Recogniser::new("zlib", zlib),
    Recogniser::new("gcp-tarball", gcp),
];

fn wrapper<'a>(id: &'static str, input: &'a ProbeInput) -> ProbeBuilder<'a> {
    Probe::of(id, input).kind(Kind::Wrapper)
}

fn gzip_stream<'a>(id: &'static str, input: &'a ProbeInput) -> ProbeBuilder<'a> {
    wrapper(id, input)
        .word(0, &[0x1F, 0x8B, 8])
        .structure(
            "flags",
            (3, 1),
            "bits 0 to 4 only",
            input.u8(3).is_some_and(|flags| flags & 0xE0 == 0),
        )
        .structure(
            "extra flags",
            (8, 1),
            "0, 2 or 4",
            input.u8(8).is_some_and(|flags| [0, 2, 4].contains(&flags)),
        )
        .at_most(85)
        .payload_from(10)
        .name(&["gz", "tgz"])
}

fn gzip(input: &ProbeInput) -> Probe {
    gzip_stream("gzip", input).done()
}

/// Recognises a compressed tar meant for a cloud importer. The content is not decompressed, so the stream must store
/// the tar's name.
fn gcp(input: &ProbeInput) -> Probe {
    let named = input.u8(3).is_some_and(|flags| flags & 8 != 0 && flags & 4 == 0)
        && (input.has(10, b"disk.raw.tar\0") || input.has(10, b"disk.tar\0"));
    if !named {
        return Probe::none("gcp-tarball");
    }
    gzip_stream("gcp-tarball", input)
        .structure("stored name", (10, 12), "disk.raw.tar", named)
        .refines("gzip")
        .done()
}

fn xz(input: &ProbeInput) -> Probe {
    let sum = input.bytes(6, 2).map(|flags| crc32(&[flags]));
    let mut probe = wrapper("xz", input)
        .signature(0, b"\xFD7zXZ\0")
        .integrity(
            "stream flags",
            (8, 4),
            "the CRC-32 of the flags",
            sum.map(|sum| input.u32_le(8) == Some(sum)),
        )
        .structure(
            "footer",
            block_core::probe::Location::end(2, 2),
            "59 5A",
            input.tail(2, 2) == Some(b"YZ"),
        )
        .payload_from(12)
        .name(&["xz"])
        .done();
    probe.ceiling = 95;
    probe
}

fn zstd(input: &ProbeInput) -> Probe {
    let skippable =
        input.bytes(1, 3) == Some(&[0x2A, 0x4D, 0x18]) && within(input.u8(0), 0x50..=0x5F);
    if skippable {
        let first = input.u8(0).unwrap_or(0x50);
        return wrapper("zstd", input)
            .signature(0, &[first, 0x2A, 0x4D, 0x18])
            .variant("begins with a skippable frame")
            .structure(
                "frame",
                (4, 4),
                "inside the file",
                input.u32_le(4).is_some_and(|n| u64::from(n) < input.len()),
            )
            .at_most(85)
            .payload_from(8)
            .done();
    }
    wrapper("zstd", input)
        .signature(0, &[0x28, 0xB5, 0x2F, 0xFD])
        .structure(
            "frame descriptor",
            (4, 1),
            "reserved bit 0",
            input.u8(4).is_some_and(|bits| bits & 8 == 0),
        )
        .at_most(85)
        .payload_from(6)
        .name(&["zst"])
        .done()
}

fn bzip2(input: &ProbeInput) -> Probe {
    const BLOCK: &[u8] = &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const EMPTY: &[u8] = &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    let level = within(input.u8(3), b'1'..=b'9');
    let block = input.has(4, BLOCK) || input.has(4, EMPTY);
    if level && block {
        wrapper("bzip2", input)
            .word(0, b"BZh")
            .structure("level", (3, 1), "1 to 9", level)
            .structure("first block", (4, 6), "31 41 59 26 53 59", block)
            .at_most(90)
            .payload_from(10)
            .name(&["bz2"])
            .done()
    } else {
        wrapper("bzip2", input).word(0, b"BZh").at_most(30).name(&["bz2"]).done()
    }
}

fn lz4(input: &ProbeInput) -> Probe {
    let frame = wrapper("lz4", input).signature(0, &[0x04, 0x22, 0x4D, 0x18]);
    if frame.is_signed() {
        return frame
            .version((4, 1), "1", input.u8(4).is_some_and(|flags| flags >> 6 == 1))
            .structure(
                "block size",
                (5, 1),
                "4 to 7",
                input.u8(5).is_some_and(|bd| bd & 0x8F == 0 && bd >> 4 >= 4),
            )
            .at_most(90)
            .payload_from(7)
            .name(&["lz4"])
            .done();
    }
    wrapper("lz4", input)
        .signature(0, &[0x02, 0x21, 0x4C, 0x18])
        .variant("legacy")
        .structure(
            "first block",
            (4, 4),
            "inside the file",
            input.u32_le(4).is_some_and(|n| u64::from(n) <= input.len()),
        )
        .at_most(90)
        .payload_from(8)
        .name(&["lz4"])
        .done()
}

fn lzip(input: &ProbeInput) -> Probe {
    wrapper("lzip", input)
        .signature(0, b"LZIP")
        .version((4, 1), "1", input.u8(4) == Some(1))
        .at_most(85)
        .payload_from(6)
        .name(&["lz"])
        .done()
}

fn lzma(input: &ProbeInput) -> Probe {
    let size = input.u64_le(5);
    if !size.is_some_and(|size| size == u64::MAX || size < 1 << 48) {
        return Probe::none("lzma");
    }
    wrapper("lzma", input).word(0, &[0x5D, 0, 0]).at_most(30).name(&["lzma"]).done()
}

fn compress(input: &ProbeInput) -> Probe {
    wrapper("compress", input).word(0, &[0x1F, 0x9D]).at_most(30).done()
}

fn lzop(input: &ProbeInput) -> Probe {
    wrapper("lzop", input)
        .signature(0, b"\x89LZO\0\r\n\x1A\n")
        .version((9, 2), "0x0900 to 0x1FFF", within(input.u16_be(9), 0x0900..=0x1FFF))
        .at_most(85)
        .payload_from(34)
        .name(&["lzo"])
        .done()
}

/// Recognises zlib by two bytes. Many other files begin with them, including the data of a disk image.
fn zlib(input: &ProbeInput) -> Probe {
    let known = input.u8(0) == Some(0x78)
        && input.u8(1).is_some_and(|b| [0x01, 0x5E, 0x9C, 0xDA].contains(&b));
    if !known {
        return Probe::none("zlib");
    }
    let second = input.u8(1).unwrap_or(0);
    wrapper("zlib", input).word(0, &[0x78, second]).at_most(20).done()
}
