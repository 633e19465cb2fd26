//! Sharing a range of blocks between two files.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes `len` bytes at `to_offset` of `to` share the blocks of `from`. All three numbers are in bytes and must be
/// multiples of the file system's block.
pub(crate) fn clone_range(
    from: BorrowedFd<'_>,
    from_offset: u64,
    len: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
) -> io::Result<()> {
    let range = libc::file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: from_offset,
        src_length: len,
        dest_offset: to_offset,
    };
    // SAFETY: both descriptors are open for the length of the call by their borrows, and the request
    // takes a pointer to a `file_clone_range`, which it only reads.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE, &raw const range) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
