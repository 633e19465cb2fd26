//! Apple disk images: the chunk tables of UDIF, and the directories and tables of ASIF.

use super::base64;
use super::other::find;
use crate::recognisers::apple::koly;
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::{Location, ProbeInput};

/// Largest chunk in bytes, packed or unpacked.
const LARGEST_CHUNK: u64 = 64 << 20;
/// Largest property list or resource fork in bytes.
const LARGEST_LIST: u64 = 16 << 20;
/// Byte offset of the first chunk in a table.
const CHUNKS_AT: u64 = 204;
/// Length of a chunk in a table, in bytes.
const CHUNK: u64 = 40;

pub(super) async fn dmg(cx: &mut Examination<'_>) -> Result<()> {
    let Some(at) = koly(&cx.input) else {
        return Ok(());
    };
    let field = |offset: u64, len: u32| Location::start(at.saturating_add(offset), len);
    let segments = cx.input.u32_be(at.saturating_add(0x3C)).unwrap_or(0);
    cx.find_if(
        segments > 1,
        Code::ExtExtent,
        field(0x3C, 4),
        format!("the disk is in {segments} files"),
    );
    let sectors = cx.input.u64_be(at.saturating_add(0x1EC));
    let size = sectors.and_then(|sectors| sectors.checked_mul(512));
    cx.disk_size(field(0x1EC, 8), size);
    let packed = cx.input.u64_be(at.saturating_add(0x20)).unwrap_or(0);
    let most = packed.max(1).saturating_mul(cx.limits.ratio).max(64 << 20);
    cx.find_if(
        size.is_none_or(|size| size > most),
        Code::Bomb,
        field(0x1EC, 8),
        format!("{packed} bytes become more than {most}"),
    );
    let text = cx.input.u64_be(at.saturating_add(0xD8));
    let len = cx.input.u64_be(at.saturating_add(0xE0));
    if len != Some(0) {
        cx.table("property list", field(0xE0, 8), (text, len), LARGEST_LIST, 0);
    }
    let mut sums = Sums { sectors: sectors.unwrap_or(0), at, unpacked: 0, packed: 0 };
    property_list(cx, text.unwrap_or(0), len.unwrap_or(0), &mut sums).await?;
    let fork = [0x28, 0x30].map(|offset| cx.input.u64_be(at.saturating_add(offset)).unwrap_or(0));
    resource_fork(cx, field(0x28, 16), fork, &mut sums).await?;
    let most = sums.packed.saturating_mul(cx.limits.ratio).max(LARGEST_CHUNK);
    cx.find_if(
        sums.unpacked > most,
        Code::Bomb,
        field(0, 4),
        format!("{} packed bytes become {}, wanted at most {most}", sums.packed, sums.unpacked),
    );
    Ok(())
}

/// Totals over all chunk tables.
struct Sums {
    /// Disk size in sectors.
    sectors: u64,
    /// Byte offset of the trailer.
    at: u64,
    unpacked: u64,
    packed: u64,
}

/// Examines the chunk tables in the property list, stored in base64 under `blkx`.
async fn property_list(
    cx: &mut Examination<'_>,
    start: u64,
    len: u64,
    sums: &mut Sums,
) -> Result<()> {
    if len > cx.limits.text_bytes {
        cx.limit("property list");
    }
    let taken = cx.need_some(start, len.min(cx.limits.text_bytes)).await?;
    let text = cx.input.prefix(start, usize::try_from(taken).unwrap_or(0)).to_vec();
    let Some(mut from) = find(&text, b"<key>blkx</key>") else {
        return Ok(());
    };
    while let Some(begin) = text.get(from..).and_then(|rest| find(rest, b"<data>")) {
        let begin = from.saturating_add(begin).saturating_add(6);
        let Some(end) = text.get(begin..).and_then(|rest| find(rest, b"</data>")) else { break };
        from = begin.saturating_add(end);
        let place = Location::start(start.saturating_add(u64::try_from(begin).unwrap_or(0)), 0);
        match base64::decoded(text.get(begin..from).unwrap_or_default()) {
            Some(table) => chunks(cx, place, &ProbeInput::of_bytes(&table), sums),
            None => cx.find(Code::Structure, place, "a chunk table is not in base 64"),
        }
    }
    Ok(())
}

/// Examines the chunk tables in the resource fork, where older writers store them.
async fn resource_fork(
    cx: &mut Examination<'_>,
    field: Location,
    [start, len]: [u64; 2],
    sums: &mut Sums,
) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    cx.table("resource fork", field, (Some(start), Some(len)), LARGEST_LIST, 0);
    if len > cx.limits.text_bytes {
        cx.limit("resource fork");
    }
    let taken = cx.need_some(start, len.min(cx.limits.text_bytes)).await?;
    let bytes = cx.input.prefix(start, usize::try_from(taken).unwrap_or(0)).to_vec();
    let fork = ProbeInput::of_bytes(&bytes);
    let mut at = u64::from(fork.u32_be(0).unwrap_or(0));
    let end = at.saturating_add(fork.u32_be(8).unwrap_or(0).into());
    while at < end {
        let Some(len) = fork.u32_be(at) else { break };
        let body = at.saturating_add(4);
        let resource = fork.prefix(body, usize::try_from(len).unwrap_or(usize::MAX));
        if resource.starts_with(b"mish") {
            let place = Location::start(start.saturating_add(body), 4);
            chunks(cx, place, &ProbeInput::of_bytes(resource), sums);
        }
        at = body.saturating_add(len.into());
    }
    Ok(())
}

/// Examines one chunk table: which sectors it unpacks, and from where.
fn chunks(cx: &mut Examination<'_>, place: Location, table: &ProbeInput, sums: &mut Sums) {
    let number = |at: u64| table.u64_be(at).unwrap_or(u64::MAX);
    if !table.has(0, b"mish") {
        cx.find(Code::Structure, place, "a chunk table does not begin with mish");
        return;
    }
    let count = u64::from(table.u32_be(200).unwrap_or(0));
    let room = table.len().saturating_sub(CHUNKS_AT).checked_div(CHUNK).unwrap_or(0);
    cx.find_if(
        count > room,
        Code::TableExcessive,
        place,
        format!("a chunk table says it has {count} chunks, and has room for {room}"),
    );
    let fork = cx.input.u64_be(sums.at.saturating_add(0x18)).unwrap_or(0);
    for index in 0..count.min(room) {
        let at = CHUNKS_AT.saturating_add(index.saturating_mul(CHUNK));
        let kind = table.u32_be(at).unwrap_or(0);
        let sectors = number(at.saturating_add(16));
        let end = number(8).checked_add(number(at.saturating_add(8)));
        let end = end.and_then(|first| first.checked_add(sectors));
        let is_run = match kind {
            // A comment or the end of the table.
            0x7FFF_FFFE | 0xFFFF_FFFF => continue,
            0 | 2 => true,
            1 | 0x8000_0004..=0x8000_0008 => false,
            _ => {
                let message = format!("chunk {index} is of type {kind:#x}, which is not known");
                cx.find(Code::FeatureUnknown, place, message);
                continue;
            }
        };
        cx.find_if(
            end.is_none_or(|end| end > sums.sectors),
            Code::SizeExcessive,
            place,
            format!("chunk {index} goes on past the {} sectors of the disk", sums.sectors),
        );
        if is_run {
            continue;
        }
        let len = number(at.saturating_add(32));
        let unpacked = sectors.saturating_mul(512);
        cx.find_if(
            len > LARGEST_CHUNK || unpacked > LARGEST_CHUNK,
            Code::SizeExcessive,
            place,
            format!(
                "chunk {index} makes {unpacked} bytes of {len}, wanted at most {LARGEST_CHUNK}"
            ),
        );
        let begin =
            fork.checked_add(number(24)).and_then(|n| n.checked_add(number(at.saturating_add(24))));
        cx.find_if(
            begin.and_then(|begin| begin.checked_add(len)).is_none_or(|end| end > cx.input.len()),
            Code::OutOfBounds,
            place,
            format!("chunk {index} lies past the end of the file"),
        );
        sums.packed = sums.packed.saturating_add(len);
        sums.unpacked = sums.unpacked.saturating_add(unpacked);
    }
}

/// Mask of the chunk number in a table entry. The bits above it are the chunk's state.
const CHUNK_NUMBER: u64 = 0x007F_FFFF_FFFF_FFFF;

pub(super) async fn asif(cx: &mut Examination<'_>) -> Result<()> {
    let block = u64::from(cx.input.u16_be(68).unwrap_or(512));
    let chunk = u64::from(cx.input.u32_be(64).unwrap_or(0));
    let size = cx.input.u64_be(48).and_then(|sectors| sectors.checked_mul(block));
    cx.disk_size((48, 8), size);
    asif_metadata(cx, chunk).await?;
    // The directory with the higher number is in use.
    let mut active = None;
    for field in [16, 24] {
        let at = cx.input.u64_be(field).unwrap_or(0);
        if at > 0 && cx.need(at, 8).await? {
            active = active.max(cx.input.u64_be(at).map(|number| (number, at)));
        }
    }
    // A table consists of groups of entries, each with one more entry for its bitmap.
    let entries = block.saturating_mul(4);
    let group = entries.saturating_add(1).saturating_mul(8);
    let groups = chunk.checked_div(group).unwrap_or(0);
    let reach = groups.checked_mul(entries).and_then(|n| n.checked_mul(chunk)).filter(|n| *n > 0);
    let (Some((_, directory)), Some(reach), Some(size)) = (active, reach, size) else {
        return Ok(());
    };
    let tables = size.div_ceil(reach);
    if tables > 64 {
        cx.limit("ASIF tables");
    }
    for index in 0..tables.min(64) {
        let entry = directory.saturating_add(8).saturating_add(index.saturating_mul(8));
        if !cx.need(entry, 8).await? {
            cx.find(
                Code::OutOfBounds,
                (entry, 8),
                "the directory goes on past the end of the file",
            );
            break;
        }
        let number = cx.input.u64_be(entry).unwrap_or(0) & CHUNK_NUMBER;
        if number == 0 {
            continue;
        }
        let stored =
            size.saturating_sub(index.saturating_mul(reach)).min(reach).div_ceil(chunk.max(1));
        let len = stored.div_ceil(entries.max(1)).saturating_mul(group);
        let place = number.checked_mul(chunk);
        cx.table("table of chunks", (entry, 8), (place, Some(len)), 64 << 20, 0);
        let place = place.unwrap_or(u64::MAX);
        let taken = cx.need_some(place, len.min(1 << 20)).await?;
        let bytes = cx.input.prefix(place, usize::try_from(taken).unwrap_or(0));
        let dirty =
            bytes.chunks_exact(8).position(|entry| entry.first().is_some_and(|b| b & 0xC0 != 0));
        if let Some(dirty) = dirty {
            let at = place.saturating_add(u64::try_from(dirty).unwrap_or(0).saturating_mul(8));
            cx.find(Code::Dirty, (at, 8), "an entry is marked as being changed");
        }
    }
    Ok(())
}

/// Examines the property list that describes the image.
async fn asif_metadata(cx: &mut Examination<'_>, chunk: u64) -> Result<()> {
    let place = cx.input.u64_be(72).unwrap_or(0).checked_mul(chunk).filter(|at| *at > 0);
    let Some(at) = place else {
        return Ok(());
    };
    if cx.need(at, 32).await? && cx.input.has(at, b"meta") {
        let header = u64::from(cx.input.u32_be(at.saturating_add(8)).unwrap_or(0));
        let len = cx.input.u64_be(at.saturating_add(12));
        let field = (at.saturating_add(12), 8);
        cx.table("metadata", field, (at.checked_add(header), len), 1 << 20, 0);
    }
    Ok(())
}
