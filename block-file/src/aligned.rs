//! A pool of buffers that are aligned for direct I/O.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_core::PageBuffer;

/// Alignment of every buffer in bytes. No known device needs more.
pub(crate) const ALIGNMENT: usize = PageBuffer::ALIGNMENT;

/// Bytes in the largest buffer.
pub(crate) const CAPACITY: usize = 1 << 20;

/// Bytes in the smallest buffer.
#[cfg(feature = "io_uring")]
pub(crate) const SMALLEST: usize = CAPACITY >> (2 * (SIZES - 1));

/// Number of buffer sizes. Each is four times the one before; the last is [`CAPACITY`].
const SIZES: usize = 5;

/// Bytes of idle buffers of one size to keep, at most.
const IDLE: usize = 2 << 20;

/// A pool of buffers of a few sizes, which reuses returned ones.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: [Mutex<Vec<PageBuffer>>; SIZES],
}

/// A buffer that returns to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: PageBuffer,
    pool: Arc<BufferPool>,
}

/// Returns the index of the smallest size that holds `len` bytes (at most [`CAPACITY`]), and that size in bytes.
fn size_for(len: usize) -> (usize, usize) {
    let mut size = (0, CAPACITY >> (2 * (SIZES - 1)));
    while size.1 < len.min(CAPACITY) {
        size = (size.0 + 1, size.1 << 2);
    }
    size
}

impl BufferPool {
    /// Returns a buffer of at least `len` bytes (or of [`CAPACITY`] if that is less). Its content is left from earlier
    /// use.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> AlignedBuffer {
        let (size, capacity) = size_for(len);
        let idle = self.idle.get(size).and_then(|idle| lock(idle).pop());
        let memory = idle.unwrap_or_else(|| PageBuffer::new(capacity));
        AlignedBuffer { memory, pool: Arc::clone(self) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let (size, capacity) = size_for(self.memory.len());
        let Some(idle) = self.pool.idle.get(size) else { return };
        let mut idle = lock(idle);
        if idle.len() < IDLE / capacity {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Returns whether `buf` starts on a multiple of `boundary` bytes in memory.
pub(crate) fn is_aligned(buf: &[u8], boundary: usize) -> bool {
    buf.as_ptr().addr().is_multiple_of(boundary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_on_the_boundary_holds_enough_and_is_used_again() {
        let pool = Arc::new(BufferPool::default());
        for len in [0, 1, 4096, 4097, 65536, 65537, CAPACITY, CAPACITY + 1] {
            let mut buffer = pool.take(len);
            assert!(is_aligned(&buffer, ALIGNMENT));
            assert!(buffer.len() >= len.min(CAPACITY) && buffer.len() <= CAPACITY);
            let last = buffer.len() - 1;
            buffer[last] = 7;
            drop(buffer);
            assert_eq!(pool.take(len)[last], 7);
        }
    }
}
