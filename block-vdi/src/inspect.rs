//! VDI: parents, the block map, the block size.

use block_core::inspect::{Code, Examination};

use crate::format::{MAJOR_OFFSET, MAP_OFFSET_V0, VERSION_1_1, VERSION_OFFSET, v0, v1};

/// The largest map that is not excessive for what the file holds is bounded by the file itself; this is the hard cap.
const LARGEST_MAP: u64 = 256 << 20;

/// Examines the metadata of a VDI.
pub(crate) fn examine(cx: &mut Examination<'_>) {
    if cx.input.u32_le(VERSION_OFFSET) != Some(VERSION_1_1) {
        return old(cx);
    }
    let kind = cx.input.u32_le(v1::IMAGE_TYPE).unwrap_or(0);
    let uuid = |cx: &Examination<'_>, at: u64| {
        cx.input.bytes(at, 16).is_some_and(|uuid| uuid.iter().any(|byte| *byte != 0))
    };
    if matches!(kind, 3 | 4) {
        cx.find(
            Code::Parent,
            (v1::IMAGE_TYPE, 4),
            format!("the image is of type {kind}: a difference to a parent"),
        );
    }
    if uuid(cx, v1::PARENT_UUID) {
        cx.find(Code::Parent, (v1::PARENT_UUID, 16), "a parent is named by its UUID");
    }
    if uuid(cx, v1::PARENT_MODIFICATION_UUID) {
        cx.find(
            Code::Parent,
            (v1::PARENT_MODIFICATION_UUID, 16),
            "the state of a parent is named by its UUID",
        );
    }
    let blocks = cx.input.u32_le(v1::BLOCKS).unwrap_or(0);
    let block = cx.input.u32_le(v1::BLOCK_SIZE).unwrap_or(0);
    let map = u64::from(cx.input.u32_le(v1::MAP_OFFSET).unwrap_or(0));
    let map_len = u64::from(blocks).saturating_mul(4);
    cx.table("block map", (v1::BLOCKS, 4), (Some(map), Some(map_len)), LARGEST_MAP, 0);
    cx.find_if(
        !block.is_power_of_two(),
        Code::Structure,
        (v1::BLOCK_SIZE, 4),
        format!("the block size is {block}, wanted a power of two"),
    );
    let extra = cx.input.u32_le(v1::BLOCK_EXTRA).unwrap_or(0);
    cx.find_if(
        extra != 0,
        Code::FeatureUnknown,
        (v1::BLOCK_EXTRA, 4),
        format!("{extra} bytes precede each block, wanted 0"),
    );
    let size = cx.input.u64_le(v1::DISK_SIZE);
    cx.disk_size((v1::DISK_SIZE, 8), size);
    let data = u64::from(cx.input.u32_le(v1::DATA_OFFSET).unwrap_or(0));
    cx.overlaps(&[("header", 0, 0x200), ("block map", map, map_len), ("data", data, u64::MAX)]);
    Slots { data, size: block.saturating_add(extra), block, stored_at: v1::ALLOCATED, disk: size }
        .examine(cx);
}

/// Version 0: the map begins right behind the header, and the blocks right behind the map.
fn old(cx: &mut Examination<'_>) {
    if cx.input.u16_le(MAJOR_OFFSET) != Some(0) {
        return;
    }
    // Its type is where later versions have the length of their header.
    let kind = cx.input.u32_le(v0::IMAGE_TYPE).unwrap_or(0);
    cx.find_if(
        matches!(kind, 3 | 4),
        Code::Parent,
        (v0::IMAGE_TYPE, 4),
        format!("the image is of type {kind}: a difference to a parent"),
    );
    let block = cx.input.u32_le(v0::BLOCK_SIZE).unwrap_or(0);
    let blocks = u64::from(cx.input.u32_le(v0::BLOCKS).unwrap_or(0));
    let data = blocks.saturating_mul(4).saturating_add(u64::from(MAP_OFFSET_V0));
    Slots {
        data,
        size: block,
        block,
        stored_at: v0::ALLOCATED,
        disk: cx.input.u64_le(v0::DISK_SIZE),
    }
    .examine(cx);
}

/// Where blocks are stored.
struct Slots {
    /// Where the first begins.
    data: u64,
    /// From one to the next, bytes.
    size: u32,
    /// Bytes of a block.
    block: u32,
    /// Where the number of those in use is.
    stored_at: u64,
    /// Bytes of the disk.
    disk: Option<u64>,
}

impl Slots {
    /// Compares where the stored blocks end with where the file does.
    fn examine(&self, cx: &mut Examination<'_>) {
        let stored = u64::from(cx.input.u32_le(self.stored_at).unwrap_or(0));
        let end = stored.checked_mul(u64::from(self.size)).and_then(|n| n.checked_add(self.data));
        // The last slot may lack what the last block of the disk does not need.
        let len = cx.input.len();
        let block = u64::from(self.block);
        let last = self.disk.unwrap_or(0).checked_rem(block).filter(|rest| *rest > 0);
        let spare = last.map_or(0, |rest| block.saturating_sub(rest));
        if let Some(end) = end.filter(|end| stored > 0 && end.saturating_sub(spare) > len) {
            cx.find(
                Code::OutOfBounds,
                (self.stored_at, 4),
                format!("{stored} stored blocks end at {end:#x}, the file at {len:#x}"),
            );
        }
        if let Some(end) = end.filter(|end| *end < len) {
            cx.find(
                Code::TrailingData,
                (end, 0),
                format!("the blocks end at {end:#x}, the file at {len:#x}"),
            );
        }
    }
}
