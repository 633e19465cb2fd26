//! Reading and copying whole disks: by extents, in pieces, by several tasks, in bounded memory.

mod convert;
mod difference;
mod extents;
mod fingerprint;
mod job;
mod merkle;
mod offload;
mod pairs;
mod rate;
mod read;
mod source;
mod zeros;

pub(crate) use convert::{Conversion, convert};
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

/// Bytes in a piece of a copy through the page cache: two of them stay in a core's own cache, so that what
/// was just read is written from there.
pub(crate) const CACHED_PIECE: u64 = 256 << 10;

/// How a copy is cut and how many pieces are under way, when nobody says: `(tasks, bytes)`. One piece is
/// read while another is written; a device that is read past the page cache wants more and larger ones.
pub(crate) fn cut(modes: &[block_core::CacheMode]) -> (usize, u64) {
    use block_core::CacheMode::{Directsync, None};
    match modes.iter().any(|mode| matches!(mode, None | Directsync)) {
        true => (8, PIECE),
        false => (2, CACHED_PIECE),
    }
}
