//! New stretches of map entries, and space for their blocks.

use std::ops::Range;

use block_core::{
    BlockDevice, Error, Preallocation, Result, SECTOR_SIZE, Storage, ZeroMode, allocate_zeros, bug,
    give_way,
};

use crate::format::ENTRY_ZERO;

/// The content of a stretch of entries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entries {
    /// The same value everywhere.
    All(u32),
    /// Slots counting up from here.
    From(u64),
}

/// Entries per write: 1 MiB.
const CHUNK: u64 = 1 << 18;

/// Writes `count` entries from byte `offset` on. The caller passes no slot number that does not fit in an entry.
pub(crate) async fn write_entries(
    storage: &dyn Storage,
    offset: u64,
    count: u64,
    entries: Entries,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut done = 0u64;
    while done < count {
        let now = count.checked_sub(done).ok_or_else(too_far)?.min(CHUNK);
        if let Entries::From(first) = entries {
            bytes.clear();
            let first = first.checked_add(done).ok_or_else(too_far)?;
            for slot in first..first.checked_add(now).ok_or_else(too_far)? {
                let entry = u32::try_from(slot).ok().filter(|entry| *entry < ENTRY_ZERO);
                let entry = entry.ok_or_else(|| bug("a new entry names no slot that it can"))?;
                bytes.extend_from_slice(&entry.to_le_bytes());
            }
        }
        if let Entries::All(entry) = entries
            && done == 0
        {
            bytes = (0..now).flat_map(|_| entry.to_le_bytes()).collect();
        }
        let part = now.checked_mul(4).and_then(|len| usize::try_from(len).ok());
        let part = part.and_then(|len| bytes.get(..len));
        let part = part.ok_or_else(|| bug("a stretch of new entries is longer than its buffer"))?;
        let at = done.checked_mul(4).and_then(|at| at.checked_add(offset));
        storage.write_at(at.ok_or_else(too_far)?, part).await?;
        done = done.checked_add(now).ok_or_else(too_far)?;
        if done < count {
            give_way().await;
        }
    }
    Ok(())
}

/// Returns the error of a bug: after the check of the header, no request reaches that far.
fn too_far() -> Error {
    bug("new entries or slots lie past the largest offset of a file")
}

/// Bytes of a parent per copy.
const PIECE: u64 = 1 << 20;

/// Copies the parent's content in `range` (bytes, whole sectors) to byte `place` of the file.
pub(crate) async fn copy_of_parent(
    storage: &dyn Storage,
    parent: &dyn BlockDevice,
    range: Range<u64>,
    place: u64,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let len = range.end.saturating_sub(at).min(PIECE);
        let len_in_memory = usize::try_from(len).map_err(|_| bug("a piece has no length"))?;
        let mut bytes = vec![0; len_in_memory];
        parent.read_sectors(at / SECTOR_SIZE, &mut bytes).await?;
        storage.write_at(place.saturating_add(at.saturating_sub(range.start)), &bytes).await?;
        at = at.saturating_add(len);
        if at < range.end {
            give_way().await;
        }
    }
    Ok(())
}

/// Makes the file hold `len` zero bytes from `start` on and end there. Nothing uses that range yet.
pub(crate) async fn preallocate(
    storage: &dyn Storage,
    start: u64,
    len: u64,
    preallocation: Preallocation,
) -> Result<()> {
    let end = start.checked_add(len).ok_or_else(too_far)?;
    let file_len = storage.len().await?;
    if file_len > start {
        let stale = file_len.min(end).checked_sub(start).ok_or_else(too_far)?;
        storage.write_zeroes(start, stale, ZeroMode::Deallocate).await?;
    }
    if file_len < end {
        storage.set_len(end).await?;
    }
    match preallocation {
        Preallocation::Falloc => allocate_zeros(storage, start, len).await,
        Preallocation::Full => storage.write_zeroes(start, len, ZeroMode::Allocate).await,
        _ => Ok(()),
    }
}
