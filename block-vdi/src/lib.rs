//! Format driver: reads and writes VirtualBox Disk Images (VDI).
//!
//! Supports dynamic, static, differencing and undo images of versions 1.x and 0.2, with every block size that
//! VirtualBox accepts. The crate's `FORMAT.md` describes the format, its sources, and where this driver differs from
//! other tools.
//!
//! ```
//! use std::sync::Arc;
//!
//! use block_core::{
//!     Access, CreateRequest, MemStorage, OpenContext, OpenRequest, Registry, Result, WriteFlags,
//! };
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<()> {
//!     let mut drivers = Registry::new();
//!     block_vdi::register(&mut drivers);
//!     let drivers = Arc::new(drivers);
//!
//!     let file = MemStorage::new();
//!     let cx = OpenContext::new(Arc::clone(&drivers));
//!     drivers.driver("vdi")?.create(file.clone(), &CreateRequest::new(64 << 20), &cx).await?;
//!
//!     let disk = drivers.open_on(file, &OpenRequest::new("memory:", Access::ReadWrite)).await?;
//!     disk.write_at(12_345, b"guest data", WriteFlags::empty()).await?;
//!     let mut read = [0; 10];
//!     disk.read_at(12_345, &mut read).await?;
//!     assert_eq!(&read, b"guest data");
//!     disk.close().await
//! }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::arithmetic_side_effects
    )
)]

mod amend;
mod chain;
mod check;
mod codes;
mod create;
mod driver;
mod entry;
mod fill;
mod format;
mod header;
mod header_sector;
mod info;
mod inspect;
mod invalid;
mod map;
mod parents_end;
mod probe;
mod rebuild;
mod resize;
pub mod vbox;

use std::sync::Arc;

use block_core::Registry;

pub use driver::VdiDriver;
pub use invalid::InvalidImage;

/// The format's name on the command line.
pub(crate) const NAME: &str = "vdi";

/// Adds the VDI driver and its error codes to `registry`.
pub fn register(registry: &mut Registry) {
    registry.register(Arc::new(VdiDriver));
    registry.register_codes(codes::CODES);
}
