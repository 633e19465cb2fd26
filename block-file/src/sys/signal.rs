//! The actions of signals.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Returns whether the process ignores signal `number`: `false` for a number that is not a signal.
pub(crate) fn is_ignored(number: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call changes nothing. It writes the present one to `action`, which has the
    // type and the room for it and outlives the call.
    let done = unsafe { libc::sigaction(number, ptr::null(), action.as_mut_ptr()) };
    if done != 0 {
        return false;
    }
    // SAFETY: the call has succeeded, so it has written the whole structure.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Ignores signal `number` from now on.
pub(crate) fn ignore(number: i32) -> io::Result<()> {
    // SAFETY: `SIG_IGN` is an action that the call accepts, and no code of this process runs for it.
    let before = unsafe { libc::signal(number, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
