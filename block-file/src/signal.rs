//! Signals that concern a program that writes files.

use std::io;

use crate::sys;

/// Returns whether the process ignores signal `number`.
///
/// A signal that was ignored when the program started must stay ignored: `nohup` and shells rely on it for background
/// jobs. The program asks this before it installs a handler.
pub fn is_ignored(number: i32) -> bool {
    sys::is_ignored(number)
}

/// Ignores SIGXFSZ for the whole process. A write past the limit on file sizes (`ulimit -f`) then fails with `EFBIG`
/// instead of killing the process.
///
/// # Errors
/// An error of the operating system.
pub fn ignore_file_size_limit() -> io::Result<()> {
    sys::ignore(libc::SIGXFSZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_once_that_was_asked_for() {
        // Rust's runtime ignores SIGPIPE before `main`.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGXFSZ));
        ignore_file_size_limit().unwrap();
        assert!(is_ignored(libc::SIGXFSZ));
        assert!(!is_ignored(-1));
    }
}
