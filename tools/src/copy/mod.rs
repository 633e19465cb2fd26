//! Reading and copying whole disks: by extents, in pieces, by several threads, in bounded memory.

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

pub(crate) use commit::{CommitOptions, commit, settle};
pub(crate) use compare::{CompareOptions, Comparison, compare};
pub(crate) use convert::{ConvertOptions, convert};
pub(crate) use diff::{DiffOptions, diff};
pub(crate) use digest::{DigestOptions, digest};
pub(crate) use early_flush::EarlyFlush;
pub(crate) use error::{JobError, Side, Step};
pub(crate) use extents::ExtentStream;
pub(crate) use fingerprint::{Fingerprint, fingerprint};
pub(crate) use lost::{Lost, LostRange};
pub(crate) use progress::JobProgress;
pub(crate) use rebase::{RebaseOptions, rebase};
pub(crate) use source::Source;

/// Bytes read or written at a time; pieces begin and end on multiples of it where they can.
pub(crate) const PIECE: u64 = 1 << 20;

/// Number of threads that compare or hash, when nobody says.
const THREADS: usize = 4;

/// Whether a disk is read and written past the page cache.
pub(crate) fn is_direct(disk: &Disk) -> bool {
    disk.device().storage().caps().contains(StorageCaps::DIRECT)
}

/// How many pieces are under way, when nobody says. One piece is read while another is written; the disk itself
/// wants more.
fn pieces_at_a_time(direct: bool) -> usize {
    if direct { 8 } else { 2 }
}
