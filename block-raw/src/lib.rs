//! Raw disks: the disk is the storage, or a window of it, byte for byte.
//!
//! Read this driver first. It has no map, so it shows what every driver must do. [`driver`] implements the format
//! (probe, open, create, check, measure), [`device`] an open disk.
//!
//! ```
//! use std::sync::Arc;
//! use block_core::{Access, MemStorage, OpenRequest, Registry, WriteFlags};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> block_core::Result<()> {
//! let mut registry = Registry::new();
//! block_raw::register(&mut registry);
//! let registry = Arc::new(registry);
//!
//! let storage = MemStorage::from_bytes(b"a disk of thirty-three odd bytes!");
//! let request = OpenRequest::new("memory:", Access::ReadWrite).format("raw");
//! let disk = registry.open_on(storage, &request).await?;
//!
//! assert_eq!(disk.size(), 512, "rounded up to a sector, the rest reads as zeros");
//! disk.write_at(2, b"DISK", WriteFlags::empty()).await?;
//! let mut start = [0; 9];
//! disk.read_at(0, &mut start).await?;
//! assert_eq!(&start, b"a DISK of");
//! # Ok(())
//! # }
//! ```
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
#![forbid(unsafe_code)]

pub mod device;
pub mod driver;

use std::sync::Arc;

use block_core::Registry;

pub use device::RawDevice;
pub use driver::RawDriver;

/// Adds the format `raw` to `registry`.
pub fn register(registry: &mut Registry) {
    registry.register(Arc::new(RawDriver));
}
