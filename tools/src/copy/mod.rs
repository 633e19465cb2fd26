//! Reading and copying whole disks: by extents, in pieces, by several threads, in bounded memory.

mod buffers;
mod convert;
mod copy_job;
mod copy_plan;
mod difference;
mod early_flush;
mod extents;
mod fingerprint;
mod job;
mod lost;
mod merkle;
mod offload;
mod order;
mod pairs;
mod rate;
mod read;
mod source;
mod zeros;

use block_core::{Disk, StorageCaps};

pub(crate) use buffers::{Buffer, Buffers, Memory};
pub(crate) use convert::{Conversion, convert};
pub(crate) use early_flush::EarlyFlush;
pub(crate) use extents::ExtentStream;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use job::{Job, Plan, run};
pub(crate) use merkle::{LEAF, Merkle, leaf};
pub(crate) use pairs::{Pair, PairStream};
pub(crate) use read::read_data;
pub(crate) use source::Source;
pub(crate) use zeros::{first_difference, first_nonzero};

/// Bytes read or written at a time; pieces begin and end on multiples of it where they can.
pub(crate) const PIECE: u64 = 1 << 20;

/// Whether a disk is read and written past the page cache.
pub(crate) fn is_direct(disk: &Disk) -> bool {
    disk.device().storage().caps().contains(StorageCaps::DIRECT)
}

/// How many pieces are under way, when nobody says. One piece is read while another is written; the disk itself
/// wants more.
pub(crate) fn pieces_at_a_time(direct: bool) -> usize {
    if direct { 8 } else { 2 }
}
