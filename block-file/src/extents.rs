//! The data extents and holes of a file.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use block_core::StorageExtent;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Appends the extents of `range`, which lies inside the file. Reports one data extent where the file system does not
/// tell.
pub(crate) fn list(
    fd: BorrowedFd<'_>,
    range: Range<u64>,
    out: &mut Vec<StorageExtent>,
) -> Result<(), Errno> {
    let mut push = |start: u64, end: u64, data: bool| {
        if start < end {
            out.push(StorageExtent { start, len: end - start, data });
        }
    };
    let mut at = range.start;
    while at < range.end {
        let data = match seek(fd, SeekFrom::Data(at)) {
            // Never below `at`: otherwise a file that shrinks meanwhile would loop forever.
            Ok(data) => data.max(at).min(range.end),
            Err(Errno::NXIO) => range.end,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                push(at, range.end, true);
                return Ok(());
            }
            Err(errno) => return Err(errno),
        };
        push(at, data, false);
        if data == range.end {
            return Ok(());
        }
        let hole = match seek(fd, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole.min(range.end),
            // The data disappeared between the two calls.
            Ok(_) | Err(Errno::NXIO) => range.end,
            Err(errno) => return Err(errno),
        };
        push(data, hole, true);
        at = hole;
    }
    Ok(())
}
