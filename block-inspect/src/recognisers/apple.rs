//! Apple disk images: UDIF (.dmg), encrypted ones, sparse images, ASIF.

use block_core::probe::Location;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::{fits, multiple, within};
use block_core::probe::{Placement, Probe, ProbeBuilder};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::wanting("dmg", dmg, wants),
    Recogniser::new("dmg-encrypted", encrypted),
    Recogniser::new("sparseimage", sparseimage),
    Recogniser::new("asif", asif),
];

const KOLY: &[u8] = b"koly";

fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if let Some(at) = koly(input)
        && let Some(text) = input.u64_be(at.saturating_add(0xD8))
    {
        wants.read(text, 16);
    }
}

/// Returns the offset of the koly block: 512 bytes before the end, up to 1023 bytes if the file was padded, or 0.
pub(crate) fn koly(input: &ProbeInput) -> Option<u64> {
    let aligned = input.len().checked_sub(512).filter(|at| input.has(*at, KOLY));
    aligned.or_else(|| input.has(0, KOLY).then_some(0)).or_else(|| {
        let start = input.len().checked_sub(1023)?;
        let window = input.prefix(start, 515);
        let found = block_core::probe::fields::find(window, KOLY)?;
        // Four letters at an arbitrary offset are not enough: the header length after them must match too.
        let at = start.checked_add(u64::try_from(found).ok()?)?;
        (input.u32_be(at.checked_add(8)?) == Some(512)).then_some(at)
    })
}

fn dmg(input: &ProbeInput) -> Probe {
    let Some(at) = koly(input) else {
        return Probe::of("dmg", input).name(&["dmg"]).done();
    };
    let first = at == 0 && input.len() > 512;
    let field = |offset: u64| at.saturating_add(offset);
    let place = |offset: u64, len: u32| Location::start(field(offset), len);
    let fork = input.u64_be(field(0x18));
    let fork_len = input.u64_be(field(0x20));
    let fork_end = fork.zip(fork_len).and_then(|(start, len)| start.checked_add(len));
    let text = input.u64_be(field(0xD8));
    let text_len = input.u64_be(field(0xE0));
    let from_end = input.len().saturating_sub(at);
    let probe: ProbeBuilder<'_> = Probe::of("dmg", input).placement(Placement::Trailer);
    let probe =
        if first { probe.signature(0, KOLY) } else { probe.signature_at_end(from_end, KOLY) };
    probe
        .variant(if first { "UDIF, header first" } else { "UDIF" })
        .version(place(4, 4), "4", input.u32_be(field(4)) == Some(4))
        .structure("header size", place(8, 4), "512", input.u32_be(field(8)) == Some(512))
        .structure(
            "data fork",
            place(0x18, 16),
            "inside the file, clear of the trailer",
            fork_end.is_some_and(|end| if first { end <= input.len() } else { end <= at }),
        )
        .structure(
            "property list",
            place(0xD8, 16),
            "inside the file",
            text_len == Some(0) || fits(input, text, text_len, 0),
        )
        .structure(
            "property list text",
            (text.unwrap_or(0), 6),
            "<?xml or <plist",
            text_len == Some(0)
                || text.is_some_and(|at| input.has(at, b"<?xml") || input.has(at, b"<plist")),
        )
        .structure(
            "segments",
            place(0x3C, 4),
            "at least 1",
            input.u32_be(field(0x3C)).is_some_and(|n| n > 0),
        )
        .structure(
            "sectors",
            place(0x1EC, 8),
            "more than 0",
            input.u64_be(field(0x1EC)).is_some_and(|n| n > 0),
        )
        .degraded(
            "trailer place",
            place(0, 4),
            "512 bytes before the end",
            !first && from_end != 512,
        )
        .at_most(if first { 85 } else { 95 })
        .payload_from(0)
        .name(&["dmg"])
        .done()
}

fn encrypted(input: &ProbeInput) -> Probe {
    let new = Probe::of("dmg-encrypted", input)
        .signature(0, b"encrcdsa")
        .version((8, 4), "2", input.u32_be(8) == Some(2))
        .structure(
            "block size",
            (0x34, 4),
            "not 0",
            input.u32_be(0x34).is_some_and(|size| size > 0),
        )
        .variant("encrypted v2")
        .at_most(85)
        .payload_from(76);
    if new.is_signed() {
        return new.done();
    }
    Probe::of("dmg-encrypted", input)
        .signature_at_end(8, b"cdsaencr")
        .variant("encrypted v1")
        .at_most(60)
        .payload_from(0)
        .done()
}

fn sparseimage(input: &ProbeInput) -> Probe {
    Probe::of("sparseimage", input)
        .word(0, b"sprs")
        .structure("version", (4, 4), "3", input.u32_be(4) == Some(3))
        .structure(
            "sectors in a band",
            (8, 4),
            "1 to 0x100000",
            within(input.u32_be(8), 1..=0x10_0000),
        )
        .structure("sectors", (16, 4), "more than 0", input.u32_be(16).is_some_and(|n| n > 0))
        .at_most(85)
        .payload_from(4096)
        .name(&["sparseimage"])
        .done()
}

fn asif(input: &ProbeInput) -> Probe {
    let block = input.u16_be(68).map(u64::from);
    let inside = |at: u64| {
        input.u64_be(at).is_some_and(|offset| {
            multiple(Some(offset), block.unwrap_or(0)) && offset < input.len()
        })
    };
    Probe::of("asif", input)
        .word(0, b"shdw")
        .structure("version", (4, 4), "1", input.u32_be(4) == Some(1))
        .structure(
            "block size",
            (68, 2),
            "512 or 4096",
            block.is_some_and(|b| b == 512 || b == 4096),
        )
        .structure(
            "chunk size",
            (64, 4),
            "whole blocks",
            multiple(input.u32_be(64).map(u64::from), block.unwrap_or(0)),
        )
        .structure("directories", (16, 16), "on blocks, inside the file", inside(16) && inside(24))
        .structure(
            "sectors",
            (48, 8),
            "no more than the largest size",
            input.u64_be(48).zip(input.u64_be(56)).is_some_and(|(size, most)| size <= most),
        )
        .at_most(85)
        .payload_from(1 << 16)
        .name(&["asif"])
        .done()
}
