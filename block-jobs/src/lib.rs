//! Reading and copying whole disks: by extents, in pieces, by several threads, in bounded memory.
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

/// Bytes read or written at a time; pieces begin and end on multiples of it where they can.
pub const PIECE: u64 = 1 << 20;

/// Number of threads that compare or hash, when nobody says.
const THREADS: usize = 4;

/// Whether a disk is read and written past the page cache.
pub fn is_direct(disk: &Disk) -> bool {
    disk.device().storage().caps().contains(StorageCaps::DIRECT)
}

/// How many pieces are under way, when nobody says. One piece is read while another is written; the disk itself
/// wants more.
fn pieces_at_a_time(direct: bool) -> usize {
    if direct { 8 } else { 2 }
}
