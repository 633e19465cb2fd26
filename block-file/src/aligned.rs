//! Buffers whose memory starts on a boundary that direct I/O accepts, kept for reuse.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The boundary of every buffer, bytes. No device known asks for more.
pub(crate) const ALIGNMENT: usize = 4096;

/// Bytes in every buffer.
pub(crate) const CAPACITY: usize = 1 << 20;

/// How many idle buffers are kept.
const IDLE: usize = 8;

/// Buffers of [`CAPACITY`] bytes; those given back are used again.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    pool: Arc<BufferPool>,
}

impl BufferPool {
    /// A buffer, with whatever it held before.
    pub(crate) fn take(self: &Arc<Self>) -> AlignedBuffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = idle.unwrap_or_else(|| vec![0; CAPACITY + ALIGNMENT]);
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        AlignedBuffer { memory, start, pool: Arc::clone(self) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.memory.get(self.start..self.start + CAPACITY).unwrap_or_default()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + CAPACITY).unwrap_or_default()
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Whether memory starts on a boundary of so many bytes.
pub(crate) fn is_aligned(buf: &[u8], boundary: usize) -> bool {
    buf.as_ptr().addr().is_multiple_of(boundary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_on_the_boundary_and_is_used_again() {
        let pool = Arc::new(BufferPool::default());
        let mut first = pool.take();
        assert!(is_aligned(&first, ALIGNMENT));
        assert_eq!(first.len(), CAPACITY);
        first[CAPACITY - 1] = 7;
        drop(first);
        assert_eq!(pool.take()[CAPACITY - 1], 7);
    }
}
