//! A pluggable block-driver framework: traits, probing, the allocation engine, the conformance kit.
//!
//! A disk-image format is a map from guest blocks to places in a file. A driver author writes the map
//! ([`engine::BlockMapper`]); the framework does everything else, once.
//!
//! This crate names no driver, no file system and no runtime.
#![forbid(unsafe_code)]

pub mod chain;
mod check;
mod context;
mod device;
mod disk;
mod driver;
pub mod engine;
mod error;
mod extent;
pub mod filter;
mod guard;
pub mod inspect;
mod mem;
pub mod options;
pub mod probe;
mod protocol;
pub mod range_lock;
mod registry;
pub mod size;
mod storage;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod zeros;

pub use check::{CheckMode, CheckReport, Finding, Severity};
pub use context::{
    Candidate, DenyAll, FixedGate, Gate, Limits, OpenContext, Reference, ReferenceBy,
};
pub use device::{
    BlockDevice, CompactReport, DeviceCaps, ImageInfo, InfoValue, MappedRuns, ParentInfo, Place,
    Preallocation, Progress, Run, SECTOR_SIZE, WriteFlags, ZeroFlags,
};
pub use disk::Disk;
pub use driver::{Access, BlockDriver, CreateRequest, Descriptor, Measure, NewParent};
pub use error::{Error, ErrorKind, Field, Result};
pub use extent::{Allocation, Extent, ExtentFlags, ExtentList};
pub use mem::MemStorage;
pub use options::{OptionKind, OptionSpec, OptionValue, Options};
pub use protocol::{CacheMode, ProtocolDriver, Sharing, StorageAccess, StorageOptions};
pub use registry::{OpenRequest, Registry};
pub use storage::{Storage, StorageCaps, StorageExtent, StorageId, StorageLimits, ZeroMode};
pub use zeros::is_zero;
