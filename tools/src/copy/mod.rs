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
