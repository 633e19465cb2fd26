//! The system calls that no safe crate offers; the only unsafe code of the workspace.

mod clone;
mod ofd;

pub(crate) use clone::clone_range;
pub(crate) use ofd::{conflicts, share, unlock};
