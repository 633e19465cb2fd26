//! Copying a range within one storage, with bounded memory that does not depend on the image.

use super::read::length;
use crate::{Error, ErrorKind, PageBuffer, Result, Storage, ZeroMode, bug};

/// 1 MiB, the number of bytes copied at a time.
pub(super) const PIECE: u64 = 1 << 20;

/// Copies `len` bytes from `from` to `to` within one storage. The two ranges must not overlap.
///
/// Holes stay holes. Bytes past the end of the storage count as a hole, so the copy always has its whole
/// length. Uses at most 1 MiB of memory for any length. Nothing is durable before the next
/// [`flush`](Storage::flush). An error leaves an unspecified mix at `to` and changes nothing else.
///
/// # Errors
/// Any error of the storage.
pub async fn copy_within(storage: &dyn Storage, from: u64, to: u64, len: u64) -> Result<()> {
    let (Some(end), Some(_)) = (from.checked_add(len), to.checked_add(len)) else {
        return Err(Error::new(ErrorKind::OutOfRange, "a copy past the largest offset of a file"));
    };
    let target = |at: u64| to + (at - from);
    let mut extents = Vec::new();
    storage.extents(from..end, &mut extents).await?;
    let mut buffer = PageBuffer::new(length(len.min(PIECE))?);
    let mut at = from;
    for extent in extents.iter().filter(|extent| extent.data) {
        let stored = extent.start.checked_add(extent.len).filter(|stored| *stored <= end);
        let (Some(hole), Some(stored)) = (extent.start.checked_sub(at), stored) else {
            return Err(bug("a storage lists an extent twice, or one that was not asked for"));
        };
        if hole > 0 {
            storage.write_zeroes(target(at), hole, ZeroMode::Deallocate).await?;
            at = extent.start;
        }
        while at < stored {
            let piece = (stored - at).min(PIECE);
            let bytes = buffer.get_mut(..length(piece)?);
            let bytes = bytes.ok_or_else(|| bug("a piece of a copy is longer than its buffer"))?;
            storage.read_at(at, bytes).await?;
            storage.write_at(target(at), bytes).await?;
            at += piece;
        }
    }
    match end - at {
        0 => Ok(()),
        rest => storage.write_zeroes(target(at), rest, ZeroMode::Deallocate).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PIECE, copy_within};
    use crate::{MemStorage, Storage};

    const FROM: u64 = 4096;
    const LEN: u64 = 5 * PIECE;
    const TO: u64 = 16 * PIECE;

    /// Data, a hole, data, and an end that is too early.
    async fn source() -> Arc<MemStorage> {
        let storage = MemStorage::new();
        storage.write_at(FROM, &[1; 5000]).await.unwrap();
        storage.write_at(FROM + 3 * PIECE, &vec![2; 1_200_000]).await.unwrap();
        storage
    }

    fn holds_the_copy(storage: &MemStorage) {
        let bytes = storage.to_bytes().unwrap();
        let (from, to, len) = (FROM as usize, TO as usize, LEN as usize);
        assert_eq!(bytes.len(), to + len, "the copy has its whole length");
        assert!(bytes[to..to + len] == bytes[from..from + len], "the copy differs");
        assert!(bytes[to..to + 5000].iter().all(|byte| *byte == 1), "the source is kept");
    }

    #[tokio::test]
    async fn a_copy_has_the_holes_of_its_source_and_its_whole_length() {
        let storage = source().await;
        let before = storage.allocated_bytes().await.unwrap().unwrap();
        copy_within(&*storage, FROM, TO, LEN).await.unwrap();
        holds_the_copy(&storage);
        let copied = storage.allocated_bytes().await.unwrap().unwrap() - before;
        assert!(copied <= 1_200_000 + 5000 + 4 * 4096, "{copied} bytes for 1,205,000");
    }

    #[tokio::test]
    async fn holes_are_copied_over_old_bytes() {
        let storage = source().await;
        storage.write_at(TO, &vec![9; LEN as usize]).await.unwrap();
        copy_within(&*storage, FROM, TO, LEN).await.unwrap();
        holds_the_copy(&storage);
    }
}
