//! Microsoft's file systems.

use block_core::probe::LookForHints;
use block_core::probe::ProbeInput;
use block_core::probe::fields::{power_of_two, within};
use block_core::probe::{Hint, HintBuilder};

pub(crate) const ALL: &[LookForHints] = &[fat, exfat, ntfs, refs, bitlocker];

fn fat(input: &ProbeInput) -> Vec<Hint> {
    let names: [(u64, &[u8]); 3] = [(0x36, b"FAT12   "), (0x36, b"FAT16   "), (0x52, b"FAT32   ")];
    let Some((at, name)) = names.into_iter().find(|(at, name)| input.has(*at, name)) else {
        return Vec::new();
    };
    let jump =
        (input.u8(0) == Some(0xEB) && input.u8(2) == Some(0x90)) || input.u8(0) == Some(0xE9);
    let media = input.u8(0x15);
    HintBuilder::of("fat", input, at, name)
        .map(|hint| {
            hint.check("boot signature", (510, 2), "55 AA", input.has(510, &[0x55, 0xAA]))
                .check("jump", (0, 3), "EB xx 90 or E9", jump)
                .check(
                    "bytes in a sector",
                    (0xB, 2),
                    "512 to 4096",
                    power_of_two(input.u16_le(0xB).map(u64::from), 512..=4096),
                )
                .check(
                    "sectors in a cluster",
                    (0xD, 1),
                    "a power of two",
                    power_of_two(input.u8(0xD).map(u64::from), 1..=128),
                )
                .check(
                    "reserved sectors",
                    (0xE, 2),
                    "1 or more",
                    within(input.u16_le(0xE), 1..=u16::MAX),
                )
                .check("FATs", (0x10, 1), "1 or more", within(input.u8(0x10), 1..=8))
                .check(
                    "media",
                    (0x15, 1),
                    "F0 or F8 to FF",
                    media.is_some_and(|m| m == 0xF0 || m >= 0xF8),
                )
                .covers(&["mbr"])
                .done(85)
        })
        .into_iter()
        .collect()
}

fn exfat(input: &ProbeInput) -> Vec<Hint> {
    let empty = input.bytes(11, 53).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    HintBuilder::of("exfat", input, 3, b"EXFAT   ")
        .map(|hint| {
            hint.check("area of FAT fields", (11, 53), "zeros", empty)
                .check("sector size", (108, 1), "9 to 12", within(input.u8(108), 9..=12))
                .covers(&["mbr"])
                .done(90)
        })
        .into_iter()
        .collect()
}

fn ntfs(input: &ProbeInput) -> Vec<Hint> {
    let sector = input.u16_le(0xB).map(u64::from);
    let per_cluster = input.u8(0xD);
    let cluster = per_cluster.and_then(|n| match n {
        1..=128 => Some(u64::from(n)),
        // A negative number is the exponent of a power of two.
        244..=255 => 1u64.checked_shl(256u32.checked_sub(n.into())?),
        _ => None,
    });
    let mft = input
        .u64_le(0x30)
        .zip(cluster.zip(sector))
        .and_then(|(mft, (cluster, sector))| mft.checked_mul(cluster)?.checked_mul(sector));
    HintBuilder::of("ntfs", input, 3, b"NTFS    ")
        .map(|hint| {
            hint.check(
                "bytes in a sector",
                (0xB, 2),
                "256 to 4096",
                power_of_two(sector, 256..=4096),
            )
            .check(
                "sectors in a cluster",
                (0xD, 1),
                "a power of two",
                cluster.is_some_and(u64::is_power_of_two),
            )
            .check(
                "master file table",
                (0x30, 8),
                "inside the disk",
                mft.is_some_and(|at| at > 0 && at < input.len()),
            )
            .covers(&["mbr"])
            .done(90)
        })
        .into_iter()
        .collect()
}

fn refs(input: &ProbeInput) -> Vec<Hint> {
    let hint = HintBuilder::of("refs", input, 0, b"\0\0\0ReFS\0");
    hint.map(|hint| {
        hint.check("structure name", (16, 4), "FSRS", input.has(16, b"FSRS"))
            .covers(&["mbr"])
            .done(70)
    })
    .into_iter()
    .collect()
}

fn bitlocker(input: &ProbeInput) -> Vec<Hint> {
    let hint = HintBuilder::of("bitlocker", input, 0, b"\xEB\x58\x90-FVE-FS-");
    hint.map(|hint| hint.covers(&["mbr"]).done(70)).into_iter().collect()
}
