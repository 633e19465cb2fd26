//! Buffers that the kernel knows by number: it looks their pages up once, and not for each request.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use block_core::{Bytes, PageBuffer};
use io_uring::IoUring;

use crate::aligned::SMALLEST;

/// How many there are. They count against the limit on locked memory, which is 64 KiB on some systems.
pub(super) const KNOWN: usize = 64;

/// Buffers of [`SMALLEST`] bytes that a ring knows by their place in here. What is read into one is given away
/// as it lies; until everybody has let go of it, that buffer is not used again.
#[derive(Default)]
pub(super) struct KnownBuffers(Vec<Known>);

struct Known {
    start: NonNull<u8>,
    /// All of the buffer. We never look at it, unless we are the only ones who can.
    bytes: Bytes,
}

// SAFETY: the pointer is to the memory of `bytes`, which may go to other threads.
unsafe impl Send for Known {}

impl KnownBuffers {
    /// Makes new buffers known to the ring. They are to be kept until it has been dropped.
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

    /// Where a buffer begins, if nobody else has it any more.
    #[inline]
    pub(super) fn free(&self, number: usize) -> Option<NonNull<u8>> {
        let known = self.0.get(number)?;
        if !known.bytes.is_unique() {
            return None;
        }
        // Whoever had it has done with it, in whatever thread.
        fence(Ordering::Acquire);
        Some(known.start)
    }

    /// A buffer's content.
    #[inline]
    pub(super) fn bytes(&self, number: usize) -> Bytes {
        self.0.get(number).map(|known| known.bytes.clone()).unwrap_or_default()
    }
}
