//! Partition tables: MBR, GPT, Apple's.

use crate::checksum::crc32;
use block_core::probe::LookForHints;
use block_core::probe::ProbeInput;
use block_core::probe::WindowRequests;
use block_core::probe::{Hint, HintBuilder};

pub(crate) const ALL: &[LookForHints] = &[mbr, gpt, apm];

/// Sector sizes in bytes at which a GPT is looked for.
const SECTOR_SIZES: [u64; 4] = [512, 1024, 2048, 4096];
/// Longest partition table in bytes whose checksum is computed.
const LONGEST_TABLE: u64 = 0x8000;
/// Partition type of a protective MBR: a GPT describes the disk.
pub(crate) const PROTECTIVE: u8 = 0xEE;

/// An entry of the MBR.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MbrEntry {
    pub(crate) at: u64,
    pub(crate) status: u8,
    pub(crate) kind: u8,
    pub(crate) start: u32,
    pub(crate) sectors: u32,
}

/// Returns the four entries of the MBR, including unused ones.
pub(crate) fn mbr_entries(input: &ProbeInput) -> Vec<MbrEntry> {
    (0..4u64)
        .filter_map(|index| {
            let at = index.checked_mul(16)?.checked_add(446)?;
            Some(MbrEntry {
                at,
                status: input.u8(at)?,
                kind: input.u8(at.checked_add(4)?)?,
                start: input.u32_le(at.checked_add(8)?)?,
                sectors: input.u32_le(at.checked_add(12)?)?,
            })
        })
        .collect()
}

fn mbr(input: &ProbeInput) -> Vec<Hint> {
    let Some(hint) = HintBuilder::of("mbr", input, 510, &[0x55, 0xAA]) else {
        return Vec::new();
    };
    let entries = mbr_entries(input);
    let used = || entries.iter().filter(|entry| entry.kind != 0);
    // Allow one percent past the end of the disk, because writers round to cylinders.
    let sectors = input.len().div_ceil(512);
    let room = sectors.saturating_add(sectors.div_ceil(100));
    let inside = used().all(|entry| {
        entry.kind == PROTECTIVE
            || u64::from(entry.start).saturating_add(entry.sectors.into()) <= room
    });
    vec![
        hint.check("entries", (446, 64), "at least one in use", used().count() > 0)
            .check("status", (446, 1), "00 or 80", entries.iter().all(|e| e.status & 0x7F == 0))
            .check("extent", (446, 64), "inside the disk", inside)
            .done(70),
    ]
}

/// A GPT header: its location, sector size and checksum results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GptHeader {
    pub(crate) at: u64,
    pub(crate) sector: u64,
    pub(crate) checksum: bool,
    /// `None` when the table was not read.
    pub(crate) table: Option<bool>,
    pub(crate) own_place: bool,
}

/// Returns the header at `at` for sectors of `sector` bytes, valid or not.
fn gpt_header(input: &ProbeInput, at: u64, sector: u64) -> Option<GptHeader> {
    input.has(at, b"EFI PART").then_some(())?;
    let len = input.u32_le(at.checked_add(12)?)?;
    let bytes = (92..=512)
        .contains(&len)
        .then_some(len)
        .and_then(|len| input.bytes(at, usize::try_from(len).ok()?));
    let sum = bytes.and_then(|b| Some(crc32(&[b.get(..16)?, &[0; 4], b.get(20..)?])));
    let table_at = input.u64_le(at.checked_add(72)?)?.checked_mul(sector);
    let table_len = u64::from(input.u32_le(at.checked_add(80)?)?)
        .checked_mul(input.u32_le(at.checked_add(84)?)?.into())
        .filter(|len| *len <= LONGEST_TABLE);
    let table = table_at
        .zip(table_len)
        .and_then(|(at, len)| input.bytes(at, usize::try_from(len).ok()?))
        .map(|table| input.u32_le(at.saturating_add(88)) == Some(crc32(&[table])));
    Some(GptHeader {
        at,
        sector,
        checksum: sum.is_some() && sum == input.u32_le(at.checked_add(16)?),
        table,
        own_place: input.u64_le(at.checked_add(24)?)?.checked_mul(sector) == Some(at),
    })
}

impl GptHeader {
    /// Whether the header states its own location correctly and no checksum is wrong.
    pub(crate) fn sound(&self) -> bool {
        self.checksum && self.own_place && self.table != Some(false)
    }
}

/// Returns the primary and the backup header of the GPT, if present.
pub(crate) fn gpt_headers(input: &ProbeInput) -> (Option<GptHeader>, Option<GptHeader>) {
    let primary = SECTOR_SIZES.into_iter().find_map(|size| gpt_header(input, size, size));
    let backup = SECTOR_SIZES.into_iter().find_map(|size| {
        let at = input.len().checked_sub(size).filter(|at| *at > size)?;
        gpt_header(input, at, size)
    });
    (primary, backup)
}

pub(crate) fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    let (primary, backup) = gpt_headers(input);
    for header in [primary, backup].into_iter().flatten() {
        let table = input
            .u64_le(header.at.saturating_add(72))
            .and_then(|lba| lba.checked_mul(header.sector));
        let count = input.u32_le(header.at.saturating_add(80)).map(u64::from);
        let size = input.u32_le(header.at.saturating_add(84)).map(u64::from);
        let len = count.zip(size).and_then(|(count, size)| count.checked_mul(size));
        if let Some((at, len)) = table.zip(len.filter(|len| *len <= LONGEST_TABLE)) {
            wants.read(at, len);
        }
    }
}

fn gpt(input: &ProbeInput) -> Vec<Hint> {
    let (primary, backup) = gpt_headers(input);
    let Some(shown) = primary.or(backup) else {
        return Vec::new();
    };
    let Some(hint) = HintBuilder::of("gpt", input, shown.at, b"EFI PART") else {
        return Vec::new();
    };
    let sound = |header: Option<GptHeader>| header.is_some_and(|header| header.sound());
    let weight = match (sound(primary), sound(backup)) {
        (true, true) => 95,
        (true, false) | (false, true) => 75,
        (false, false) => 60,
    };
    // A wrong checksum only lowers the weight. It does not make the signature a coincidence.
    let at = |offset: u64| shown.at.saturating_add(offset);
    let len = input.u32_le(at(12)).unwrap_or(0);
    vec![
        hint.check("header size", (at(12), 4), "92 to a sector", (92..=4096).contains(&len))
            .covers(&["mbr"])
            .done(weight),
    ]
}

fn apm(input: &ProbeInput) -> Vec<Hint> {
    let block = input.u16_be(2);
    HintBuilder::of("apm", input, 512, b"PM")
        .filter(|_| input.has(0, b"ER"))
        .map(|hint| {
            hint.check("driver descriptor", (0, 2), "ER", true)
                .check(
                    "block size",
                    (2, 2),
                    "512 to 4096",
                    block.is_some_and(|b| b.is_power_of_two() && (512..=4096).contains(&b)),
                )
                .done(70)
        })
        .into_iter()
        .collect()
}
