//! Another size for the disk: a map that has room for it, and one write that switches over.

use block_core::engine::{BlockMapper, ResizePlan};
use block_core::{Error, ErrorKind, Preallocation, Result};

use crate::fill::{self, Entries};
use crate::format::{ENTRY_FREE, ENTRY_ZERO};
use crate::header::{Header, Version};
use crate::map::VdiMap;

/// Where things lie after a change of size. All offsets are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    map_offset: u64,
    data_offset: u64,
    /// Entries of the map.
    entries: u64,
    /// Slots at the front that become part of the map's room.
    vacate: u64,
}

/// Says which slots have to move before the disk can have `size` bytes.
pub(crate) fn plan(header: &Header, size: u64, slots_end: u64) -> Result<ResizePlan> {
    Ok(ResizePlan { vacate_slots: target(header, size, slots_end)?.vacate })
}

/// Switches to `size` bytes. The new map is complete and durable before the one header write that makes
/// it valid; a power cut leaves the old disk or the new one.
pub(crate) async fn resize(
    map: &VdiMap,
    size: u64,
    plan: ResizePlan,
    slots_end: u64,
    preallocation: Preallocation,
) -> Result<()> {
    let shape = map.shape();
    let header = &shape.header;
    let storage = map.storage();
    let mut target = target(header, size, slots_end)?;
    if target.vacate != plan.vacate_slots {
        return Err(Error::new(ErrorKind::Io, "the plan is for another size"));
    }
    let old_blocks = header.block_count();
    let new_blocks = size.div_ceil(header.block_size);
    let mut used = slots_end.saturating_sub(target.vacate);
    if new_blocks > old_blocks {
        let first_slot = match shape.layout.is_fixed || preallocation != Preallocation::Off {
            true => Some(used),
            false => None,
        };
        if target.map_offset != header.map_offset {
            copy_map(map, &target, old_blocks).await?;
        }
        let at = |index: u64| target.map_offset.saturating_add(index.saturating_mul(4));
        let free = target.entries.saturating_sub(new_blocks);
        let added = new_blocks.saturating_sub(old_blocks);
        match first_slot {
            Some(slot) => {
                used = slot.saturating_add(added);
                target.entries = target.entries.max(used);
                fill::write_entries(&**storage, at(old_blocks), added, Entries::From(slot)).await?;
                let stride = header.stride();
                let start = target.data_offset.saturating_add(slot.saturating_mul(stride));
                let len = added.saturating_mul(stride);
                fill::make_room(&**storage, start, len, preallocation).await?;
            }
            None => {
                let free = Entries::All(ENTRY_FREE);
                fill::write_entries(&**storage, at(old_blocks), added, free).await?;
            }
        }
        let free = free.max(target.entries.saturating_sub(new_blocks));
        fill::write_entries(&**storage, at(new_blocks), free, Entries::All(ENTRY_FREE)).await?;
        storage.flush().await?;
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
    storage.flush().await
}

fn target(header: &Header, size: u64, slots_end: u64) -> Result<Target> {
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
    // An entry names no slot behind the number of entries, so that number stays above the used slots.
    let entries = blocks.max(slots_end);
    let map_end = |start: u64, entries: u64| start.saturating_add(entries.saturating_mul(4));
    let here = Target {
        map_offset: header.map_offset,
        data_offset: header.data_offset,
        entries,
        vacate: 0,
    };
    if map_end(header.map_offset, entries) <= header.data_offset {
        return Ok(here);
    }
    if slots_end == 0 {
        // No entry names a slot: the map grows where it is, and the slots begin behind it.
        let unit = if header.data_offset.is_multiple_of(1 << 20) { 1 << 20 } else { 512 };
        let data_offset = map_end(header.map_offset, entries).next_multiple_of(unit);
        return in_reach(Target { data_offset, ..here }, size);
    }
    // The new map goes behind the old one, over slots that have moved away: both are whole meanwhile.
    let map_offset = map_end(header.map_offset, header.blocks).next_multiple_of(512);
    let missing = map_end(map_offset, entries).saturating_sub(header.data_offset);
    let vacate = missing.div_ceil(header.stride());
    let moved = vacate.min(slots_end);
    if slots_end.max(vacate).saturating_add(moved) > header.blocks {
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
    let data_offset =
        header.data_offset.saturating_add(vacate.saturating_mul(header.stride()));
    in_reach(Target { map_offset, data_offset, entries, vacate }, size)
}

fn in_reach(target: Target, size: u64) -> Result<Target> {
    match u32::try_from(target.data_offset) {
        Ok(_) => Ok(target),
        Err(_) => Err(too_large(size)),
    }
}

fn too_large(size: u64) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("a block map for {size} bytes is larger than the format can express"),
    )
}

/// Copies the entries of the disk's blocks to the new map, with the slots' new numbers.
async fn copy_map(map: &VdiMap, target: &Target, blocks: u64) -> Result<()> {
    let table = map.shape().table;
    let vacate = u32::try_from(target.vacate).unwrap_or(u32::MAX);
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
        let short = plan(&header, (256 << 30) + 1, 3).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Unsupported, "4 entries leave nowhere to go");
    }

    #[test]
    fn few_blocks_move_as_many_slots_as_the_map_needs() {
        let header = sample(100 << 30, 0x100000, 0x200000);
        let target = target(&header, 1 << 40, 1).unwrap();
        let map_end = target.map_offset + 4 * target.entries;
        assert_eq!((target.vacate, target.data_offset), (4, 6 << 20));
        assert!(map_end <= target.data_offset && target.map_offset >= 0x100000 + 4 * 102_400);
    }

    #[test]
    fn a_map_that_cannot_be_expressed_is_refused() {
        let header = sample(100 << 30, 0x100000, 0x200000);
        assert_eq!(plan(&header, 2 << 50, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
