//! File systems of Linux and its relatives, and swap.

use crate::checksum::crc32c;
use block_core::probe::LookForHints;
use block_core::probe::ProbeInput;
use block_core::probe::WindowRequests;
use block_core::probe::fields::{power_of_two, within};
use block_core::probe::{Hint, HintBuilder};

pub(crate) const ALL: &[LookForHints] =
    &[ext, xfs, btrfs, zfs, f2fs, erofs, nilfs2, reiserfs, jfs, swap];

fn one(hint: Option<Hint>) -> Vec<Hint> {
    hint.into_iter().collect()
}

fn ext(input: &ProbeInput) -> Vec<Hint> {
    let log = input.u32_le(0x418);
    let blocks = input.u32_le(0x404).map(u64::from);
    // The whole file system must be inside the file: an image cut in the middle fails this check.
    let bytes =
        blocks.zip(log).and_then(|(blocks, log)| blocks.checked_mul(1024u64.checked_shl(log)?));
    one(HintBuilder::of("ext", input, 0x438, &[0x53, 0xEF]).map(|hint| {
        hint.check("block size", (0x418, 4), "0 to 6", within(log, 0..=6))
            .check(
                "blocks",
                (0x404, 4),
                "inside the disk",
                bytes.is_some_and(|n| n > 0 && n <= input.len()),
            )
            .check("revision", (0x44C, 4), "0 or 1", within(input.u32_le(0x44C), 0..=1))
            .check("inodes", (0x400, 4), "more than 0", within(input.u32_le(0x400), 1..=u32::MAX))
            .done(80)
    }))
}

fn xfs(input: &ProbeInput) -> Vec<Hint> {
    let block = input.u32_be(4).map(u64::from);
    let bytes = block.zip(input.u64_be(8)).and_then(|(block, blocks)| block.checked_mul(blocks));
    one(HintBuilder::of("xfs", input, 0, b"XFSB").map(|hint| {
        hint.check("block size", (4, 4), "a power of two", power_of_two(block, 512..=0x1_0000))
            .check(
                "blocks",
                (8, 8),
                "inside the disk",
                bytes.is_some_and(|n| n > 0 && n <= input.len()),
            )
            .done(85)
    }))
}

fn btrfs(input: &ProbeInput) -> Vec<Hint> {
    const BLOCK: u64 = 0x1_0000;
    let block = input.bytes(BLOCK, 4096);
    let sum = block.and_then(|b| Some(crc32c(&[b.get(32..)?])));
    // Checksums other than CRC-32C are not computed.
    let other = input.u16_le(BLOCK + 0xC4).is_some_and(|kind| kind != 0);
    one(HintBuilder::of("btrfs", input, BLOCK + 0x40, b"_BHRfS_M").map(|hint| {
        hint.check(
            "own place",
            (BLOCK + 0x30, 8),
            "0x10000",
            input.u64_le(BLOCK + 0x30) == Some(BLOCK),
        )
        .check(
            "checksum",
            (BLOCK, 4),
            "the CRC-32C of the block",
            other || (sum.is_some() && sum == input.u32_le(BLOCK)),
        )
        .done(95)
    }))
}

/// Returns the offsets of the uberblock rings in the four labels.
fn zfs_rings(len: u64) -> impl Iterator<Item = u64> {
    const RING: u64 = 128 << 10;
    let end =
        len.checked_div(256 << 10).and_then(|labels| labels.checked_mul(256 << 10)).unwrap_or(0);
    [Some(0), Some(256 << 10), end.checked_sub(512 << 10), end.checked_sub(256 << 10)]
        .into_iter()
        .flatten()
        .filter_map(|label: u64| label.checked_add(RING))
}

/// Bytes read of each ring.
const ZFS_RING_READ: u64 = 16 << 10;

pub(crate) fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if input.len() >= 4 << 20 {
        for ring in zfs_rings(input.len()) {
            wants.read(ring, ZFS_RING_READ);
        }
    }
}

fn zfs(input: &ProbeInput) -> Vec<Hint> {
    const LITTLE: [u8; 8] = 0x00BA_B10Cu64.to_le_bytes();
    const BIG: [u8; 8] = 0x00BA_B10Cu64.to_be_bytes();
    for ring in zfs_rings(input.len()) {
        for magic in [LITTLE, BIG] {
            let slots = (0..16u64).filter_map(|slot| ring.checked_add(slot.checked_mul(1024)?));
            let places: Vec<u64> = slots.filter(|at| input.has(*at, &magic)).collect();
            if let Some(first) = places.first() {
                let hint = HintBuilder::of("zfs", input, *first, &magic).map(|hint| {
                    hint.check("uberblocks", (ring, 8), "at least 4", places.len() >= 4).done(85)
                });
                return one(hint);
            }
        }
    }
    Vec::new()
}

fn f2fs(input: &ProbeInput) -> Vec<Hint> {
    one(HintBuilder::of("f2fs", input, 0x400, &[0x10, 0x20, 0xF5, 0xF2]).map(|hint| {
        hint.check("block size", (0x410, 4), "12", within(input.u32_le(0x410), 12..=14)).done(80)
    }))
}

fn erofs(input: &ProbeInput) -> Vec<Hint> {
    one(HintBuilder::of("erofs", input, 0x400, &[0xE2, 0xE1, 0xF5, 0xE0]).map(|hint| {
        hint.check("block size", (0x40C, 1), "9 to 16", within(input.u8(0x40C), 9..=16)).done(80)
    }))
}

fn nilfs2(input: &ProbeInput) -> Vec<Hint> {
    one(HintBuilder::of("nilfs2", input, 0x406, &[0x34, 0x34]).map(|hint| {
        hint.check("revision", (0x400, 4), "2", input.u32_le(0x400) == Some(2)).done(70)
    }))
}

fn reiserfs(input: &ProbeInput) -> Vec<Hint> {
    let names: [&[u8]; 3] = [b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs"];
    let name = names.into_iter().find(|name| input.has(0x1_0034, name));
    one(name.and_then(|name| HintBuilder::of("reiserfs", input, 0x1_0034, name)).map(|hint| {
        hint.check(
            "block size",
            (0x1_002C, 2),
            "a power of two",
            power_of_two(input.u16_le(0x1_002C).map(u64::from), 512..=0x8000),
        )
        .done(70)
    }))
}

fn jfs(input: &ProbeInput) -> Vec<Hint> {
    one(HintBuilder::of("jfs", input, 0x8000, b"JFS1").map(|hint| {
        hint.check(
            "block size",
            (0x8018, 4),
            "512 to 4096",
            power_of_two(input.u32_le(0x8018).map(u64::from), 512..=4096),
        )
        .done(70)
    }))
}

fn swap(input: &ProbeInput) -> Vec<Hint> {
    let pages = [0x1000u64, 0x2000, 0x4000, 0x8000, 0x1_0000];
    let found = pages.into_iter().filter_map(|page| page.checked_sub(10)).find_map(|at| {
        let new = HintBuilder::of("swap", input, at, b"SWAPSPACE2");
        new.map(|hint| hint.check("version", (1024, 4), "1", input.u32_le(1024) == Some(1)))
    });
    one(found.map(|hint| hint.done(70)))
}
