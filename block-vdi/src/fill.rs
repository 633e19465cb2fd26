//! Long stretches of new map entries, and room for the blocks they name.

use block_core::{Preallocation, Result, Storage, ZeroMode, bug};

use crate::format::ENTRY_ZERO;

/// What a stretch of entries is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entries {
    /// The same value everywhere.
    All(u32),
    /// Slots counting up from here.
    From(u64),
}

/// Entries written at once: 1 MiB.
const CHUNK: u64 = 1 << 18;

/// Writes `count` entries from byte `offset` on. Slots that an entry cannot name do not come here.
pub(crate) async fn write_entries(
    storage: &dyn Storage,
    offset: u64,
    count: u64,
    entries: Entries,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut done = 0u64;
    while done < count {
        let now = (count - done).min(CHUNK);
        if let Entries::From(first) = entries {
            bytes.clear();
            for slot in first + done..first + done + now {
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
        let part = usize::try_from(now * 4).ok().and_then(|len| bytes.get(..len));
        let part = part.ok_or_else(|| bug("a stretch of new entries is longer than its buffer"))?;
        storage.write_at(offset + done * 4, part).await?;
        done += now;
    }
    Ok(())
}

/// Makes the file hold `len` bytes of zeros from `start` on, which nothing uses yet, and ends it there.
pub(crate) async fn make_room(
    storage: &dyn Storage,
    start: u64,
    len: u64,
    preallocation: Preallocation,
) -> Result<()> {
    let end = start.checked_add(len).ok_or_else(|| bug("new slots lie past the largest offset"))?;
    let file_len = storage.len().await?;
    if file_len > start {
        storage.write_zeroes(start, file_len.min(end) - start, ZeroMode::Deallocate).await?;
    }
    if file_len < end {
        storage.set_len(end).await?;
    }
    match preallocation {
        Preallocation::Falloc => storage.allocate(start, len).await,
        Preallocation::Full => storage.write_zeroes(start, len, ZeroMode::Allocate).await,
        _ => Ok(()),
    }
}
