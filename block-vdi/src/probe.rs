//! Recognises VirtualBox images of versions 1.1 and 0.x.

use crate::format::{
    MAJOR_OFFSET, MAP_OFFSET_V0, SIGNATURE, SIGNATURE_OFFSET, VERSION_1_1, VERSION_OFFSET, v0, v1,
};
use block_core::probe::ProbeInput;
use block_core::probe::{Placement, Probe};

/// The signature's bytes in the file.
const MAGIC: &[u8] = &SIGNATURE.to_le_bytes();

/// Recognises a VDI by its signature, and checks its header.
pub(crate) fn probe(input: &ProbeInput) -> Probe {
    if !input.has(SIGNATURE_OFFSET, MAGIC) {
        return Probe::of("vdi", input).name(&["vdi"]).done();
    }
    if input.u16_le(MAJOR_OFFSET) == Some(0) && !looks_like_1_1(input) {
        version_0(input)
    } else {
        version_1(input)
    }
}

/// Returns whether a header of version 0 is a damaged 1.1 header: its header size lies where 0.x keeps the type.
fn looks_like_1_1(input: &ProbeInput) -> bool {
    input.u32_le(v1::HEADER_SIZE).is_some_and(is_header_size)
}

fn is_header_size(size: u32) -> bool {
    (0x140..=0x1B8).contains(&size)
}

fn version_1(input: &ProbeInput) -> Probe {
    let version = input.u32_le(VERSION_OFFSET);
    let header_size = input.u32_le(v1::HEADER_SIZE);
    let kind = input.u32_le(v1::IMAGE_TYPE);
    let map = input.u32_le(v1::MAP_OFFSET).map(u64::from);
    let data = input.u32_le(v1::DATA_OFFSET).map(u64::from);
    let disk = input.u64_le(v1::DISK_SIZE);
    let block = input.u32_le(v1::BLOCK_SIZE);
    let blocks = input.u32_le(v1::BLOCKS).map(u64::from);
    let allocated = input.u32_le(v1::ALLOCATED).map(u64::from);
    let map_end = map.zip(blocks).and_then(|(map, blocks)| map.checked_add(blocks.checked_mul(4)?));
    let capacity =
        blocks.zip(block).and_then(|(blocks, block)| blocks.checked_mul(u64::from(block)));
    let type_name = match kind {
        Some(1) => "1.1 dynamic",
        Some(2) => "1.1 static",
        Some(3) => "1.1 undo",
        Some(4) => "1.1 differencing",
        _ => "1.1",
    };
    let text = input.has(0, b"<<<");
    Probe::of("vdi", input)
        .placement(Placement::Header)
        .signature(SIGNATURE_OFFSET, MAGIC)
        .variant(type_name)
        .version((VERSION_OFFSET, 4), "0x00010001 (1.1)", version == Some(VERSION_1_1))
        .structure(
            "header size",
            (v1::HEADER_SIZE, 4),
            "0x140 to 0x1B8",
            header_size.is_some_and(is_header_size),
        )
        .structure(
            "image type",
            (v1::IMAGE_TYPE, 4),
            "1 to 4",
            kind.is_some_and(|kind| (1..=4).contains(&kind)),
        )
        .degraded("undo image", (v1::IMAGE_TYPE, 4), "1, 2 or 4", kind == Some(3))
        .structure(
            "block map offset",
            (v1::MAP_OFFSET, 4),
            "0x200 or more",
            map.is_some_and(|map| map >= 0x200),
        )
        .structure(
            "block map",
            (v1::BLOCKS, 4),
            "inside the file and before the data",
            map_end.is_some_and(|end| end <= input.len() && data.is_some_and(|data| data >= end)),
        )
        .structure(
            "sector size",
            (v1::SECTOR_SIZE, 4),
            "512",
            input.u32_le(v1::SECTOR_SIZE) == Some(512),
        )
        .structure(
            "block size",
            (v1::BLOCK_SIZE, 4),
            "a power of two",
            block.is_some_and(u32::is_power_of_two),
        )
        .structure(
            "disk size",
            (v1::DISK_SIZE, 8),
            "no more than blocks x block size",
            disk.zip(capacity).is_some_and(|(disk, capacity)| disk <= capacity),
        )
        .structure(
            "allocated blocks",
            (v1::ALLOCATED, 4),
            "no more than blocks",
            allocated.zip(blocks).is_some_and(|(allocated, blocks)| allocated <= blocks),
        )
        .text("text", (0, 4), "<<<", text)
        .at_most(if text { 95 } else { 90 })
        .slack((
            v1::HEADER_SIZE.saturating_add(u64::from(header_size.unwrap_or(0x1B8))),
            0x1B8u32.saturating_sub(header_size.unwrap_or(0x1B8)),
        ))
        .payload_from(data.unwrap_or(0x200).max(0x200))
        .name(&["vdi"])
        .done()
}

fn version_0(input: &ProbeInput) -> Probe {
    let block = input.u32_le(v0::BLOCK_SIZE);
    let blocks = input.u32_le(v0::BLOCKS).map(u64::from);
    let map_end =
        blocks.and_then(|blocks| blocks.checked_mul(4)?.checked_add(u64::from(MAP_OFFSET_V0)));
    let capacity =
        blocks.zip(block).and_then(|(blocks, block)| blocks.checked_mul(u64::from(block)));
    Probe::of("vdi", input)
        .placement(Placement::Header)
        .signature(SIGNATURE_OFFSET, MAGIC)
        .variant("0.x")
        .version((VERSION_OFFSET, 4), "major 0", true)
        .structure(
            "image type",
            (v0::IMAGE_TYPE, 4),
            "1 to 4",
            input.u32_le(v0::IMAGE_TYPE).is_some_and(|kind| (1..=4).contains(&kind)),
        )
        .structure(
            "block size",
            (v0::BLOCK_SIZE, 4),
            "a power of two",
            block.is_some_and(u32::is_power_of_two),
        )
        .structure(
            "block map",
            (v0::BLOCKS, 4),
            "inside the file",
            map_end.is_some_and(|end| end <= input.len()),
        )
        .structure(
            "disk size",
            (v0::DISK_SIZE, 8),
            "no more than blocks x block size",
            input
                .u64_le(v0::DISK_SIZE)
                .zip(capacity)
                .is_some_and(|(disk, capacity)| disk <= capacity),
        )
        .at_most(75)
        .payload_from(map_end.unwrap_or(0x200))
        .name(&["vdi"])
        .done()
}

#[cfg(test)]
mod tests {
    use block_core::probe::{Decision, ProbeInput, decide};

    /// Returns the header of an empty 4 MiB dynamic image with 1 MiB blocks.
    fn image() -> Vec<u8> {
        let mut file = vec![0u8; 0x400];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"<<< test image >>>\n");
        put(0x40, &0xBEDA_107Fu32.to_le_bytes());
        put(0x44, &0x0001_0001u32.to_le_bytes());
        put(0x48, &0x190u32.to_le_bytes());
        put(0x4C, &1u32.to_le_bytes());
        put(0x154, &0x200u32.to_le_bytes());
        put(0x158, &0x400u32.to_le_bytes());
        put(0x168, &512u32.to_le_bytes());
        put(0x170, &(4u64 << 20).to_le_bytes());
        put(0x178, &(1u32 << 20).to_le_bytes());
        put(0x180, &4u32.to_le_bytes());
        put(0x200, &[0xFF; 16]);
        file
    }

    fn score_after(edit: impl Fn(&mut Vec<u8>)) -> (Option<String>, u8, Decision) {
        let mut file = image();
        edit(&mut file);
        let input = ProbeInput::of_bytes(&file);
        let report = decide(&input, vec![super::probe(&input)], Vec::new());
        let value = report.candidate("vdi").map_or(0, |candidate| candidate.score.value);
        (report.selected, value, report.decision)
    }

    #[test]
    fn the_score_follows_the_evidence() {
        let vdi = Some("vdi".to_owned());
        assert_eq!(score_after(|_| {}), (vdi.clone(), 95, Decision::Selected));
        assert_eq!(score_after(|file| file[..0x40].fill(0)), (vdi.clone(), 90, Decision::Selected));
        assert_eq!(score_after(|file| file[0x4C] = 3), (vdi.clone(), 75, Decision::Selected));
        assert_eq!(
            score_after(|file| file[0x44..0x48].copy_from_slice(&[1, 0, 0, 0])),
            (vdi.clone(), 60, Decision::Broken)
        );
        assert_eq!(score_after(|file| file[0x178] = 3), (vdi.clone(), 60, Decision::Broken));
        assert_eq!(score_after(|file| file[0x180..0x184].fill(0xFF)), (vdi, 60, Decision::Broken));
        assert_eq!(
            score_after(|file| file.truncate(0x44)),
            (Some("raw".to_owned()), 45, Decision::Raw)
        );
        assert_eq!(score_after(|file| file[0x40] = 0), (Some("raw".to_owned()), 0, Decision::Raw));
        assert_eq!(score_after(Vec::clear), (Some("raw".to_owned()), 0, Decision::Empty));
    }
}
