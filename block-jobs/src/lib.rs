//! Jobs over whole disks of any format: convert, compare, diff, digest, commit and rebase.
//!
//! A **job** is a function over [`Disk`]s. It takes options, reports how far it has come to a [`JobProgress`], and
//! returns a value; it prints nothing, opens nothing and knows no format. So a new driver gets all jobs for free, and a
//! virtual machine monitor runs them without a command line.
//!
//! | job | does | returns |
//! |---|---|---|
//! | [`convert`] | copies disks, one behind the other, into a disk | [`Converted`] |
//! | [`compare`] | finds the first difference of two disks | [`Comparison`] |
//! | [`diff`] | lists all ranges in which two disks differ | [`Differences`], a stream |
//! | [`digest`] | hashes a disk's content | [`Digest`] |
//! | [`fingerprint`] | verifies a copy: it equals the one that [`convert`] took | [`Fingerprint`] |
//! | [`commit`] | writes what a child holds into its parent | [`Moved`](block_core::chain::Moved) |
//! | [`rebase`] | gives a child another parent, or none | [`Moved`](block_core::chain::Moved) |
//!
//! Holes are never read. Memory is bounded, however large the disks are. A [`JobError`] tells which disk failed, in
//! which step and at which byte. The caller stops a job by dropping its future.
//!
//! Convert, compare, digest and fingerprint run threads of their own, which block in reads of cached data. They have to be
//! called inside a tokio runtime, of any flavour; a job with a rate needs the runtime's timer.
//!
//! ```
//! use std::sync::Arc;
//!
//! use block_core::{Access, CreateRequest, Disk, MemStorage, OpenContext, Options, Registry, WriteFlags};
//! use block_jobs::{Comparison, CompareOptions, ConvertOptions, Source, compare, convert};
//!
//! /// Creates an image of 4 MiB in memory.
//! async fn image(registry: &Arc<Registry>, format: &str) -> block_core::Result<Disk> {
//!     let driver = registry.driver(format)?;
//!     let cx = OpenContext::new(Arc::clone(registry));
//!     let storage = MemStorage::new();
//!     driver.create(storage.clone(), &CreateRequest::new(4 << 20), &cx).await?;
//!     Ok(Disk::new(driver.open(storage, &Options::new(), Access::ReadWrite, &cx).await?))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut registry = Registry::new();
//! block_raw::register(&mut registry);
//! block_vdi::register(&mut registry);
//! let registry = Arc::new(registry);
//! let (raw, vdi) = (image(&registry, "raw").await?, image(&registry, "vdi").await?);
//! raw.write_at(3 << 20, b"payload", WriteFlags::empty()).await?;
//!
//! let options = ConvertOptions::new().target_is_zero(true);
//! let converted = convert(&Source::from(raw.clone()), &vdi, &options, Arc::new(())).await?;
//! assert_eq!(converted.lost.bytes(), 0);
//! vdi.flush().await?;
//!
//! let found = compare(&raw, &vdi, &CompareOptions::new(), Arc::new(())).await?;
//! assert_eq!(found, Comparison::Identical);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod buffers;
mod commit;
mod compare;
mod convert;
mod copy_job;
mod copy_plan;
mod diff;
mod difference;
mod digest;
mod early_flush;
mod error;
mod extents;
mod fingerprint;
mod job;
mod lost;
mod merkle;
mod offload;
mod order;
mod pairs;
mod progress;
mod rate;
mod read;
mod rebase;
mod source;
mod throttle;
mod zeros;

use block_core::{Disk, StorageCaps};

pub use commit::{CommitOptions, commit, settle};
pub use compare::{CompareOptions, Comparison, compare};
pub use convert::{ConvertOptions, Converted, convert};
pub use diff::{DiffOptions, Differences, diff};
pub use digest::{Digest, DigestOptions, digest};
pub use early_flush::EarlyFlush;
pub use error::{JobError, Result, Side, Step};
pub use extents::ExtentStream;
pub use fingerprint::{Fingerprint, fingerprint};
pub use lost::{Lost, LostRange};
pub use progress::JobProgress;
pub use rebase::{RebaseOptions, rebase};
pub use source::{Part, Source, Walk};

/// Maximum number of bytes read or written at a time. Pieces begin and end on multiples of it where they can.
pub const PIECE: u64 = 1 << 20;

/// Number of threads that compare or hash by default.
const THREADS: usize = 4;

/// Whether reads and writes of a disk bypass the page cache.
pub fn is_direct(disk: &Disk) -> bool {
    disk.device().storage().caps().contains(StorageCaps::DIRECT)
}

/// Number of pieces under way by default. With two, one is read while another is written; a disk that bypasses the page
/// cache is busy only with more.
fn pieces_at_a_time(direct: bool) -> usize {
    if direct { 8 } else { 2 }
}
