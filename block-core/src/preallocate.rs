//! Space for ranges that read as zeros, on storages that can reserve space and on those that cannot.

use crate::{ErrorKind, PageBuffer, Result, Storage, give_way};

/// 1 MiB, the bytes of zeros in one write.
const PIECE: usize = 1 << 20;

/// Reserves space for `len` bytes of zeros at `offset`, which nothing else uses. Writes the zeros if the
/// storage cannot reserve space (NFS before 4.2, many FUSE file systems, ZFS).
///
/// # Errors
/// Any error of the storage, except `Unsupported` of [`Storage::allocate`].
pub async fn allocate_zeros(storage: &dyn Storage, offset: u64, len: u64) -> Result<()> {
    match storage.allocate(offset, len).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            write_zeros(storage, offset, len).await
        }
        allocated => allocated,
    }
}

/// Writes `len` bytes of zeros at `offset`, as data.
///
/// # Errors
/// Any error of the storage.
pub async fn write_zeros(storage: &dyn Storage, offset: u64, len: u64) -> Result<()> {
    let zeros = PageBuffer::new(PIECE);
    let mut done = 0;
    while done < len {
        let piece = usize::try_from(len - done).unwrap_or(PIECE).min(PIECE);
        storage.write_at(offset + done, zeros.get(..piece).unwrap_or(&zeros)).await?;
        done += piece as u64;
        if done < len {
            give_way().await;
        }
    }
    Ok(())
}
