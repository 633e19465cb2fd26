//! Where a call that may wait for a disk runs.

/// Runs `call` so that other tasks of a multi-thread runtime go on meanwhile.
#[cfg(feature = "multi-thread")]
pub(crate) fn blocking<T>(call: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};

    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(call)
        }
        _ => call(),
    }
}

/// Runs `call`: there is no runtime whose other tasks could go on.
#[cfg(not(feature = "multi-thread"))]
pub(crate) fn blocking<T>(call: impl FnOnce() -> T) -> T {
    call()
}
