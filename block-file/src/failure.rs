//! Errors of the operating system in the words of this crate.

use std::io;

use block_core::{Error, ErrorKind};
use rustix::io::Errno;

/// What the operating system says, without the error number.
pub(crate) fn reason(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// The kind of a failed system call.
pub(crate) fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::Unsupported,
        Errno::PERM => ErrorKind::PermissionDenied,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        _ => Error::from(io::Error::from(errno)).kind(),
    }
}

/// A request that the operating system failed; `what` is a clause such as "could not write 512 bytes".
pub(crate) fn failed(what: String, uri: &str, errno: Errno) -> Error {
    Error::new(kind(errno), what).in_image(uri).because(io::Error::from(errno))
}

/// A read, or a request on a device, that goes past the end.
pub(crate) fn past_end(uri: &str, offset: u64, len: u64, end: Option<u64>) -> Error {
    let end = end.map_or(String::new(), |end| format!(" at {end:#x}"));
    Error::new(ErrorKind::OutOfRange, format!("{len} bytes go past the end{end}"))
        .at(offset)
        .in_image(uri)
}

/// A request that the caller's promise about ranges forbids.
pub(crate) fn overflow(uri: &str, offset: u64, len: u64) -> Error {
    Error::new(
        ErrorKind::OutOfRange,
        format!("{len} bytes go past the greatest offset a file can have, {:#x}", i64::MAX),
    )
    .at(offset)
    .in_image(uri)
}
