//! Evidence containers: EWF (E01, L01, Ex01, Lx01) and AFF.

use crate::checksum::adler32;
use block_core::probe::Location;
use block_core::probe::Probe;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::within;

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("ewf", e01),
    Recogniser::new("ewf-logical", l01),
    Recogniser::new("ewf2", ex01),
    Recogniser::new("ewf2-logical", lx01),
    Recogniser::new("aff", aff),
];

const FIRST_SECTIONS: &[&[u8]] = &[b"header\0", b"header2\0", b"volume\0", b"disk\0"];

fn e01(input: &ProbeInput) -> Probe {
    version_1("ewf", b"EVF\x09\r\n\xFF\0", 100, input)
}

fn l01(input: &ProbeInput) -> Probe {
    version_1("ewf-logical", b"LVF\x09\r\n\xFF\0", 90, input)
}

fn version_1(id: &'static str, magic: &[u8], ceiling: u8, input: &ProbeInput) -> Probe {
    let next = input.u64_le(13 + 16);
    let sum = input.bytes(13, 72).map(adler32);
    Probe::of(id, input)
        .signature(0, magic)
        .structure("fields start", (8, 1), "1", input.u8(8) == Some(1))
        .structure("segment", (9, 2), "1 or more", within(input.u16_le(9), 1..=u16::MAX))
        .structure("fields end", (11, 2), "0", input.u16_le(11) == Some(0))
        .structure(
            "section type",
            (13, 16),
            "header, header2, volume or disk",
            FIRST_SECTIONS.iter().any(|s| input.has(13, s)),
        )
        .structure(
            "next section",
            (29, 8),
            "inside the file",
            next.is_some_and(|next| next > 13 && next <= input.len()),
        )
        .integrity(
            "section checksum",
            (85, 4),
            "the Adler-32 of the section",
            sum.map(|sum| input.u32_le(85) == Some(sum)),
        )
        .driver("ewf")
        .at_most(ceiling)
        .payload_from(89)
        .name(&["e01", "l01"])
        .done()
}

fn ex01(input: &ProbeInput) -> Probe {
    version_2("ewf2", b"EVF2\r\n\x81\0", input)
}

fn lx01(input: &ProbeInput) -> Probe {
    version_2("ewf2-logical", b"LEF2\r\n\x81\0", input)
}

fn version_2(id: &'static str, magic: &[u8], input: &ProbeInput) -> Probe {
    Probe::of(id, input)
        .signature(0, magic)
        .version((8, 1), "2", input.u8(8) == Some(2))
        .structure("compression", (10, 2), "0 to 2", within(input.u16_le(10), 0..=2))
        .structure("segment", (12, 4), "1 or more", within(input.u32_le(12), 1..=u32::MAX))
        .at_most(90)
        .payload_from(32)
        .name(&["ex01", "lx01"])
        .done()
}

fn aff(input: &ProbeInput) -> Probe {
    Probe::of("aff", input)
        .signature(0, b"AFF10\r\n\0")
        .structure("first segment", Location::start(8, 4), "AFF", input.has(8, b"AFF\0"))
        .at_most(90)
        .payload_from(32)
        .name(&["aff"])
        .done()
}
