//! Resizes the disk: makes space for the new map, and switches to it with one header write.

use block_core::engine::{BlockMapper, ResizePlan};
use block_core::{Error, ErrorKind, Preallocation, Result};

use crate::fill::{self, Entries};
use crate::format::{ENTRY_FREE, ENTRY_ZERO};
use crate::header::{Header, Version};
use crate::map::VdiMap;
use crate::parents_end;

/// The layout after a resize. All offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    map_offset: u64,
    data_offset: u64,
    /// Number of map entries.
    entries: u64,
}

/// Returns which slots must move before the disk can have `size` bytes.
pub(crate) fn plan(header: &Header, size: u64, slots_end: u64) -> Result<ResizePlan> {
    if header.version == Version::V0 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "an image of version 0.2 keeps its size: its map has a fixed place",
        )
        .with_hint("convert it to a new image"));
    }
    let blocks = size.div_ceil(header.block_size);
    if blocks >= u64::from(ENTRY_ZERO) {
        return Err(too_large(size));
    }
    if fits(header, blocks) || slots_end == 0 {
        target(header, size, 0, slots_end)?;
        return Ok(ResizePlan::default());
    }
    let vacate = slots_in_the_way(header, blocks);
    if slots_while_moving(vacate, slots_end) > header.blocks {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the block map has no room for {blocks} blocks, and too few of its {} slots are \
                 free to make some",
                header.blocks
            ),
        )
        .with_hint("convert it to a new, larger image"));
    }
    target(header, size, vacate, slots_end)?;
    Ok(ResizePlan { vacate_slots: vacate, ..ResizePlan::default() })
}

/// Adds map entries in place if slots must move for `size` bytes, and moving takes more slots than the map has entries:
/// an entry names no slot at or above that number. The disk's size does not change.
pub(crate) async fn widen(map: &VdiMap, size: u64, slots_end: u64) -> Result<()> {
    let header = map.shape().header;
    let blocks = size.div_ceil(header.block_size);
    if header.version == Version::V0 || fits(&header, blocks) || slots_end == 0 {
        return Ok(());
    }
    // The new map begins after the wider one, so it may overlap one more slot.
    let vacate = slots_in_the_way(&header, blocks).saturating_add(1);
    let needed = slots_while_moving(vacate, slots_end);
    if needed <= header.blocks || !fits(&header, needed) {
        return Ok(());
    }
    let at = map_end(header.map_offset, header.blocks);
    let added = needed.saturating_sub(header.blocks);
    fill::write_entries(&**map.storage(), at, added, Entries::All(ENTRY_FREE)).await?;
    map.storage().flush().await?;
    map.rewrite_head(|head, header| head.set_size(header, header.disk_size, needed)).await?;
    map.storage().flush().await
}

/// Returns how many slots a new map of `blocks` entries after the old one would overlap.
fn slots_in_the_way(header: &Header, blocks: u64) -> u64 {
    let end = map_end(new_map_offset(header), blocks);
    end.saturating_sub(header.data_offset).div_ceil(header.stride())
}

/// Returns the end of the slots in use while those below `vacate` are copied to others.
fn slots_while_moving(vacate: u64, slots_end: u64) -> u64 {
    slots_end.max(vacate).saturating_add(vacate.min(slots_end))
}

/// Switches to `size` bytes. The new map is complete and durable before the one header write that makes it valid. A
/// power failure leaves the old disk or the new one.
pub(crate) async fn resize(
    map: &VdiMap,
    size: u64,
    plan: ResizePlan,
    slots_end: u64,
    preallocation: Preallocation,
) -> Result<()> {
    let shape = map.shape();
    let header = &shape.header;
    let old_blocks = header.block_count();
    let added = size.div_ceil(header.block_size).saturating_sub(old_blocks);
    let filled = added > 0 && (shape.layout.is_fixed || preallocation != Preallocation::Off);
    let slots = if filled { slots_end.saturating_add(added) } else { slots_end };
    let target = target(header, size, plan.vacate_slots, slots)?;
    let used = slots.saturating_sub(plan.vacate_slots);
    if added > 0 {
        // VirtualBox reads no block of a child from past the end of its parent.
        let hides_parent = plan.hides_parent || header.needs_parent();
        let gained = match (filled, hides_parent) {
            (true, _) => Entries::From(used.saturating_sub(added)),
            (false, true) => Entries::All(ENTRY_ZERO),
            (false, false) => Entries::All(ENTRY_FREE),
        };
        write_map(map, &target, plan.vacate_slots, added, gained).await?;
        if filled {
            let stride = header.stride();
            let first = used.saturating_sub(added);
            let start = target.data_offset.saturating_add(first.saturating_mul(stride));
            let len = added.saturating_mul(stride);
            fill::preallocate(&**map.storage(), start, len, preallocation).await?;
        }
        map.storage().flush().await?;
    }
    map.rewrite_head(|head, header| {
        head.set_size(header, size, target.entries)?;
        head.set_allocated(header, used)?;
        if let Some(v1) = &header.fields().v1 {
            head.set_places(v1, target.map_offset, target.data_offset)?;
            if let Some(mut geometry) = header.geometry {
                let track = u64::from(geometry.heads).saturating_mul(u64::from(geometry.sectors));
                let cylinders = (size / 512).checked_div(track).unwrap_or(0);
                geometry.cylinders = u32::try_from(cylinders).unwrap_or(u32::MAX);
                head.set_geometry(v1, Some(geometry))?;
            }
        }
        Ok(())
    })
    .await?;
    map.storage().flush().await?;
    // With the same size, too: that is how a change that failed behind the header is sent again.
    if size >= header.virtual_size { parents_end::store(map, used).await } else { Ok(()) }
}

/// Writes the entries that the target's map lacks: the old ones if the map moves, those of the `added` blocks, and free
/// surplus ones.
async fn write_map(
    map: &VdiMap,
    target: &Target,
    vacate: u64,
    added: u64,
    gained: Entries,
) -> Result<()> {
    let header = map.shape().header;
    let old_blocks = header.block_count();
    if target.map_offset != header.map_offset {
        copy_map(map, target, vacate, old_blocks).await?;
    }
    let at = |index: u64| target.map_offset.saturating_add(index.saturating_mul(4));
    fill::write_entries(&**map.storage(), at(old_blocks), added, gained).await?;
    let blocks = old_blocks.saturating_add(added);
    let surplus = target.entries.saturating_sub(blocks);
    fill::write_entries(&**map.storage(), at(blocks), surplus, Entries::All(ENTRY_FREE)).await
}

/// Returns the layout after `vacate` slots have become space for the map. Slots below `slots_end` (old numbers) are in
/// use.
fn target(header: &Header, size: u64, vacate: u64, slots_end: u64) -> Result<Target> {
    // An entry names no slot at or above the number of entries, so that number stays above the used slots.
    let used = slots_end.saturating_sub(vacate);
    let entries = size.div_ceil(header.block_size).max(used);
    let mut target =
        Target { map_offset: header.map_offset, data_offset: header.data_offset, entries };
    if vacate > 0 {
        // Put the new map after the old one, over slots that have moved away. Both maps stay whole.
        target.map_offset = new_map_offset(header);
        let moved = vacate.saturating_mul(header.stride());
        target.data_offset = header.data_offset.saturating_add(moved);
    } else if !fits(header, entries) && slots_end == 0 {
        // No entry names a slot: extend the map in place and start the slots after it.
        let unit = if header.data_offset.is_multiple_of(1 << 20) { 1 << 20 } else { 512 };
        target.data_offset = map_end(header.map_offset, entries).next_multiple_of(unit);
    }
    let fits = map_end(target.map_offset, entries) <= target.data_offset;
    match u32::try_from(target.data_offset) {
        Ok(_) if fits => Ok(target),
        _ => Err(too_large(size)),
    }
}

/// Returns whether a map of `entries` entries ends before the slots begin.
fn fits(header: &Header, entries: u64) -> bool {
    map_end(header.map_offset, entries) <= header.data_offset
}

fn map_end(start: u64, entries: u64) -> u64 {
    start.saturating_add(entries.saturating_mul(4))
}

fn new_map_offset(header: &Header) -> u64 {
    map_end(header.map_offset, header.blocks).next_multiple_of(512)
}

fn too_large(size: u64) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("a block map for {size} bytes is larger than the image has room for"),
    )
}

/// Copies the entries of the disk's blocks to the new map, with the new slot numbers.
async fn copy_map(map: &VdiMap, target: &Target, vacate: u64, blocks: u64) -> Result<()> {
    let table = map.shape().table;
    let vacate = u32::try_from(vacate).unwrap_or(u32::MAX);
    let (mut at, mut entries) = (0u64, Vec::new());
    while at < blocks {
        table.read(at, &mut entries).await?;
        let left = usize::try_from(blocks.saturating_sub(at)).unwrap_or(usize::MAX);
        entries.truncate(left);
        for entry in entries.iter_mut().filter(|entry| **entry < ENTRY_ZERO) {
            *entry = entry.checked_sub(vacate).ok_or_else(|| {
                Error::new(ErrorKind::Io, format!("slot {entry} was not vacated"))
            })?;
        }
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let place = target.map_offset.saturating_add(at.saturating_mul(4));
        map.storage().write_at(place, &bytes).await?;
        at = at.saturating_add(entries.len() as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::tests::sample;

    #[test]
    fn a_map_that_has_room_stays_where_it_is() {
        let header = sample(4 << 20, 0x100000, 0x200000);
        assert_eq!(plan(&header, 256 << 30, 4).unwrap().vacate_slots, 0);
        let short = plan(&header, (256 << 30) + 1, 4).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Unsupported, "4 entries leave nowhere to go");
    }

    #[test]
    fn few_blocks_move_as_many_slots_as_the_map_needs() {
        let header = sample(100 << 30, 0x100000, 0x200000);
        let vacate = plan(&header, 1 << 40, 1).unwrap().vacate_slots;
        let target = target(&header, 1 << 40, vacate, 5).unwrap();
        let map_end = target.map_offset + 4 * target.entries;
        assert_eq!((vacate, target.data_offset), (4, 6 << 20));
        assert!(map_end <= target.data_offset && target.map_offset >= 0x100000 + 4 * 102_400);
    }

    #[test]
    fn a_map_that_cannot_be_expressed_is_refused() {
        let header = sample(100 << 30, 0x100000, 0x200000);
        assert_eq!(plan(&header, 2 << 50, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
