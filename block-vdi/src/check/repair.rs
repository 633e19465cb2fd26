//! Repairing what a scan found, in an order in which a power cut at any point loses nothing.

use std::sync::Arc;

use block_core::engine::copy_within;
use block_core::{Error, ErrorKind, Result, Storage, StorageCaps, ZeroMode};
use uuid::Uuid;

use super::scan::{Fault, Scan};
use crate::format::{ENTRY_FREE, ENTRY_ZERO};
use crate::header::{DISK_SIZE, FLAGS, Header, KNOWN_FLAGS, LCHS_SECTOR, NO_IDENTITY};
use crate::header_sector::HeaderSector;

/// Blocks copied between two barriers.
const BATCH: usize = 64;

/// Repairs all that can be repaired. No content that is in the file is lost: a block that shares its
/// slot gets a copy, and only a block whose content is not there at all reads as zeros afterwards.
pub(super) async fn all(storage: &Arc<dyn Storage>) -> Result<()> {
    fix_entries(storage, |fault| !needs_copy(fault)).await?;
    // From here on every entry names a slot inside the file, so that no copy can land where a lost
    // block is said to be.
    fix_entries(storage, needs_copy).await?;
    fill_static(storage).await?;
    fix_header(storage).await?;
    leaks(storage).await
}

/// Gives places back that nobody uses. A map with faulty entries is left alone.
pub(super) async fn leaks(storage: &Arc<dyn Storage>) -> Result<()> {
    fix_entries(storage, |fault| fault == Fault::Surplus).await?;
    let mut scan = Scan::run(storage, |_| true).await?;
    if !scan.map_is_sound() {
        return Ok(());
    }
    let is_static = scan.header.is_static();
    if is_static && scan.unallocated > 0 {
        // To count blocks that have no place would call the image sound.
        return Ok(());
    }
    if !is_static {
        close_holes(storage, &mut scan).await?;
        scan = Scan::run(storage, |_| true).await?;
    }
    let end = scan.used.end();
    let slots = if is_static { end.max(scan.header.blocks) } else { end };
    set_allocated(storage, &mut scan, slots).await?;
    let needed = scan.slot_start(slots);
    if scan.file_len > needed && storage.caps().contains(StorageCaps::RESIZE) {
        storage.set_len(needed).await?;
        storage.flush().await?;
    }
    Ok(())
}

fn needs_copy(fault: Fault) -> bool {
    matches!(fault, Fault::TooLarge | Fault::Shared)
}

/// Repairs the entries with the faults that `which` picks, as many at a time as a scan keeps.
async fn fix_entries(storage: &Arc<dyn Storage>, which: fn(Fault) -> bool) -> Result<()> {
    loop {
        let mut scan = Scan::run(storage, which).await?;
        if scan.faults.is_empty() {
            return Ok(());
        }
        let faults = std::mem::take(&mut scan.faults);
        fill_up(storage, &scan, &faults).await?;
        let without_content: Vec<_> = faults
            .iter()
            .filter_map(|(block, _, fault)| match fault {
                Fault::Surplus => Some((*block, ENTRY_FREE)),
                // In a child, too: a free entry would show what the parent holds, which never was
                // this block's content.
                Fault::PastEnd => Some((*block, ENTRY_ZERO)),
                _ => None,
            })
            .collect();
        scan.table.write(&without_content).await?;
        storage.flush().await?;
        let copied: Vec<_> = faults.into_iter().filter(|(_, _, f)| needs_copy(*f)).collect();
        for batch in copied.chunks(BATCH) {
            copy_to_own_slots(storage, &mut scan, batch).await?;
        }
    }
}

/// Gives each block of a static image that is stored nowhere a place full of zeros: its own if that is
/// unused, as the blocks of a static image lie in the order of the disk.
async fn fill_static(storage: &Arc<dyn Storage>) -> Result<()> {
    let mut scan = Scan::run(storage, |_| true).await?;
    if !scan.header.is_static() || scan.unallocated == 0 || !scan.map_is_sound() {
        return Ok(());
    }
    let stride = scan.header.stride();
    let (mut at, mut entries) = (0u64, Vec::new());
    let mut changes = Vec::new();
    while at < scan.header.block_count() {
        scan.table.read(at, &mut entries).await?;
        let left = scan.header.block_count().saturating_sub(at);
        entries.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        for (block, entry) in (at..).zip(&entries) {
            if *entry < ENTRY_ZERO {
                continue;
            }
            let slot = if scan.used.contains(block) { scan.used.first_unused(0) } else { block };
            let number = u32::try_from(slot).ok().filter(|_| slot < scan.header.blocks);
            let number = number.ok_or_else(|| {
                Error::new(ErrorKind::NoSpace, "no slot is left for a block of a static image")
            })?;
            let place = scan.slot_start(slot);
            storage.write_zeroes(place, stride, ZeroMode::Allocate).await?;
            scan.used.insert(slot);
            changes.push((block, number));
            if changes.len() >= BATCH {
                put_in_use(storage, &mut scan, &mut changes).await?;
            }
        }
        at = at.saturating_add(entries.len() as u64);
    }
    put_in_use(storage, &mut scan, &mut changes).await
}

/// The content and the count before the entries that name new slots.
async fn put_in_use(
    storage: &Arc<dyn Storage>,
    scan: &mut Scan,
    changes: &mut Vec<(u64, u32)>,
) -> Result<()> {
    storage.flush().await?;
    let counted = Some(scan.header.allocated).filter(|counted| *counted <= scan.header.blocks);
    let end = scan.used.end();
    scan.file_len = storage.len().await?;
    set_allocated(storage, scan, counted.unwrap_or(0).max(end)).await?;
    commit(storage, scan, changes).await
}

/// Lengthens the file so that the last block is whole.
async fn fill_up(
    storage: &Arc<dyn Storage>,
    scan: &Scan,
    faults: &[(u64, u32, Fault)],
) -> Result<()> {
    let ends = faults
        .iter()
        .filter(|(_, _, fault)| *fault == Fault::CutShort)
        .map(|(_, entry, _)| scan.slot_start(u64::from(*entry).saturating_add(1)));
    match ends.max() {
        Some(end) if end > scan.file_len => {
            storage.set_len(end).await?;
            storage.flush().await
        }
        _ => Ok(()),
    }
}

/// Gives each block a slot of its own with a copy of what it shows.
async fn copy_to_own_slots(
    storage: &Arc<dyn Storage>,
    scan: &mut Scan,
    batch: &[(u64, u32, Fault)],
) -> Result<()> {
    let mut changes = Vec::with_capacity(batch.len());
    let mut slots = SlotSource::new(scan);
    for (block, entry, _) in batch {
        let target = slots.take()?;
        copy_slot(storage, scan, u64::from(*entry), u64::from(target)).await?;
        changes.push((*block, target));
    }
    storage.flush().await?;
    let taken_end = changes.iter().map(|(_, slot)| u64::from(*slot).saturating_add(1)).max();
    let end = scan.used.end().max(taken_end.unwrap_or(0));
    let counted = Some(scan.header.allocated).filter(|counted| *counted <= scan.header.blocks);
    set_allocated(storage, scan, counted.unwrap_or(0).max(end)).await?;
    scan.table.write(&changes).await?;
    storage.flush().await?;
    for (_, slot) in changes {
        scan.used.insert(u64::from(slot));
    }
    Ok(())
}

/// Hands out slots that no sound entry names, lowest first.
struct SlotSource<'s> {
    scan: &'s Scan,
    next: u64,
}

impl<'s> SlotSource<'s> {
    fn new(scan: &'s Scan) -> Self {
        Self { scan, next: 0 }
    }

    fn take(&mut self) -> Result<u32> {
        let slot = self.scan.used.first_unused(self.next);
        self.next = slot.saturating_add(1);
        u32::try_from(slot)
            .ok()
            .filter(|slot| u64::from(*slot) < self.scan.header.blocks)
            .ok_or_else(|| {
                Error::new(ErrorKind::NoSpace, "no slot is left for a copy of a shared block")
            })
    }
}

/// Moves the blocks of the last slots into the holes before them.
async fn close_holes(storage: &Arc<dyn Storage>, scan: &mut Scan) -> Result<()> {
    let count = scan.used.len();
    if scan.used.end() == count {
        return Ok(());
    }
    let (mut at, mut hole) = (0u64, 0u64);
    let mut entries = Vec::new();
    let mut changes = Vec::new();
    while at < scan.header.block_count() {
        scan.table.read(at, &mut entries).await?;
        for (block, entry) in (at..).zip(&entries) {
            let slot = u64::from(*entry);
            if slot < count || *entry >= ENTRY_ZERO {
                continue;
            }
            hole = scan.used.first_unused(hole);
            copy_slot(storage, scan, slot, hole).await?;
            changes.push((block, u32::try_from(hole).unwrap_or(ENTRY_ZERO)));
            hole = hole.saturating_add(1);
            if changes.len() >= BATCH {
                commit(storage, scan, &mut changes).await?;
            }
        }
        at = at.saturating_add(entries.len() as u64);
    }
    commit(storage, scan, &mut changes).await
}

/// The copies before the entries that name them; the entries before anything is cut off.
async fn commit(
    storage: &Arc<dyn Storage>,
    scan: &Scan,
    changes: &mut Vec<(u64, u32)>,
) -> Result<()> {
    storage.flush().await?;
    scan.table.write(changes).await?;
    storage.flush().await?;
    changes.clear();
    Ok(())
}

/// Copies a whole slot, private bytes included; what the file lacks of it is zeros.
async fn copy_slot(storage: &Arc<dyn Storage>, scan: &Scan, from: u64, to: u64) -> Result<()> {
    let stride = scan.header.stride();
    copy_within(&**storage, scan.slot_start(from), scan.slot_start(to), stride).await
}

/// Sets what the header lacks.
async fn fix_header(storage: &Arc<dyn Storage>) -> Result<()> {
    let mut scan = Scan::run(storage, |_| true).await?;
    let header = scan.header.clone();
    let has = |code: &str| header.oddities.iter().any(|oddity| oddity.code == code);
    let mut head = scan.head.clone();
    if has(NO_IDENTITY) {
        if header.modification_uuid.is_nil() {
            head.put_modification_uuid(&header, Uuid::new_v4())?;
        }
        if header.uuid.is_nil() {
            head.set_uuid(&header, Uuid::new_v4())?;
        }
    }
    if has(FLAGS) {
        head.set_flags(&header, header.flags & KNOWN_FLAGS)?;
    }
    if has(DISK_SIZE) {
        head.set_size(&header, header.virtual_size, header.blocks)?;
    }
    if let Some(v1) = header.fields().v1.as_ref().filter(|_| has(LCHS_SECTOR)) {
        head.set_geometry(v1, header.geometry)?;
    }
    let end = scan.used.end();
    let is_wrong = header.allocated < end || header.allocated > header.blocks;
    if is_wrong {
        head.set_allocated(&header, if header.is_static() { header.blocks } else { end })?;
    }
    write_head(storage, &mut scan, head).await
}

async fn set_allocated(storage: &Arc<dyn Storage>, scan: &mut Scan, slots: u64) -> Result<()> {
    let mut head = scan.head.clone();
    head.set_allocated(&scan.header, slots)?;
    write_head(storage, scan, head).await
}

async fn write_head(storage: &Arc<dyn Storage>, scan: &mut Scan, head: HeaderSector) -> Result<()> {
    if head.bytes() == scan.head.bytes() {
        return Ok(());
    }
    let header = Header::parse(head.bytes(), scan.file_len)?;
    storage.write_at(0, head.for_disk(&header)?).await?;
    storage.flush().await?;
    (scan.head, scan.header) = (head, header);
    Ok(())
}
