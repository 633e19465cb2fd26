//! Android sparse images.

use block_core::probe::Probe;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::{multiple, within};

pub(crate) const ALL: &[Recogniser] = &[Recogniser::new("android-sparse", sparse)];

/// Chunk types: raw, fill, don't care, checksum.
pub(crate) const CHUNKS: std::ops::RangeInclusive<u16> = 0xCAC1..=0xCAC4;

fn sparse(input: &ProbeInput) -> Probe {
    let blocks = input.u32_le(16);
    Probe::of("android-sparse", input)
        .signature(0, &0xED26_FF3Au32.to_le_bytes())
        .version((4, 2), "1", input.u16_le(4) == Some(1))
        .structure("header size", (8, 2), "28", input.u16_le(8) == Some(28))
        .structure("chunk header size", (10, 2), "12", input.u16_le(10) == Some(12))
        .structure(
            "block size",
            (12, 4),
            "a multiple of 4",
            multiple(input.u32_le(12).map(u64::from), 4),
        )
        .structure(
            "first chunk",
            (28, 2),
            "CAC1 to CAC4",
            input.u32_le(20) == Some(0) || within(input.u16_le(28), CHUNKS),
        )
        .structure(
            "first chunk length",
            (32, 4),
            "no more than the blocks of the disk",
            input.u32_le(20) == Some(0)
                || input.u32_le(32).zip(blocks).is_some_and(|(chunk, all)| chunk <= all),
        )
        .at_most(95)
        .payload_from(28)
        .name(&["simg"])
        .done()
}
