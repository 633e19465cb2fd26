//! Optical discs and read-only file-system images, served by the raw driver.

use block_core::probe::Location;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::within;
use block_core::probe::{Kind, Placement, Probe};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("iso9660", iso9660),
    Recogniser::new("high-sierra", high_sierra),
    Recogniser::new("iso-raw-2352", raw_sectors),
    Recogniser::wanting("udf", udf, udf_wants),
    Recogniser::new("squashfs", squashfs),
];

/// Byte offset of the volume descriptors, one every 2048 bytes.
const DESCRIPTORS: u64 = 0x8000;
const RECORD: u64 = 2048;
/// Most descriptors that are examined. All are in the first window.
const MOST_DESCRIPTORS: u64 = 17;

fn record(index: u64) -> u64 {
    DESCRIPTORS.saturating_add(index.saturating_mul(RECORD))
}

/// Returns the offset of the primary volume descriptor, and whether there is a terminator.
pub(crate) fn iso_descriptors(input: &ProbeInput) -> (Option<u64>, bool) {
    let mut primary = None;
    for index in 0..MOST_DESCRIPTORS {
        let at = record(index);
        if !input.has(at.saturating_add(1), b"CD001") {
            return (primary, false);
        }
        match input.u8(at) {
            Some(1) => primary = primary.or(Some(at)),
            Some(0xFF) => return (primary, true),
            _ => {}
        }
    }
    (primary, false)
}

fn iso9660(input: &ProbeInput) -> Probe {
    let (primary, terminated) = iso_descriptors(input);
    let at = primary.unwrap_or(DESCRIPTORS);
    let field = |offset: u64| at.saturating_add(offset);
    let blocks = input.u32_le(field(0x50));
    let block = input.u16_le(field(0x80));
    let size = blocks.zip(block).and_then(|(n, size)| u64::from(n).checked_mul(size.into()));
    let direct = primary == Some(DESCRIPTORS);
    Probe::of("iso9660", input)
        .placement(Placement::Content)
        .carries_hints()
        .kind(Kind::Content)
        .signature(DESCRIPTORS + 1, b"CD001")
        .structure("primary descriptor", (at, 1), "type 1", primary.is_some())
        .structure("version", (field(6), 1), "1", input.u8(field(6)) == Some(1))
        .structure(
            "volume size",
            (field(0x50), 8),
            "the same in both byte orders, not 0",
            blocks.is_some_and(|n| n > 0) && blocks == input.u32_be(field(0x54)),
        )
        .structure(
            "block size",
            (field(0x80), 4),
            "the same in both byte orders, 512 to 2048",
            within(block, 512..=2048) && block == input.u16_be(field(0x82)),
        )
        .degraded(
            "volume end",
            (field(0x50), 4),
            "inside the file",
            size.is_some_and(|size| size > input.len()),
        )
        .degraded("terminator", (field(RECORD), 7), "a descriptor of type FF", !terminated)
        .at_most(if direct { 95 } else { 90 })
        .payload_from(0)
        .name(&["iso"])
        .done()
}

fn high_sierra(input: &ProbeInput) -> Probe {
    Probe::of("high-sierra", input)
        .placement(Placement::Content)
        .carries_hints()
        .kind(Kind::Content)
        .signature(DESCRIPTORS + 9, b"CDROM")
        .structure(
            "descriptor type",
            (DESCRIPTORS + 8, 1),
            "1",
            input.u8(DESCRIPTORS + 8) == Some(1),
        )
        .at_most(75)
        .payload_from(0)
        .name(&["iso"])
        .done()
}

/// Recognises raw sectors with their sync bytes, as a drive reads them in raw mode.
fn raw_sectors(input: &ProbeInput) -> Probe {
    const SYNC: &[u8] = b"\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0";
    let mode = input.u8(15);
    let volume = match mode {
        Some(1) => 16 * 2352 + 16 + 1,
        _ => 16 * 2352 + 24 + 1,
    };
    let address = |at: u64| {
        let bcd = |byte: u8| {
            let (tens, ones) = (byte >> 4, byte & 15);
            (tens < 10 && ones < 10)
                .then(|| u32::from(tens).saturating_mul(10).saturating_add(ones.into()))
        };
        let [minute, second, frame] = input.array::<3>(at)?;
        bcd(minute)?
            .checked_mul(60)?
            .checked_add(bcd(second)?)?
            .checked_mul(75)?
            .checked_add(bcd(frame)?)
    };
    let rises =
        matches!((address(12), address(2352 + 12)), (Some(a), Some(b)) if b == a.saturating_add(1));
    Probe::of("iso-raw-2352", input)
        .carries_hints()
        .kind(Kind::Content)
        .word(0, SYNC)
        .structure("second sync", (2352, 12), "the same again", input.has(2352, SYNC))
        .structure("mode", (15, 1), "1 or 2", within(mode, 1..=2))
        .structure("sector addresses", (2352 + 12, 3), "one more than the first", rises)
        .structure("volume", (volume, 5), "CD001", input.has(volume, b"CD001"))
        .at_most(85)
        .payload_from(0)
        .name(&["bin"])
        .done()
}

fn recognition(input: &ProbeInput) -> (Option<u64>, bool) {
    let mut place = None;
    let mut begun = false;
    for index in 0..MOST_DESCRIPTORS {
        let at = record(index).saturating_add(1);
        begun |= input.has(at, b"BEA01");
        if begun && (input.has(at, b"NSR02") || input.has(at, b"NSR03")) {
            place = place.or(Some(at));
        }
        if input.has(at, b"TEA01") {
            return (place, place.is_some());
        }
    }
    (place, false)
}

/// Returns the possible offsets of an anchor, each with the block number it must state.
fn anchors(len: u64) -> impl Iterator<Item = (u64, u64)> {
    [512u64, 1024, 2048, 4096].into_iter().flat_map(move |size| {
        let last = len.checked_div(size).and_then(|blocks| blocks.checked_sub(1));
        [Some(256), last, last.and_then(|last| last.checked_sub(256))]
            .into_iter()
            .flatten()
            .map(move |block| (block.saturating_mul(size), block))
    })
}

fn udf_wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if recognition(input).0.is_some() {
        for (at, _) in anchors(input.len()) {
            wants.read(at, 16);
        }
    }
}

fn is_anchor(input: &ProbeInput, at: u64, block: u64) -> bool {
    let Some(tag) = input.bytes(at, 16) else {
        return false;
    };
    let sum = tag.iter().enumerate().filter(|(index, _)| *index != 4);
    let sum = sum.fold(0u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    input.u16_le(at) == Some(2)
        && input.u8(at.saturating_add(4)) == Some(sum)
        && input.u32_le(at.saturating_add(12)).map(u64::from) == Some(block)
}

fn udf(input: &ProbeInput) -> Probe {
    let (volume, terminated) = recognition(input);
    let anchor = anchors(input.len()).find(|(at, block)| is_anchor(input, *at, *block));
    let at = volume.unwrap_or(DESCRIPTORS + 1);
    Probe::of("udf", input)
        .placement(Placement::Content)
        .carries_hints()
        // A bridge disc holds one set of files under two file systems.
        .carries(&["iso9660"])
        .kind(Kind::Content)
        .signed_if(
            "volume recognition",
            Location::start(at, 5),
            "BEA01, NSR02 or NSR03",
            volume.is_some(),
            false,
        )
        .structure("terminator", (at, 5), "TEA01", terminated)
        .structure(
            "anchor",
            (anchor.map_or(256 * 2048, |a| a.0), 16),
            "a tag that names its own block",
            anchor.is_some(),
        )
        .structure(
            "anchor checksum",
            (anchor.map_or(256 * 2048, |a| a.0), 5),
            "the sum of the tag",
            anchor.is_some(),
        )
        .at_most(95)
        .payload_from(0)
        .name(&["udf", "iso"])
        .done()
}

fn squashfs(input: &ProbeInput) -> Probe {
    let magics: [(&[u8; 4], &str, bool); 4] = [
        (b"hsqs", "little-endian", true),
        (b"sqsh", "big-endian", false),
        (b"shsq", "little-endian, LZMA", true),
        (b"qshs", "big-endian, LZMA", false),
    ];
    let Some((magic, variant, little)) =
        magics.into_iter().find(|(magic, _, _)| input.has(0, *magic))
    else {
        return Probe::none("squashfs");
    };
    let u16_at = |at| if little { input.u16_le(at) } else { input.u16_be(at) };
    let u32_at = |at| if little { input.u32_le(at) } else { input.u32_be(at) };
    let used = if little { input.u64_le(40) } else { input.u64_be(40) };
    let block = u32_at(12);
    let bits = u16_at(22);
    let probe = Probe::of("squashfs", input)
        .placement(Placement::Content)
        .kind(Kind::Content)
        .word(0, magic)
        .variant(variant)
        .version((28, 2), "4", u16_at(28) == Some(4))
        .structure("block size", (12, 4), "4 KiB to 1 MiB", within(block, 4096..=1 << 20));
    let probe = if variant.ends_with("LZMA") || !little {
        probe
    } else {
        probe
            .structure(
                "block size and its logarithm",
                (22, 2),
                "the same",
                bits.and_then(|bits| 1u32.checked_shl(bits.into())) == block,
            )
            .structure(
                "bytes used",
                (40, 8),
                "inside the file",
                used.is_some_and(|used| used <= input.len()),
            )
    };
    probe.at_most(95).payload_from(96).name(&["squashfs", "sqfs"]).done()
}
