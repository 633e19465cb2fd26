//! The log of a VHDX: the writes that opening the image for writing would replay.

use crate::checksum::crc32c;
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::Location;

const MIB: u64 = 1 << 20;
/// Offsets and lengths of log entries are multiples of this many bytes.
const SECTOR: u64 = 4096;
/// Most bytes of the log that are read.
const LONGEST: u64 = 2 * MIB;

/// One entry that belongs to the log and has a correct checksum.
#[derive(Clone, Copy)]
struct Entry {
    sequence: u64,
    at: u64,
}

/// Examines the log named by the header at `header`. Does nothing if the header names none.
pub(super) async fn examine(cx: &mut Examination<'_>, header: u64) -> Result<()> {
    let field = |offset: u64, len: u32| Location::start(header.saturating_add(offset), len);
    let len = u64::from(cx.input.u32_le(header.saturating_add(0x44)).unwrap_or(0));
    let at = cx.input.u64_le(header.saturating_add(0x48)).unwrap_or(0);
    let whole = |n: u64| n > 0 && n.checked_rem(MIB) == Some(0);
    cx.find_if(
        !whole(len) || !whole(at),
        Code::Structure,
        field(0x44, 12),
        format!("the log has {len} bytes at {at:#x}, wanted multiples of 1 MiB"),
    );
    let guid = cx.input.array::<16>(header.saturating_add(0x30)).unwrap_or([0; 16]);
    // Entries of an old log may be there. Without a log GUID in the header they are void.
    if guid == [0; 16] {
        return Ok(());
    }
    let version = cx.input.u16_le(header.saturating_add(0x40)).unwrap_or(0);
    cx.find_if(
        version != 0,
        Code::VersionUnsupported,
        field(0x40, 2),
        format!("the version of the log is {version}, wanted 0"),
    );
    cx.table("log", field(0x44, 12), (Some(at), Some(len)), 1 << 30, 0);
    if len > LONGEST {
        cx.limit("VHDX log");
    }
    let taken = cx.need_some(at, len.min(LONGEST)).await?;
    let entries = entries(cx, at, taken, &guid);
    let newest = entries.iter().max_by_key(|entry| entry.sequence);
    let Some(newest) = newest.copied() else {
        let message = "a log waits to be replayed, and no sound entry of it was seen";
        cx.find(Code::LogReplay, field(0x30, 16), message);
        return Ok(());
    };
    let message = format!(
        "a log waits to be replayed: {} sound entries, the newest is number {} at {:#x}",
        entries.len(),
        newest.sequence,
        newest.at
    );
    cx.find(Code::LogReplay, field(0x30, 16), message);
    let flushed = cx.input.u64_le(newest.at.saturating_add(48)).unwrap_or(0);
    cx.find_if(
        flushed > cx.input.len(),
        Code::OutOfBounds,
        (newest.at.saturating_add(48), 8),
        format!("the log counts on a file of {flushed} bytes, it has {}", cx.input.len()),
    );
    Ok(())
}

/// Returns the valid entries with this GUID in `len` bytes from `at`.
fn entries(cx: &Examination<'_>, at: u64, len: u64, guid: &[u8; 16]) -> Vec<Entry> {
    let end = at.saturating_add(len);
    let mut found = Vec::new();
    let mut place = at;
    while place < end {
        let size = entry(cx, place, end, guid);
        if size.is_some() {
            let sequence = cx.input.u64_le(place.saturating_add(16)).unwrap_or(0);
            found.push(Entry { sequence, at: place });
        }
        place = place.saturating_add(size.unwrap_or(SECTOR));
    }
    found
}

/// Returns the length of the entry at `at` if it is valid. An entry that wraps around to the start of the log is not
/// recognised.
fn entry(cx: &Examination<'_>, at: u64, end: u64, guid: &[u8; 16]) -> Option<u64> {
    let ours = cx.input.has(at, b"loge") && cx.input.has(at.checked_add(32)?, guid);
    let len = u64::from(cx.input.u32_le(at.checked_add(8)?).filter(|_| ours)?);
    let fits = len >= SECTOR && len.checked_rem(SECTOR) == Some(0) && at.checked_add(len)? <= end;
    let bytes = cx.input.bytes(at, usize::try_from(len).ok().filter(|_| fits)?)?;
    let sum = crc32c(&[bytes.get(..4)?, &[0; 4], bytes.get(8..)?]);
    (cx.input.u32_le(at.checked_add(4)?) == Some(sum)).then_some(len)
}
