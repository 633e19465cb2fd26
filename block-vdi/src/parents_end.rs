//! The blocks of a child that its parent does not hold whole: VirtualBox reads none of them from the parent.
//!
//! Those wholly past the parent's end become zero, and the one in which it ends is stored in the child. A guest reads
//! what it read before.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the header was checked: all places lie below the largest offset of a file"
)]

use block_core::engine::{BlockMapper, SlotSet};
use block_core::{Error, ErrorKind, Result, ZeroMode, bug};

use crate::fill;
use crate::format::{ENTRY_FREE, ENTRY_ZERO};
use crate::map::{Shape, VdiMap};

/// Blocks of a child that are left to a parent that ends before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftToParent {
    /// The first of them.
    pub block: u64,
    /// Where its entry lies, bytes.
    pub entry_at: u64,
    /// How many there are.
    pub count: u64,
    /// Where the parent ends, in bytes of the disk.
    pub parent_end: u64,
}

/// Finds them, where the parent is open.
pub(crate) async fn find(map: &VdiMap) -> Result<Option<LeftToParent>> {
    let shape = map.shape();
    let Some((_, end)) = map.parent().filter(|(_, end)| *end < shape.header.virtual_size) else {
        return Ok(None);
    };
    let (mut found, mut entries) = (None::<LeftToParent>, Vec::new());
    let mut at = block_at(&shape, end)?;
    while let Some(first) = read_entries(&shape, &mut at, &mut entries).await? {
        for (block, _) in (first..).zip(&entries).filter(|(_, entry)| **entry == ENTRY_FREE) {
            let entry_at = shape.table.place(block);
            found
                .get_or_insert(LeftToParent { block, entry_at, count: 0, parent_end: end })
                .count += 1;
        }
    }
    Ok(found)
}

/// Stores the block in which the parent ends, and makes those past it zero. `slots_end` is the slot behind all in use.
pub(crate) async fn store(map: &VdiMap, slots_end: u64) -> Result<()> {
    let shape = map.shape();
    let header = &shape.header;
    let Some((parent, end)) = map.parent().filter(|(_, end)| *end < header.virtual_size) else {
        return Ok(());
    };
    let storage = &**map.storage();
    let block = block_at(&shape, end)?;
    let start = block * header.block_size;
    if end > start && shape.table.load(block).await? == ENTRY_FREE {
        let slot = unused_slot(&shape, slots_end).await?;
        let number = u32::try_from(slot).map_err(|_| bug("a slot has no number in the map"))?;
        let place = shape.layout.place(slot);
        let place = place.ok_or_else(|| bug("a slot lies past the largest offset of a file"))?;
        fill::copy_of_parent(storage, parent, start..end, place).await?;
        let held = end - start;
        let rest = header.block_size - held;
        storage.write_zeroes(place + held, rest, ZeroMode::Deallocate).await?;
        storage.flush().await?;
        map.rewrite_head(|head, header| head.set_allocated(header, slots_end.max(slot + 1)))
            .await?;
        storage.flush().await?;
        map.store_entry(block, number).await?;
    }
    let mut at = end.div_ceil(header.block_size);
    let mut entries = Vec::new();
    while let Some(first) = read_entries(&shape, &mut at, &mut entries).await? {
        let free = (first..).zip(&entries).filter(|(_, entry)| **entry == ENTRY_FREE);
        let changes: Vec<_> = free.map(|(block, _)| (block, ENTRY_ZERO)).collect();
        shape.table.write(&changes).await?;
    }
    storage.flush().await
}

/// The block that holds a byte of the disk.
fn block_at(shape: &Shape, at: u64) -> Result<u64> {
    at.checked_div(shape.header.block_size).ok_or_else(|| bug("an image has blocks of no bytes"))
}

/// Reads entries of the disk's blocks from `at` on, and moves `at` behind them. Answers the first block; nothing at the
/// end of the disk.
async fn read_entries(shape: &Shape, at: &mut u64, entries: &mut Vec<u32>) -> Result<Option<u64>> {
    let first = *at;
    let blocks = shape.header.block_count();
    if first >= blocks {
        return Ok(None);
    }
    shape.table.read(first, entries).await?;
    entries.truncate(usize::try_from(blocks - first).unwrap_or(usize::MAX));
    *at = first + entries.len() as u64;
    Ok(Some(first))
}

/// A slot that no block has: the one behind all, or one between them where the map cannot name that.
async fn unused_slot(shape: &Shape, slots_end: u64) -> Result<u64> {
    if slots_end < shape.header.blocks {
        return Ok(slots_end);
    }
    let (mut used, mut entries) = (SlotSet::default(), Vec::new());
    let mut at = 0;
    while read_entries(shape, &mut at, &mut entries).await?.is_some() {
        let stored = entries.iter().filter(|entry| u64::from(**entry) < shape.header.blocks);
        stored.for_each(|entry| used.insert(u64::from(*entry)));
    }
    // A block that is stored nowhere leaves a slot to the others.
    Some(used.first_unused(0)).filter(|slot| *slot < shape.header.blocks).ok_or_else(|| {
        Error::new(
            ErrorKind::NoSpace,
            "the map has no slot left for the block where the parent ends",
        )
    })
}
