//! Positioned reads and writes that are done wholly: short ones go on, interrupted ones start again.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, ReadWriteFlags};

/// Fills `buf` from `offset` as far as the file goes, and says how far that was.
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
            // The kernel has no reason for this; going on for ever would be worse than an error.
            Ok(0) => return Err(Errno::IO),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What a read that must not wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// So many bytes are there; the rest needs a disk.
    Some(usize),
    /// All bytes up to this one are there, and then the file ends.
    End(usize),
    /// This file system does not know such reads.
    Unknown,
}

/// Fills `buf` with what is cached. It never waits for a disk.
pub(crate) fn read_cached(
    fd: BorrowedFd<'_>,
    offset: u64,
    buf: &mut [u8],
) -> Result<AtOnce, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        let slices = &mut [IoSliceMut::new(rest)];
        match rustix::io::preadv2(fd, slices, at, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Ok(AtOnce::End(done)),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if done == 0 => {
                return Ok(AtOnce::Unknown);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(AtOnce::Some(done))
}

/// Calls until the call is not interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
