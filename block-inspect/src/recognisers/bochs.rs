//! Bochs disks and compressed loop (cloop) images.

use block_core::probe::Probe;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::{multiple, power_of_two, within};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("bochs", bochs),
    Recogniser::new("bochs-sparse", sparse),
    Recogniser::new("cloop", cloop),
];

/// Whether the subtype is an overlay over another image.
pub(crate) fn is_overlay(input: &ProbeInput) -> bool {
    input.has(48, b"Undoable\0") || input.has(48, b"Volatile\0")
}

fn bochs(input: &ProbeInput) -> Probe {
    let version = input.u32_le(64);
    let catalog = input.u32_le(72).map(u64::from);
    let extent = input.u32_le(80).map(u64::from);
    let size = if version == Some(0x1_0000) { input.u64_le(84) } else { input.u64_le(88) };
    let reach = catalog.zip(extent).and_then(|(catalog, extent)| catalog.checked_mul(extent));
    Probe::of("bochs", input)
        .signature(0, b"Bochs Virtual HD Image\0")
        .variant(if is_overlay(input) { "redolog overlay" } else { "growing" })
        .version((64, 4), "1 or 2", version.is_some_and(|v| v == 0x1_0000 || v == 0x2_0000))
        .structure("type", (32, 8), "Redolog", input.has(32, b"Redolog\0"))
        .structure("header size", (68, 4), "512", input.u32_le(68) == Some(512))
        .structure("catalog", (72, 4), "at most 0x100000 entries", within(catalog, 1..=0x10_0000))
        .structure(
            "extent size",
            (80, 4),
            "a power of two from 512",
            power_of_two(extent, 512..=0x80_0000),
        )
        .structure(
            "disk size",
            (if version == Some(0x1_0000) { 84 } else { 88 }, 8),
            "no more than the catalog covers",
            size.zip(reach).is_some_and(|(size, reach)| size <= reach),
        )
        .degraded("subtype", (48, 16), "Growing", is_overlay(input))
        .at_most(95)
        .payload_from(catalog.unwrap_or(0).saturating_mul(4).saturating_add(512))
        .name(&["bochs"])
        .done()
}

fn sparse(input: &ProbeInput) -> Probe {
    Probe::of("bochs-sparse", input)
        .word(0, &0x0246_8ACEu32.to_le_bytes())
        .structure("version", (4, 4), "1 or 2", within(input.u32_le(4), 1..=2))
        .at_most(60)
        .payload_from(256)
        .done()
}

fn cloop(input: &ProbeInput) -> Probe {
    const SCRIPT: &[u8] = b"#!/bin/sh\n#V2.0 Format\n";
    let block = input.u32_be(128).map(u64::from);
    let first = input
        .u32_be(132)
        .map(u64::from)
        .and_then(|n| n.checked_add(1)?.checked_mul(8)?.checked_add(136));
    Probe::of("cloop", input)
        .signature(0, SCRIPT)
        .variant("v2")
        .structure(
            "block size",
            (128, 4),
            "whole sectors, at most 64 MiB",
            multiple(block, 512) && within(block, 512..=64 << 20),
        )
        .structure(
            "first offset",
            (136, 8),
            "right behind the table",
            first.is_some() && input.u64_be(136) == first,
        )
        .at_most(90)
        .payload_from(136)
        .name(&["cloop"])
        .done()
}
