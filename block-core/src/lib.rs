//! A pluggable block-driver framework: traits, probing, the allocation engine, the conformance kit.
//!
//! A disk-image format maps guest blocks to offsets in a file. A driver author writes that map
//! ([`engine::BlockMapper`]). The framework implements everything else once, for all formats.
//!
//! A program opens disks through a [`Registry`] of drivers, then reads and writes a [`Disk`]:
//!
//! ```
//! use std::sync::Arc;
//!
//! use block_core::{Access, MemStorage, OpenRequest, Registry, Storage, WriteFlags};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> block_core::Result<()> {
//! let mut registry = Registry::new();
//! block_img::registry().drivers().into_iter().for_each(|driver| registry.register(driver.clone()));
//! let registry = Arc::new(registry);
//!
//! // Usually a protocol driver opens the storage by name.
//! let storage: Arc<dyn Storage> = MemStorage::from_bytes(&[0; 1 << 20]);
//! println!("{}", registry.probe(&*storage).await?.explain());
//!
//! let request = OpenRequest::new("memory:", Access::ReadWrite).format("raw");
//! let disk = registry.open_on(storage, &request).await?;
//! disk.write_at(1000, b"any byte range", WriteFlags::empty()).await?;
//! disk.flush().await?;
//! let mut back = [0; 14];
//! disk.read_at(1000, &mut back).await?;
//! assert_eq!(&back, b"any byte range");
//! # Ok(())
//! # }
//! ```
//!
//! Where to go from here:
//!
//! - [`BlockDriver`] is a format. [`engine`] serves its images and states the write contract.
//! - [`ProtocolDriver`] opens a [`Storage`], which holds the bytes.
//! - [`probe`] identifies unknown files, and [`inspect`] examines them.
//! - The crate `block-testkit` tests that a driver keeps its promises.
//!
//! This crate names no driver, no file system and no runtime.
#![forbid(unsafe_code)]

mod advice;
mod buffer;
pub mod chain;
mod check;
mod codes;
mod context;
mod device;
mod disk;
mod driver;
pub mod engine;
mod error;
mod extent;
pub mod filter;
mod give_way;
mod image;
pub mod inspect;
mod join;
mod mem;
pub mod null;
pub mod options;
mod parent;
mod preallocate;
pub mod probe;
mod protocol;
pub mod range_lock;
mod registry;
pub mod size;
mod storage;
mod sync;
mod zeros;

pub use advice::Advice;
pub use buffer::PageBuffer;
pub use bytes::Bytes;
pub use check::{CheckMode, CheckReport, Finding, Severity};
pub use codes::ErrorCode;
pub use context::{
    Candidate, Candidates, DenyAll, FixedGate, Gate, Limits, OpenContext, Reference, ReferenceBy,
};
pub use device::{
    BlockDevice, CompactReport, DeviceCaps, ImageInfo, InfoValue, MappedRuns, ParentInfo, Place,
    Preallocation, Progress, Run, SECTOR_SIZE, WriteFlags, ZeroFlags,
};
pub use disk::Disk;
pub use driver::{Access, BlockDriver, CreateRequest, Descriptor, LostHeader, Measure, NewParent};
pub use error::{Error, ErrorKind, Field, Result, bug};
pub use extent::{Allocation, Extent, ExtentFlags, ExtentList};
pub use give_way::give_way;
pub use image::Image;
pub use mem::MemStorage;
pub use options::{OptionKind, OptionSpec, OptionValue, Options};
pub use parent::{Identity, ParentFile, ParentRecord};
pub use preallocate::{allocate_zeros, write_zeros};
pub use protocol::{CacheMode, ProtocolDriver, Sharing, StorageAccess, StorageOptions};
pub use registry::{OpenRequest, Registry};
pub use storage::{
    Storage, StorageCaps, StorageExtent, StorageId, StorageLimits, ZeroMode, read_a_copy,
};
pub use zeros::is_zero;

/// Return type of an asynchronous trait method as `async_trait` expands it. Use it to write such a method by
/// hand.
pub type BoxFuture<'f, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'f>>;
