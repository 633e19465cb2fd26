//! Positioned reads and writes that complete: they continue short calls and repeat interrupted ones.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, ReadWriteFlags};

/// Fills `buf` from `offset` up to the end of the file. Returns the bytes read.
pub(crate) fn read_up_to(fd: BorrowedFd<'_>, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(fd, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes all of `buf` at `offset`.
pub(crate) fn write_all(fd: BorrowedFd<'_>, offset: u64, buf: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(fd, rest, offset.saturating_add(done as u64)) {
            // The kernel has no reason to return 0. Fail rather than loop forever.
            Ok(0) => return Err(Errno::IO),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The result of a read that must not block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWait {
    /// Read this many bytes; the rest needs the disk.
    Some(usize),
    /// Read this many bytes, and then the file ends.
    End(usize),
    /// The file system does not support such reads.
    Unknown,
}

/// Fills `buf` with cached bytes, without waiting for the disk.
pub(crate) fn read_cached(
    fd: BorrowedFd<'_>,
    offset: u64,
    buf: &mut [u8],
) -> Result<NoWait, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        let slices = &mut [IoSliceMut::new(rest)];
        match rustix::io::preadv2(fd, slices, at, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Ok(NoWait::End(done)),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if done == 0 => {
                return Ok(NoWait::Unknown);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(NoWait::Some(done))
}

/// Repeats the call while it is interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
