//! Starting to write a file's dirty pages.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Starts writing all dirty pages of `file` without waiting for them. The next `fdatasync` reports any failure, as it
/// does for every write that the kernel starts by itself.
pub(crate) fn start_writeback(file: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open for the length of the call by its borrow; no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
