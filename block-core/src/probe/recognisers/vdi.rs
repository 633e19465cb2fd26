//! VirtualBox images: versions 1.1 and 0.x.

use super::Recogniser;
use crate::probe::claim::Probe;
use crate::probe::input::ProbeInput;

pub(super) const ALL: &[Recogniser] = &[Recogniser::new("vdi", probe)];

const MAGIC: &[u8] = &[0x7F, 0x10, 0xDA, 0xBE];

fn probe(input: &ProbeInput) -> Probe {
    if !input.has(0x40, MAGIC) {
        return Probe::of("vdi", input).name(&["vdi"]).done();
    }
    if input.u16_le(0x46) == Some(0) && !looks_like_1_1(input) {
        version_0(input)
    } else {
        version_1(input)
    }
}

/// A version number of 0 over the layout of 1.1 is a damaged 1.1 image: its header size stands where 0.x keeps the type.
fn looks_like_1_1(input: &ProbeInput) -> bool {
    input.u32_le(0x48).is_some_and(is_header_size)
}

fn is_header_size(size: u32) -> bool {
    (0x140..=0x1B8).contains(&size)
}

fn version_1(input: &ProbeInput) -> Probe {
    let version = input.u32_le(0x44);
    let header_size = input.u32_le(0x48);
    let kind = input.u32_le(0x4C);
    let map = input.u32_le(0x154).map(u64::from);
    let data = input.u32_le(0x158).map(u64::from);
    let disk = input.u64_le(0x170);
    let block = input.u32_le(0x178);
    let blocks = input.u32_le(0x180).map(u64::from);
    let allocated = input.u32_le(0x184).map(u64::from);
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
        .signature(0x40, MAGIC)
        .variant(type_name)
        .version((0x44, 4), "0x00010001 (1.1)", version == Some(0x0001_0001))
        .structure(
            "header size",
            (0x48, 4),
            "0x140 to 0x1B8",
            header_size.is_some_and(is_header_size),
        )
        .structure(
            "image type",
            (0x4C, 4),
            "1 to 4",
            kind.is_some_and(|kind| (1..=4).contains(&kind)),
        )
        .degraded("undo image", (0x4C, 4), "1, 2 or 4", kind == Some(3))
        .structure(
            "block map offset",
            (0x154, 4),
            "0x200 or more",
            map.is_some_and(|map| map >= 0x200),
        )
        .structure(
            "block map",
            (0x180, 4),
            "inside the file and before the data",
            map_end.is_some_and(|end| end <= input.len() && data.is_some_and(|data| data >= end)),
        )
        .structure("sector size", (0x168, 4), "512", input.u32_le(0x168) == Some(512))
        .structure(
            "block size",
            (0x178, 4),
            "a power of two",
            block.is_some_and(u32::is_power_of_two),
        )
        .structure(
            "disk size",
            (0x170, 8),
            "no more than blocks x block size",
            disk.zip(capacity).is_some_and(|(disk, capacity)| disk <= capacity),
        )
        .structure(
            "allocated blocks",
            (0x184, 4),
            "no more than blocks",
            allocated.zip(blocks).is_some_and(|(allocated, blocks)| allocated <= blocks),
        )
        .text("text", (0, 4), "<<<", text)
        .at_most(if text { 95 } else { 90 })
        .slack((
            0x48u64.saturating_add(u64::from(header_size.unwrap_or(0x1B8))),
            0x1B8u32.saturating_sub(header_size.unwrap_or(0x1B8)),
        ))
        .payload_from(data.unwrap_or(0x200).max(0x200))
        .name(&["vdi"])
        .done()
}

fn version_0(input: &ProbeInput) -> Probe {
    let block = input.u32_le(0x168);
    let blocks = input.u32_le(0x16C).map(u64::from);
    let map_end = blocks.and_then(|blocks| blocks.checked_mul(4)?.checked_add(0x1A4));
    let capacity =
        blocks.zip(block).and_then(|(blocks, block)| blocks.checked_mul(u64::from(block)));
    Probe::of("vdi", input)
        .signature(0x40, MAGIC)
        .variant("0.x")
        .version((0x44, 4), "major 0", true)
        .structure(
            "image type",
            (0x48, 4),
            "1 to 4",
            input.u32_le(0x48).is_some_and(|kind| (1..=4).contains(&kind)),
        )
        .structure(
            "block size",
            (0x168, 4),
            "a power of two",
            block.is_some_and(u32::is_power_of_two),
        )
        .structure(
            "block map",
            (0x16C, 4),
            "inside the file",
            map_end.is_some_and(|end| end <= input.len()),
        )
        .structure(
            "disk size",
            (0x160, 8),
            "no more than blocks x block size",
            input.u64_le(0x160).zip(capacity).is_some_and(|(disk, capacity)| disk <= capacity),
        )
        .at_most(75)
        .payload_from(map_end.unwrap_or(0x200))
        .name(&["vdi"])
        .done()
}

#[cfg(test)]
mod tests {
    use crate::probe::{Decision, ProbeInput, recognise};

    /// The header of an empty 4 MiB dynamic image with 1 MiB blocks.
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
        let report = recognise(&ProbeInput::of_bytes(&file), Vec::new());
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
