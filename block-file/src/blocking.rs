//! Where a call that may wait for a disk runs.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `call` so that other tasks of a multi-thread runtime go on meanwhile.
pub(crate) fn blocking<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(call)
        }
        _ => call(),
    }
}
