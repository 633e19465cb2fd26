//! Runs calls that may wait for a disk.

/// Runs `call` without stopping the other tasks of a multi-thread runtime.
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

/// Runs `call` directly: there is no multi-thread runtime whose other tasks could continue.
#[cfg(not(feature = "multi-thread"))]
pub(crate) fn blocking<T>(call: impl FnOnce() -> T) -> T {
    call()
}
