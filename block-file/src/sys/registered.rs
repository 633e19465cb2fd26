//! Buffers registered with the kernel, which looks their pages up once instead of at each request.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use block_core::{Bytes, PageBuffer};
use io_uring::IoUring;

use crate::aligned::SMALLEST;

/// Number of registered buffers. They count against the limit on locked memory, which is 64 KiB on some systems.
pub(super) const KNOWN: usize = 64;

/// Registered buffers of [`SMALLEST`] bytes, in the order of their numbers in the ring. A read's buffer is handed out
/// without a copy, and is not used again until every reader has dropped its [`Bytes`].
#[derive(Default)]
pub(super) struct RegisteredBuffers(Vec<Known>);

struct Known {
    start: NonNull<u8>,
    /// The whole buffer. We never access it unless ours is the only reference.
    bytes: Bytes,
}

// SAFETY: the pointer is to the memory of `bytes`, which may go to other threads.
unsafe impl Send for Known {}

impl RegisteredBuffers {
    /// Registers new buffers with the ring. The caller must keep them until it has dropped the ring.
    pub(super) fn register(ring: &IoUring) -> io::Result<Self> {
        let known = |_| {
            let mut buffer = PageBuffer::new(SMALLEST);
            Some(Known { start: NonNull::new(buffer.as_mut_ptr())?, bytes: buffer.into() })
        };
        let all: Vec<_> = (0..KNOWN).filter_map(known).collect();
        let parts = all.iter().map(|known| libc::iovec {
            iov_base: known.start.as_ptr().cast(),
            iov_len: known.bytes.len(),
        });
        let parts: Vec<_> = parts.collect();
        // SAFETY: the caller keeps the buffers, and each has this many bytes.
        unsafe { ring.submitter().register_buffers(&parts) }?;
        Ok(Self(all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the start of a buffer, if no reader holds it any more.
    #[inline]
    pub(super) fn free(&self, number: usize) -> Option<NonNull<u8>> {
        let known = self.0.get(number)?;
        if !known.bytes.is_unique() {
            return None;
        }
        // Synchronizes with the last reader's drop, in whichever thread that happened.
        fence(Ordering::Acquire);
        Some(known.start)
    }

    /// Returns a buffer's content.
    #[inline]
    pub(super) fn bytes(&self, number: usize) -> Bytes {
        self.0.get(number).map(|known| known.bytes.clone()).unwrap_or_default()
    }
}
