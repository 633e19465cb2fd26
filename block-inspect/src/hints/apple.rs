//! Apple's file systems.

use crate::checksum::fletcher64;
use block_core::probe::LookForHints;
use block_core::probe::ProbeInput;
use block_core::probe::fields::{multiple, power_of_two};
use block_core::probe::{Hint, HintBuilder};

pub(crate) const ALL: &[LookForHints] = &[hfs_plus, hfs, apfs];

fn hfs_plus(input: &ProbeInput) -> Vec<Hint> {
    let kinds: [(&'static str, &[u8], u16); 2] = [("hfs+", b"H+", 4), ("hfsx", b"HX", 5)];
    kinds
        .into_iter()
        .filter_map(|(id, magic, version)| {
            let hint = HintBuilder::of(id, input, 0x400, magic)?
                .check(
                    "version",
                    (0x402, 2),
                    "4, or 5 for HFSX",
                    input.u16_be(0x402) == Some(version),
                )
                .check(
                    "block size",
                    (0x428, 4),
                    "a power of two",
                    power_of_two(input.u32_be(0x428).map(u64::from), 512..=1 << 24),
                );
            Some(hint.done(60))
        })
        .collect()
}

fn hfs(input: &ProbeInput) -> Vec<Hint> {
    HintBuilder::of("hfs", input, 0x400, b"BD")
        .map(|hint| {
            hint.check(
                "block size",
                (0x414, 4),
                "a multiple of 512",
                multiple(input.u32_be(0x414).map(u64::from), 512),
            )
            .done(60)
        })
        .into_iter()
        .collect()
}

fn apfs(input: &ProbeInput) -> Vec<Hint> {
    let block = input.u32_le(36).map(u64::from).filter(|size| (4096..=0x1_0000).contains(size));
    let bytes = block.and_then(|size| input.bytes(8, usize::try_from(size.checked_sub(8)?).ok()?));
    let sum = bytes.map(fletcher64);
    HintBuilder::of("apfs", input, 0x20, b"NXSB")
        .map(|hint| {
            hint.check(
                "block size",
                (36, 4),
                "4 KiB to 64 KiB",
                power_of_two(block, 4096..=0x1_0000),
            )
            .check(
                "checksum",
                (0, 8),
                "the Fletcher-64 of the block",
                sum.is_some() && sum == input.u64_le(0),
            )
            .done(75)
        })
        .into_iter()
        .collect()
}
