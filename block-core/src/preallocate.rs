//! Room for ranges that read as zeros, on storages that can set room aside and on those that cannot.

use crate::{ErrorKind, PageBuffer, Result, Storage, give_way};

/// Bytes of zeros in one write.
const PIECE: usize = 1 << 20;

/// Gives room to `len` bytes at `offset` that read as zeros and that nothing else uses: sets it aside, or writes the
/// zeros where the storage cannot (NFS before 4.2, many FUSE file systems, ZFS).
///
/// # Errors
/// What the storage says, but for `Unsupported` of [`Storage::allocate`].
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
/// What the storage says.
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
