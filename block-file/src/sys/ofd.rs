//! Open-file-description locks on single bytes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes one `fcntl` call for one byte. For `F_OFD_GETLK` the kernel's answer is in the returned structure.
fn call(
    fd: BorrowedFd<'_>,
    command: libc::c_int,
    kind: libc::c_int,
    byte: u64,
) -> io::Result<libc::flock> {
    // SAFETY: `flock` is a plain structure of integers, for which all zero bytes are a value.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    request.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    request.l_start = libc::off_t::try_from(byte).map_err(io::Error::other)?;
    request.l_len = 1;
    // The kernel wants `l_pid` to be zero for these commands; the zeroing above made it so.
    loop {
        // SAFETY: `fd` is open for the length of the call by its borrow, `command` is one of the two
        // OFD commands, which take a pointer to a `flock`, and `request` is one that outlives the call.
        let done = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut request) };
        if done != -1 {
            return Ok(request);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Takes a shared lock on one byte without blocking, or returns why that failed.
pub(crate) fn share(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    call(fd, libc::F_OFD_SETLK, libc::F_RDLCK, byte).map(drop)
}

/// Unlocks one byte.
pub(crate) fn unlock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    call(fd, libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(drop)
}

/// Returns whether another open file description holds any lock on the byte.
pub(crate) fn conflicts(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let answer = call(fd, libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
    Ok(i32::from(answer.l_type) != libc::F_UNLCK)
}
