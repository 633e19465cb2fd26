//! Errors of the operating system as errors of this crate.

use std::io;

use block_core::{Error, ErrorKind};
use rustix::io::Errno;

/// Returns the operating system's message without the error number.
pub(crate) fn reason(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Returns the kind of error for a failed system call.
pub(crate) fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::Unsupported,
        Errno::PERM => ErrorKind::PermissionDenied,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        _ => Error::from(io::Error::from(errno)).kind(),
    }
}

/// Returns the error of a request that the operating system failed. `what` is a clause like "could not write 512
/// bytes".
pub(crate) fn failed(what: String, uri: &str, errno: Errno) -> Error {
    Error::new(kind(errno), what).in_image(uri).because(io::Error::from(errno))
}

/// Returns the error of a request that goes past the end: a read, or any request on a device.
pub(crate) fn past_end(uri: &str, offset: u64, len: u64, end: Option<u64>) -> Error {
    let end = end.map_or(String::new(), |end| format!(" at {end:#x}"));
    Error::new(ErrorKind::OutOfRange, format!("{len} bytes go past the end{end}"))
        .at(offset)
        .in_image(uri)
}

/// Returns the error of a range that goes past the greatest offset a file can have.
pub(crate) fn overflow(uri: &str, offset: u64, len: u64) -> Error {
    Error::new(
        ErrorKind::OutOfRange,
        format!("{len} bytes go past the greatest offset a file can have, {:#x}", i64::MAX),
    )
    .at(offset)
    .in_image(uri)
}
