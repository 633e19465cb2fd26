//! VHDX: second-generation Hyper-V disks, with or without a parent.

use crate::checksum::crc32c;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::within;
use block_core::probe::{Location, Mirror};
use block_core::probe::{Placement, Probe};

pub(crate) const ALL: &[Recogniser] =
    &[Recogniser::wanting("vhdx", vhdx, wants), Recogniser::new("avhdx", avhdx)];

const MAGIC: &[u8] = b"vhdxfile";
/// Byte offsets of the two headers.
pub(crate) const HEADERS: [u64; 2] = [0x1_0000, 0x2_0000];
/// Byte offsets of the two region tables.
pub(crate) const REGIONS: [u64; 2] = [0x3_0000, 0x4_0000];
const REGIONS_AT: u64 = 0x3_0000;
pub(crate) const REGION_LEN: u64 = 0x1_0000;
const MOST_REGIONS: u32 = 2047;
pub(crate) const BAT: [u8; 16] =
    guid(0x2DC2_7766, 0xF623, 0x4200, [0x9D, 0x64, 0x11, 0x5E, 0x9B, 0xFD, 0x4A, 0x08]);
pub(crate) const METADATA: [u8; 16] =
    guid(0x8B7C_A206, 0x4790, 0x4B9A, [0xB8, 0xFE, 0x57, 0x5F, 0x05, 0x0F, 0x88, 0x6E]);
pub(crate) const FILE_PARAMETERS: [u8; 16] =
    guid(0xCAA1_6737, 0xFA36, 0x4D43, [0xB3, 0xB6, 0x33, 0xF0, 0xAA, 0x44, 0xE7, 0x6B]);
pub(crate) const VIRTUAL_SIZE: [u8; 16] =
    guid(0x2FA5_4224, 0xCD1B, 0x4876, [0xB2, 0x11, 0x5D, 0xBE, 0xD8, 0x3B, 0xF4, 0xB8]);
pub(crate) const PARENT_LOCATOR: [u8; 16] =
    guid(0xA8D3_5F2D, 0xB30B, 0x454D, [0xAB, 0xF7, 0xD3, 0xD8, 0x48, 0x34, 0xAB, 0x0C]);

/// Returns a GUID as stored on disk: the first three groups are little-endian.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let [a0, a1, a2, a3] = a.to_le_bytes();
    let [b0, b1] = b.to_le_bytes();
    let [c0, c1] = c.to_le_bytes();
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
    [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
}

fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if !input.has(0, MAGIC) {
        return;
    }
    for header in HEADERS {
        wants.read(header, 4096);
    }
    for table in REGIONS {
        wants.read(table, REGION_LEN);
    }
    if let Some(metadata) = region(input, &METADATA) {
        wants.read(metadata.offset, REGION_LEN);
        for id in [FILE_PARAMETERS, VIRTUAL_SIZE, PARENT_LOCATOR] {
            if let Some(item) = item(input, &id) {
                wants.read(item.offset, u64::from(item.len.min(4096)));
            }
        }
    }
}

/// An entry of the region table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) id: [u8; 16],
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) required: bool,
    /// Byte offset of the entry from the start of the file.
    pub(crate) at: u64,
}

/// Returns the entries of the first valid region table, or else of the first one present.
pub(crate) fn regions(input: &ProbeInput) -> Vec<Region> {
    let sound = REGIONS.into_iter().find(|at| region_table_sound(input, *at) == Some(true));
    let Some(table) = sound.or_else(|| REGIONS.into_iter().find(|at| input.has(*at, b"regi")))
    else {
        return Vec::new();
    };
    let count = input.u32_le(table.saturating_add(8)).unwrap_or(0).min(MOST_REGIONS);
    (0..u64::from(count))
        .map_while(|index| {
            let at = table.checked_add(16)?.checked_add(index.checked_mul(32)?)?;
            Some(Region {
                id: input.array(at)?,
                offset: input.u64_le(at.checked_add(16)?)?,
                len: input.u32_le(at.checked_add(24)?)?,
                required: input.u32_le(at.checked_add(28)?)? & 1 != 0,
                at,
            })
        })
        .collect()
}

pub(crate) fn region(input: &ProbeInput, id: &[u8; 16]) -> Option<Region> {
    regions(input).into_iter().find(|region| region.id == *id)
}

/// An entry of the metadata table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) id: [u8; 16],
    /// Bytes from the start of the file.
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) flags: u32,
    pub(crate) at: u64,
}

/// Returns the metadata items if their table was read.
pub(crate) fn items(input: &ProbeInput) -> Vec<Item> {
    let Some(table) = region(input, &METADATA).map(|region| region.offset) else {
        return Vec::new();
    };
    if !input.has(table, b"metadata") {
        return Vec::new();
    }
    let count = input.u16_le(table.saturating_add(10)).unwrap_or(0).min(2047);
    (0..u64::from(count))
        .map_while(|index| {
            let at = table.checked_add(32)?.checked_add(index.checked_mul(32)?)?;
            Some(Item {
                id: input.array(at)?,
                offset: table.checked_add(input.u32_le(at.checked_add(16)?)?.into())?,
                len: input.u32_le(at.checked_add(20)?)?,
                flags: input.u32_le(at.checked_add(24)?)?,
                at,
            })
        })
        .collect()
}

pub(crate) fn item(input: &ProbeInput, id: &[u8; 16]) -> Option<Item> {
    items(input).into_iter().find(|item| item.id == *id)
}

/// Whether the flags of the file parameters say that the disk has a parent.
pub(crate) fn has_parent(input: &ProbeInput) -> bool {
    item(input, &FILE_PARAMETERS)
        .and_then(|item| input.u32_le(item.offset.checked_add(4)?))
        .is_some_and(|flags| flags & 2 != 0)
}

/// Whether the header's checksum is correct. `None` if the header is absent or was not read.
pub(crate) fn header_sound(input: &ProbeInput, at: u64) -> Option<bool> {
    input.has(at, b"head").then_some(())?;
    checksum(input, at, 4096)
}

fn region_table_sound(input: &ProbeInput, at: u64) -> Option<bool> {
    input.has(at, b"regi").then_some(())?;
    checksum(input, at, REGION_LEN)
}

fn checksum(input: &ProbeInput, at: u64, len: u64) -> Option<bool> {
    let bytes = input.bytes(at, usize::try_from(len).ok()?)?;
    let sum = crc32c(&[bytes.get(..4)?, &[0; 4], bytes.get(8..)?]);
    Some(input.u32_le(at.checked_add(4)?) == Some(sum))
}

fn vhdx(input: &ProbeInput) -> Probe {
    if !input.has(0, MAGIC) {
        return Probe::of("vhdx", input).name(&["vhdx", "avhdx"]).done();
    }
    let [first, second] = HEADERS;
    let sound = [first, second].map(|at| header_sound(input, at) == Some(true));
    let sequences = [first, second].map(|at| input.u64_le(at.saturating_add(8)));
    let bodies = [first, second].map(|at| input.bytes(at, 4096));
    let tie = sound == [true, true]
        && matches!(sequences, [a, b] if a == b)
        && matches!(bodies, [a, b] if a != b);
    let active = match (sound, sequences) {
        ([true, false], _) => first,
        ([true, true], [a, b]) if a >= b => first,
        _ => second,
    };
    let headers = match sound {
        [true, true] => None,
        [false, false] => Some(false),
        _ => Some(true),
    };
    let [regions_1, regions_2] = REGIONS.map(|at| region_table_sound(input, at));
    let count = REGIONS
        .into_iter()
        .find(|at| input.has(*at, b"regi"))
        .and_then(|at| input.u32_le(at.saturating_add(8)));
    let metadata = region(input, &METADATA);
    let probe = Probe::of("vhdx", input).placement(Placement::Header).signature(0, MAGIC).version(
        (active.saturating_add(0x42), 2),
        "1",
        headers == Some(false) || input.u16_le(active.saturating_add(0x42)) == Some(1),
    );
    let probe = match headers {
        None => probe.integrity("header checksums", (first, 4096), "two sound headers", Some(true)),
        Some(true) => {
            probe.duplicate("headers", (first, 4096), "two sound headers", Mirror::Missing)
        }
        Some(false) => {
            probe.integrity("header checksums", (first, 4096), "a sound header", Some(false))
        }
    };
    probe
        .structure(
            "headers",
            (first.saturating_add(8), 8),
            "not the same sequence number with other content",
            !tie,
        )
        .structure(
            "region table",
            (REGIONS_AT, 4),
            "a sound table",
            regions_1 == Some(true) || regions_2 == Some(true),
        )
        .structure(
            "region count",
            Location::start(REGIONS_AT.saturating_add(8), 4),
            "at most 2047",
            within(count, 1..=MOST_REGIONS),
        )
        .structure("block table region", (REGIONS_AT, 16), "present", region(input, &BAT).is_some())
        .structure(
            "metadata",
            (metadata.map_or(REGIONS_AT, |region| region.offset), 8),
            "a region that begins with metadata",
            metadata.is_some_and(|region| input.has(region.offset, b"metadata")),
        )
        .slack((0x208, 0xFDF8))
        .payload_from(1 << 20)
        .name(&["vhdx", "avhdx"])
        .done()
}

fn avhdx(input: &ProbeInput) -> Probe {
    if !input.has(0, MAGIC) || !has_parent(input) {
        return Probe::none("avhdx");
    }
    let locator = item(input, &PARENT_LOCATOR);
    let mut probe = vhdx(input);
    probe.id = "avhdx".into();
    probe.refines = Some("vhdx");
    probe.variant = Some("differencing".into());
    let at = locator.map_or(Location::start(0, 0), |item| Location::start(item.at, 32));
    let extra = Probe::of("avhdx", input)
        .signature(0, MAGIC)
        .structure("parent locator", at, "an item with the parent's place", locator.is_some())
        .done();
    probe.evidence.extend(extra.evidence.into_iter().skip(1));
    probe
}
