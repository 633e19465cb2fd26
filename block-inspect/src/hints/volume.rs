//! Volume managers, RAID members, cluster file systems and flash layouts, most recognised by a magic alone.

use crate::checksum::crc32_raw;
use block_core::probe::LookForHints;
use block_core::probe::ProbeInput;
use block_core::probe::WindowRequests;
use block_core::probe::{Hint, HintBuilder};

pub(crate) const ALL: &[LookForHints] = &[lvm2, raid, plain];

/// Seed of LVM2's CRC.
const LVM_SEED: u32 = 0xF597_A6CF;

fn lvm2(input: &ProbeInput) -> Vec<Hint> {
    (0..4u64)
        .filter_map(|sector| {
            let at = sector.checked_mul(512)?;
            let sum =
                input.bytes(at.checked_add(20)?, 492).map(|rest| crc32_raw(LVM_SEED, &[rest]));
            let hint = HintBuilder::of("lvm2", input, at, b"LABELONE")?
                .check(
                    "type",
                    (at.checked_add(0x18)?, 8),
                    "LVM2 001",
                    input.has(at.checked_add(0x18)?, b"LVM2 001"),
                )
                .check(
                    "checksum",
                    (at.checked_add(16)?, 4),
                    "the CRC of the label",
                    sum.is_some() && sum == input.u32_le(at.checked_add(16)?),
                );
            Some(hint.done(90))
        })
        .take(1)
        .collect()
}

const RAID: [u8; 4] = 0xA92B_4EFCu32.to_le_bytes();

/// Returns the possible offsets of a RAID superblock, each with the major version required there.
fn raid_places(len: u64) -> impl Iterator<Item = (u64, u32)> {
    let at_8k = len.checked_sub(8 << 10).map(|at| at & !0xFFF);
    let at_64k = (len & !0xFFFF).checked_sub(64 << 10);
    [(Some(0x1000), 1), (Some(0), 1), (at_8k, 1), (at_64k, 0)]
        .into_iter()
        .filter_map(|(at, version)| Some((at?, version)))
}

fn raid(input: &ProbeInput) -> Vec<Hint> {
    raid_places(input.len())
        .filter_map(|(at, version)| {
            let hint = HintBuilder::of("md-raid", input, at, &RAID)?;
            let found = input.u32_le(at.checked_add(4)?);
            Some(
                hint.check(
                    "version",
                    (at.checked_add(4)?, 4),
                    "1, or 0 in the last 128 KiB",
                    found == Some(version),
                )
                .done(75),
            )
        })
        .take(1)
        .collect()
}

/// A layout recognised by one or two magics: its name, its weight, and the magics with their offsets.
type Plain = (&'static str, u8, &'static [(u64, &'static [u8])]);

const PLAIN: &[Plain] = &[
    ("vmfs", 80, &[(1 << 20, &[0x0D, 0xD0, 0x01, 0xC0])]),
    ("vmfs", 80, &[(2 << 20, &[0x5E, 0xF1, 0xAB, 0x2F])]),
    (
        "bcache",
        70,
        &[(0x1018, b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81")],
    ),
    ("dm-verity", 70, &[(0, b"verity\0\0")]),
    ("dm-integrity", 70, &[(0, b"integrt\0")]),
    ("vdo", 70, &[(0, b"dmvdo001")]),
    ("stratis", 70, &[(0x204, b"!Stra0tis")]),
    ("stratis", 70, &[(0x1204, b"!Stra0tis")]),
    ("bluestore", 70, &[(0, b"bluestore block device\n")]),
    ("ubi", 70, &[(0, b"UBI#\x01")]),
    ("cramfs", 70, &[(0, &[0x45, 0x3D, 0xCD, 0x28]), (16, b"Compressed ROMFS")]),
    ("romfs", 70, &[(0, b"-rom1fs-")]),
    ("android-super", 70, &[(0x1000, b"gDla")]),
    ("android-vbmeta", 70, &[(0, b"AVB0\0\0\0\x01")]),
];

fn plain(input: &ProbeInput) -> Vec<Hint> {
    PLAIN
        .iter()
        .filter_map(|(id, weight, magics)| {
            let ((at, magic), more) = magics.split_first()?;
            let hint = HintBuilder::of(id, input, *at, magic)?;
            let all = more.iter().all(|(at, magic)| input.has(*at, magic));
            Some(hint.check("further magic", (*at, 0), "present", all).done(*weight))
        })
        .collect()
}

pub(crate) fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    for (at, _) in raid_places(input.len()) {
        wants.read(at, 512);
    }
    for (at, magic) in PLAIN.iter().flat_map(|(_, _, magics)| magics.iter()) {
        wants.read(*at, u64::try_from(magic.len()).unwrap_or(0));
    }
}
