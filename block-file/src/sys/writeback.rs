//! Starting to write a file's dirty pages.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Starts to write all dirty pages of `file`, and waits for none of them. What fails is reported by the
/// next `fdatasync`, as of every write by the kernel itself.
pub(crate) fn start_writeback(file: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open for the length of the call by its borrow; no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
