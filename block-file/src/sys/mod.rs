//! The system calls that no safe crate offers; the only unsafe code of the workspace.

mod clone;
mod ofd;
#[cfg(feature = "io_uring")]
mod registered;
#[cfg(feature = "io_uring")]
mod ring;
mod signal;
mod writeback;

pub(crate) use clone::clone_range;
pub(crate) use ofd::{conflicts, share, unlock};
#[cfg(feature = "io_uring")]
pub(crate) use ring::{Finished, Ring, Token, Transfer};
pub(crate) use signal::{ignore, is_ignored};
pub(crate) use writeback::start_writeback;
