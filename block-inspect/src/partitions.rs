//! Lists the partitions of a disk from its MBR or GPT.

use block_core::{Result, Storage};
use serde::Serialize;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Partition {
    /// Partition number in Linux's numbering: the logical partitions of an MBR start at 5.
    pub number: u32,
    /// Byte offset on the disk.
    pub start: u64,
    /// Length in bytes, as the table states it.
    pub length: u64,
    /// The partition type: its name if known, else the type's number.
    pub kind: String,
    /// The partition's name in the GPT, not escaped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Most partitions that are listed, and most links of an extended partition that are followed.
const MAX_PARTITIONS: u32 = 128;
/// Largest GPT entry in bytes.
const MAX_ENTRY: u32 = 512;
/// Sector sizes in bytes at which a GPT is looked for.
const SECTORS: [u64; 2] = [512, 4096];
/// Sector size of an MBR in bytes.
const MBR_SECTOR: u64 = 512;

/// Lists the partitions of `disk` in the order of the table. Returns none if the disk has no valid table.
///
/// # Errors
/// Returns the error of a failed read.
pub async fn partitions(disk: &dyn Storage) -> Result<Vec<Partition>> {
    let len = disk.len().await?;
    let mut head = [0; 512];
    if len < MBR_SECTOR {
        return Ok(Vec::new());
    }
    disk.read_at(0, &mut head).await?;
    let Some(entries) = mbr(&head) else { return Ok(Vec::new()) };
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        for sector in SECTORS {
            if let Some(found) = gpt(disk, len, sector).await? {
                return Ok(found);
            }
        }
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (number, entry) in (1..).zip(&entries) {
        // A partition past the end: the table was not made for this disk.
        if entry.kind == 0 || entry.start >= len {
            continue;
        }
        found.push(entry.partition(number, 0));
        if EXTENDED.contains(&entry.kind) {
            logical(disk, len, entry.start, &mut found).await?;
        }
    }
    Ok(found)
}

const PROTECTIVE: u8 = 0xEE;
const EXTENDED: [u8; 3] = [0x05, 0x0F, 0x85];

/// An entry of an MBR, with its place in bytes.
struct Entry {
    kind: u8,
    start: u64,
    length: u64,
}

impl Entry {
    fn partition(&self, number: u32, base: u64) -> Partition {
        let kind = match self.kind {
            0x01 | 0x04 | 0x06 | 0x0B | 0x0C | 0x0E => "FAT".to_owned(),
            0x05 | 0x0F | 0x85 => "extended".to_owned(),
            0x07 => "NTFS or exFAT".to_owned(),
            0x82 => "Linux swap".to_owned(),
            0x83 => "Linux".to_owned(),
            0x8E => "Linux LVM".to_owned(),
            0xA5 => "FreeBSD".to_owned(),
            0xEF => "EFI system".to_owned(),
            kind => format!("type {kind:#04x}"),
        };
        let start = self.start.saturating_add(base);
        Partition { number, start, length: self.length, kind, name: String::new() }
    }
}

/// Returns the entries of an MBR, or `None` if the sector holds none. A file system's boot sector ends in the same two
/// bytes, with code in place of the entries.
fn mbr(sector: &[u8; 512]) -> Option<Vec<Entry>> {
    if !sector.ends_with(&[0x55, 0xAA]) {
        return None;
    }
    let mut entries = Vec::new();
    for entry in sector.get(446..510)?.chunks_exact(16) {
        let number = |at: usize| {
            let bytes = entry.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(bytes)))
        };
        let (status, kind) = (*entry.first()?, *entry.get(4)?);
        let (start, sectors) = (number(8)?, number(12)?);
        if !matches!(status, 0 | 0x80) || (kind != 0 && (start == 0 || sectors == 0)) {
            return None;
        }
        // Both are 32-bit numbers.
        let (start, length) = (start.checked_mul(MBR_SECTOR)?, sectors.checked_mul(MBR_SECTOR)?);
        entries.push(Entry { kind, start, length });
    }
    Some(entries)
}

/// Follows the links of an extended partition at `base`.
async fn logical(
    disk: &dyn Storage,
    len: u64,
    base: u64,
    found: &mut Vec<Partition>,
) -> Result<()> {
    let mut at = base;
    for number in 5..5 + MAX_PARTITIONS {
        let mut sector = [0; 512];
        if at.checked_add(MBR_SECTOR).is_none_or(|end| end > len) {
            return Ok(());
        }
        disk.read_at(at, &mut sector).await?;
        let Some(entries) = mbr(&sector) else { return Ok(()) };
        let [first, link, ..] = entries.as_slice() else { return Ok(()) };
        let start = first.start.checked_add(at);
        if first.kind != 0 && start.is_some_and(|start| start < len) {
            found.push(first.partition(number, at));
        }
        let next = base.checked_add(link.start);
        match next.filter(|next| EXTENDED.contains(&link.kind) && *next > at) {
            Some(next) => at = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Returns the partitions of a GPT with sectors of `sector` bytes, or `None` if there is no valid header.
async fn gpt(disk: &dyn Storage, len: u64, sector: u64) -> Result<Option<Vec<Partition>>> {
    let mut header = [0; 92];
    if len < sector.saturating_mul(2) {
        return Ok(None);
    }
    disk.read_at(sector, &mut header).await?;
    if !header.starts_with(b"EFI PART") {
        return Ok(None);
    }
    let (Some(table), Some(count), Some(size)) =
        (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84))
    else {
        return Ok(None);
    };
    let Some(table) = table.checked_mul(sector) else { return Ok(Some(Vec::new())) };
    if !(128..=MAX_ENTRY).contains(&size) {
        return Ok(Some(Vec::new()));
    }
    let mut found = Vec::new();
    let mut entry = vec![0; usize::try_from(size).unwrap_or(0)];
    for index in 0..count.min(MAX_PARTITIONS) {
        let at = u64::from(index).checked_mul(u64::from(size)).and_then(|at| at.checked_add(table));
        let Some(at) =
            at.filter(|at| at.checked_add(u64::from(size)).is_some_and(|end| end <= len))
        else {
            break;
        };
        disk.read_at(at, &mut entry).await?;
        found.extend(gpt_entry(&entry, index.saturating_add(1), sector));
    }
    Ok(Some(found))
}

/// Returns the partition of one GPT entry, or `None` if the entry is unused or invalid.
fn gpt_entry(entry: &[u8], number: u32, sector: u64) -> Option<Partition> {
    let kind = uuid::Uuid::from_bytes_le(entry.get(..16)?.try_into().ok()?);
    if kind.is_nil() {
        return None;
    }
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    let start = first.checked_mul(sector)?;
    let length = last.checked_add(1)?.checked_sub(first)?.checked_mul(sector)?;
    let units = entry.get(56..128)?.chunks_exact(2).map(|unit| match unit {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let name: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    let text = kind.to_string();
    let known = match text.as_str() {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => Some("EFI system"),
        "21686148-6449-6e6f-744e-656564454649" => Some("BIOS boot"),
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => Some("Linux"),
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => Some("Linux swap"),
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => Some("Linux LVM"),
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => Some("Linux root (x86-64)"),
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => Some("Microsoft basic data"),
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => Some("Microsoft reserved"),
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => Some("Windows recovery"),
        _ => None,
    };
    let kind = known.map_or(text.clone(), str::to_owned);
    Some(Partition { number, start, length, kind, name })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_core::MemStorage;

    fn listed(disk: &[u8]) -> Vec<Partition> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let storage = MemStorage::from_bytes(disk);
        runtime.block_on(partitions(&*storage)).unwrap()
    }

    fn entry(disk: &mut [u8], at: usize, index: usize, kind: u8, start: u32, sectors: u32) {
        let place = at + 446 + index * 16;
        disk[place + 4] = kind;
        disk[place + 8..place + 12].copy_from_slice(&start.to_le_bytes());
        disk[place + 12..place + 16].copy_from_slice(&sectors.to_le_bytes());
        disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xAA]);
    }

    fn places(found: &[Partition]) -> Vec<(u32, u64, u64)> {
        found.iter().map(|p| (p.number, p.start, p.length)).collect()
    }

    #[test]
    fn an_mbr_with_logical_partitions_is_listed_as_linux_counts() {
        let mut disk = vec![0; 64 * 512];
        entry(&mut disk, 0, 0, 0x83, 2, 8);
        entry(&mut disk, 0, 1, 0x05, 16, 40);
        entry(&mut disk, 16 * 512, 0, 0x07, 1, 7);
        entry(&mut disk, 16 * 512, 1, 0x05, 8, 16);
        entry(&mut disk, 24 * 512, 0, 0x82, 2, 6);
        let found = listed(&disk);
        let at = |sector: u64| sector * 512;
        assert_eq!(
            places(&found),
            [(1, at(2), at(8)), (2, at(16), at(40)), (5, at(17), at(7)), (6, at(26), at(6))]
        );
        assert_eq!(found[3].kind, "Linux swap");
    }

    #[test]
    fn links_that_lead_back_end() {
        let mut disk = vec![0; 64 * 512];
        entry(&mut disk, 0, 0, 0x0F, 16, 40);
        entry(&mut disk, 16 * 512, 1, 0x05, 8, 8);
        entry(&mut disk, 24 * 512, 0, 0x83, 1, 1);
        entry(&mut disk, 24 * 512, 1, 0x05, 8, 8);
        assert_eq!(listed(&disk).len(), 2);
        entry(&mut disk, 24 * 512, 1, 0x05, 0xFFFF_FFFF, 8);
        assert_eq!(listed(&disk).len(), 2, "past the end");
    }

    #[test]
    fn a_gpt_is_listed_with_sectors_of_both_sizes() {
        for sector in [512usize, 4096] {
            let mut disk = vec![0; 64 * sector];
            entry(&mut disk, 0, 0, 0xEE, 1, u32::MAX);
            disk[sector..sector + 8].copy_from_slice(b"EFI PART");
            disk[sector + 72] = 2;
            disk[sector + 80] = 4;
            disk[sector + 84] = 128;
            let second = 2 * sector + 128;
            disk[second] = 1;
            disk[second + 32] = 10;
            disk[second + 40] = 19;
            disk[second + 56..second + 60].copy_from_slice(b"a\0b\0");
            let found = listed(&disk);
            let len = sector as u64;
            assert_eq!(places(&found), [(2, 10 * len, 10 * len)]);
            assert_eq!(found[0].name, "ab");
            // An entry that ends before it begins is skipped, and a count of all ones costs no time.
            disk[second + 40] = 1;
            disk[sector + 80..sector + 84].fill(0xFF);
            assert_eq!(listed(&disk), []);
            for size in [0u32, 127, 513, u32::MAX] {
                disk[sector + 84..sector + 88].copy_from_slice(&size.to_le_bytes());
                assert_eq!(listed(&disk), []);
            }
            disk[sector + 72..sector + 80].fill(0xFF);
            assert_eq!(listed(&disk), []);
        }
    }

    #[test]
    fn a_boot_sector_of_a_file_system_is_no_table() {
        let mut disk = vec![0; 512];
        disk[446..510].fill(0x90);
        disk[510..].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(listed(&disk), []);
        assert_eq!(listed(&[]), []);
        assert_eq!(listed(&[0; 512]), []);
    }
}
