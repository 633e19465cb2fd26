//! Reading and copying whole disks: by extents, in pieces, by several threads, in bounded memory.

mod convert;
mod copy_job;
mod copy_plan;
mod difference;
mod early_flush;
mod extents;
mod fingerprint;
mod job;
mod merkle;
mod offload;
mod order;
mod pairs;
mod rate;
mod read;
mod source;
mod zeros;

pub(crate) use convert::{Conversion, convert};
pub(crate) use early_flush::EarlyFlush;
pub(crate) use extents::ExtentStream;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use job::{Buffers, Job, Plan, run};
pub(crate) use merkle::{LEAF, Merkle, leaf};
pub(crate) use pairs::{Pair, PairStream};
pub(crate) use read::read_data;
pub(crate) use source::Source;
pub(crate) use zeros::{first_difference, first_nonzero};

/// Bytes read or written at a time; pieces begin and end on multiples of it where they can.
pub(crate) const PIECE: u64 = 1 << 20;

/// Whether all of these go through the page cache.
pub(crate) fn are_cached(modes: &[block_core::CacheMode]) -> bool {
    use block_core::CacheMode::{Directsync, None};
    !modes.iter().any(|mode| matches!(mode, None | Directsync))
}

/// How many pieces are under way, when nobody says. One piece is read while another is written; what is read
/// past the page cache wants more.
pub(crate) fn pieces_at_a_time(cached: bool) -> usize {
    if cached { 2 } else { 8 }
}
