//! Signals that a program which writes files has to know of.

use std::io;

use crate::sys;

/// Returns whether the process ignores signal `number`.
///
/// A signal that was ignored when the program started has to stay ignored: `nohup` and shells that start a job in
/// the background mean it so. The program asks this before it installs a handler.
pub fn is_ignored(number: i32) -> bool {
    sys::is_ignored(number)
}

/// Ignores SIGXFSZ for the whole process, so that a write past the limit on file sizes (`ulimit -f`) fails with
/// `EFBIG` and does not kill the process.
///
/// # Errors
/// What the operating system says.
pub fn ignore_file_size_limit() -> io::Result<()> {
    sys::ignore(libc::SIGXFSZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_once_that_was_asked_for() {
        // The runtime of Rust ignores SIGPIPE before `main`.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGXFSZ));
        ignore_file_size_limit().unwrap();
        assert!(is_ignored(libc::SIGXFSZ));
        assert!(!is_ignored(-1));
    }
}
