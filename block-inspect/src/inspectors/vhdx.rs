//! VHDX: the log, parents, required regions and metadata, copies, overlaps.

use super::vhd::utf16;
use super::vhdx_log;
use crate::recognisers::vhdx::{
    BAT, FILE_PARAMETERS, HEADERS, METADATA, PARENT_LOCATOR, VIRTUAL_SIZE, has_parent,
    header_sound, item, items, regions,
};
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::Location;

/// Metadata items of the specification that a reader must support besides those read here, by the first four bytes of
/// their GUID on disk: page 83 data and the two sector sizes.
const KNOWN_ITEMS: [[u8; 4]; 3] =
    [[0xAB, 0x12, 0xCA, 0xBE], LOGICAL_SECTOR, [0xC7, 0x48, 0xA3, 0xCD]];
/// The logical sector size item.
const LOGICAL_SECTOR: [u8; 4] = [0x1D, 0xBF, 0x41, 0x81];

pub(super) async fn examine(cx: &mut Examination<'_>) -> Result<()> {
    let [first, second] = HEADERS;
    let sound = [first, second].map(|at| header_sound(&cx.input, at) == Some(true));
    let sequence = [first, second].map(|at| cx.input.u64_le(at.saturating_add(8)).unwrap_or(0));
    let differ = cx.input.bytes(first, 4096) != cx.input.bytes(second, 4096);
    let [sequence_1, sequence_2] = sequence;
    cx.find_if(
        sound == [true, true] && sequence_1 == sequence_2 && differ,
        Code::CopyMismatch,
        (first.saturating_add(8), 8),
        "two headers with the same sequence number differ",
    );
    let active = match sound {
        [true, true] if sequence_1 >= sequence_2 => first,
        [true, false] => first,
        _ => second,
    };
    header(cx, active);
    vhdx_log::examine(cx, active).await?;
    required(cx);
    if has_parent(&cx.input) || item(&cx.input, &PARENT_LOCATOR).is_some() {
        parent(cx).await?;
    }
    if let Some(item) = item(&cx.input, &VIRTUAL_SIZE) {
        cx.need(item.offset, 8).await?;
        let size = cx.input.u64_le(item.offset);
        cx.disk_size((item.offset, 8), size);
    }
    if let Some(item) = item(&cx.input, &FILE_PARAMETERS) {
        cx.need(item.offset, 8).await?;
        let block = cx.input.u32_le(item.offset).unwrap_or(0);
        cx.find_if(
            !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block),
            Code::Structure,
            (item.offset, 4),
            format!("the block size is {block}, wanted a power of two from 1 MiB to 256 MiB"),
        );
    }
    let sector = items(&cx.input).into_iter().find(|item| item.id.starts_with(&LOGICAL_SECTOR));
    if let Some(item) = sector {
        cx.need(item.offset, 4).await?;
        let size = cx.input.u32_le(item.offset).unwrap_or(0);
        cx.find_if(
            size != 512 && size != 4096,
            Code::Structure,
            (item.offset, 4),
            format!("the sector size is {size}, wanted 512 or 4096"),
        );
    }
    Ok(())
}

fn header(cx: &mut Examination<'_>, at: u64) {
    let field = |offset: u64, len: u32| Location::start(at.saturating_add(offset), len);
    let version = cx.input.u16_le(at.saturating_add(0x42)).unwrap_or(0);
    cx.find_if(
        version != 1,
        Code::VersionUnsupported,
        field(0x42, 2),
        format!("the version is {version}, wanted 1"),
    );
    let log_len = u64::from(cx.input.u32_le(at.saturating_add(0x44)).unwrap_or(0));
    let log_at = cx.input.u64_le(at.saturating_add(0x48)).unwrap_or(0);
    let mut parts = vec![("headers", 0, 1 << 20), ("log", log_at, log_len)];
    for region in regions(&cx.input) {
        let name = match region.id {
            BAT => "block table",
            METADATA => "metadata",
            _ => "other region",
        };
        parts.push((name, region.offset, u64::from(region.len)));
        cx.table(name, (region.at, 32), (Some(region.offset), Some(region.len.into())), 1 << 30, 0);
    }
    cx.overlaps(&parts);
}

fn required(cx: &mut Examination<'_>) {
    for region in regions(&cx.input) {
        if region.required && region.id != BAT && region.id != METADATA {
            cx.find(
                Code::FeatureUnknown,
                (region.at, 32),
                "a region that readers must know is not known",
            );
        }
    }
    for item in items(&cx.input) {
        let [a, b, c, d, ..] = item.id;
        let known = [FILE_PARAMETERS, VIRTUAL_SIZE, PARENT_LOCATOR].contains(&item.id)
            || KNOWN_ITEMS.contains(&[a, b, c, d]);
        if item.flags & 4 != 0 && !known {
            cx.find(
                Code::FeatureUnknown,
                (item.at, 32),
                "a metadata item that readers must know is not known",
            );
        }
    }
}

async fn parent(cx: &mut Examination<'_>) -> Result<()> {
    let flagged = item(&cx.input, &FILE_PARAMETERS).map_or(0, |item| item.offset);
    let Some(item) = item(&cx.input, &PARENT_LOCATOR) else {
        cx.find(
            Code::Parent,
            (flagged.saturating_add(4), 4),
            "the disk has a parent and no locator",
        );
        return Ok(());
    };
    cx.find(Code::Parent, (item.offset, item.len), "the disk is a difference to a parent");
    let taken = cx.need_some(item.offset, u64::from(item.len.min(1 << 16))).await?;
    let count = cx.input.u16_le(item.offset.saturating_add(18)).unwrap_or(0).min(16);
    for index in 0..u64::from(count) {
        let at = item.offset.saturating_add(20).saturating_add(index.saturating_mul(12));
        let text = |offset: Option<u32>, len: Option<u16>| {
            let (offset, len) = (u64::from(offset?), u64::from(len?));
            (offset.checked_add(len)? <= taken).then_some(())?;
            let bytes =
                cx.input.bytes(item.offset.checked_add(offset)?, usize::try_from(len).ok()?)?;
            Some((offset, utf16(bytes, u16::from_le_bytes)))
        };
        let key = text(cx.input.u32_le(at), cx.input.u16_le(at.saturating_add(8)));
        let value =
            text(cx.input.u32_le(at.saturating_add(4)), cx.input.u16_le(at.saturating_add(10)));
        if let (Some((_, key)), Some((offset, value))) = (key, value)
            && key.ends_with("path")
        {
            let place = (item.offset.saturating_add(offset), 0u32);
            cx.reference(
                Code::Parent,
                place,
                value.as_bytes(),
                format!("the parent's {}", key.escape_debug()),
            );
        }
    }
    Ok(())
}
