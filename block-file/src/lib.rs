//! Host files and block devices as storages.
//!
//! [`register`] adds two protocols: `file`, the protocol of bare paths too, and `host_device`, for block devices only.
//!
//! ```
//! use block_core::{Registry, StorageAccess, StorageOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> block_core::Result<()> {
//! let mut registry = Registry::new();
//! block_file::register(&mut registry);
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("disk.raw");
//! let uri = format!("file:{}", path.display());
//! let file = registry.open_storage(&uri, &StorageOptions::new(StorageAccess::Create)).await?;
//!
//! file.write_at(1 << 20, b"hello").await?;
//! file.flush().await?;
//! assert_eq!(file.len().await?, (1 << 20) + 5);
//!
//! let mut extents = Vec::new();
//! file.extents(0..u64::MAX, &mut extents).await?;
//! assert!(!extents[0].data, "the first mebibyte is a hole");
//! # Ok(())
//! # }
//! ```
//!
//! **Threads.** Reads of cached bytes and buffered writes are plain system calls inside `poll`. A call that may wait
//! for a disk goes through `tokio::task::block_in_place` on a multi-thread runtime (feature `multi-thread`, on by
//! default), and is a plain call elsewhere. Do not use these storages in a `LocalSet` on a multi-thread runtime: tokio
//! allows neither there.
//!
//! **Queue.** After the first few requests that had to wait, direct I/O and small reads of uncached bytes are queued on
//! an io_uring (feature `io_uring`, option `engine`). One thread can then have many in flight. The runtime drives the
//! ring, and must have its I/O driver enabled.
//!
//! Each file's queue registers 256 KiB of buffers for requests of up to 4 KiB. They count against the limit on locked
//! memory (`ulimit -l`). Where the limit is too low, a request costs an eighth more.
//!
//! The queue opens a direct I/O file once more, through `/proc/self/fd`, without locks. Reads through it do not update
//! the access time; the plain calls before it did, unless the engine was asked for by name. Where the second open is
//! refused, each read costs 0.2 µs more.
//!
//! **Preallocation.** On ext4 a large write into a hole preallocates its range, so the kernel need not allocate page by
//! page. While the write lasts, or after it failed, the file may have blocks allocated past its end.
//!
//! **Dropped futures.** Dropping the future of a queued request waits for the request, so it never completes later.
//!
//! **Locks.** A storage opened for writing excludes every other writer, ours and QEMU's; see [`lock`].
//!
//! **Platforms.** Linux.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

#[cfg(not(target_os = "linux"))]
compile_error!("block-file calls Linux; other systems have no build yet");

mod aligned;
mod blocking;
mod codes;
mod copy;
mod direct;
mod extents;
mod failure;
pub mod gate;
mod given;
mod io;
pub mod lock;
mod names;
mod open;
pub mod output;
pub mod path;
mod protocol;
mod queued;
pub mod signal;
mod storage;
#[allow(unsafe_code)]
mod sys;
#[cfg(feature = "io_uring")]
mod uring;
mod zero;

use std::sync::Arc;

use block_core::Registry;

pub use gate::DirectoryGate;
pub use protocol::{FileProtocol, HostDeviceProtocol};
pub use storage::FileStorage;

/// Adds the protocols `file` and `host_device` to `registry`.
pub fn register(registry: &mut Registry) {
    registry.register_protocol(Arc::new(FileProtocol));
    registry.register_protocol(Arc::new(HostDeviceProtocol));
    registry.register_codes(codes::CODES);
}
