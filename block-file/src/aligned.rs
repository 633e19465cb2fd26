//! Buffers whose memory starts on a boundary that direct I/O accepts, kept for reuse.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_core::PageBuffer;

/// The boundary of every buffer, bytes. No device known asks for more.
pub(crate) const ALIGNMENT: usize = PageBuffer::ALIGNMENT;

/// Bytes in the largest buffer.
pub(crate) const CAPACITY: usize = 1 << 20;

/// Bytes in the smallest buffer.
#[cfg(feature = "io_uring")]
pub(crate) const SMALLEST: usize = CAPACITY >> (2 * (SIZES - 1));

/// Sizes of buffers: this many, each four times the one before, the last one is [`CAPACITY`].
const SIZES: usize = 5;

/// How many bytes of each size are kept idle at most.
const IDLE: usize = 2 << 20;

/// Buffers of a few sizes; those given back are used again.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "a buffer is boxed when it is not in here, and moves in and out")]
pub(crate) struct BufferPool {
    idle: [Mutex<Vec<Box<Memory>>>; SIZES],
    /// Buffers of the smallest size that a ring knows by number.
    #[cfg(feature = "io_uring")]
    known: Mutex<Vec<Box<Memory>>>,
}

/// A buffer that goes back to its pool when it is dropped. Small, for it is moved from hand to hand.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    /// There until the buffer is dropped.
    memory: Option<Box<Memory>>,
    pool: Arc<BufferPool>,
}

#[derive(Debug)]
struct Memory {
    bytes: PageBuffer,
    /// By which number the ring of its pool knows it.
    #[cfg(feature = "io_uring")]
    number: Option<u16>,
}

impl Memory {
    fn new(capacity: usize) -> Box<Self> {
        Box::new(Self {
            bytes: PageBuffer::new(capacity),
            #[cfg(feature = "io_uring")]
            number: None,
        })
    }
}

/// The number of the smallest size that holds `len` bytes, and that size.
fn size_for(len: usize) -> (usize, usize) {
    let mut size = (0, CAPACITY >> (2 * (SIZES - 1)));
    while size.1 < len.min(CAPACITY) {
        size = (size.0 + 1, size.1 << 2);
    }
    size
}

impl BufferPool {
    /// A buffer of at least `len` bytes (or of [`CAPACITY`], if that is less), with whatever it held.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> AlignedBuffer {
        let (size, capacity) = size_for(len);
        #[cfg(feature = "io_uring")]
        let known = if size == 0 { lock(&self.known).pop() } else { None };
        #[cfg(not(feature = "io_uring"))]
        let known = None;
        let memory = known
            .or_else(|| self.idle.get(size).and_then(|idle| lock(idle).pop()))
            .unwrap_or_else(|| Memory::new(capacity));
        AlignedBuffer { memory: Some(memory), pool: Arc::clone(self) }
    }

    /// Takes buffers of the smallest size that a ring knows by their places in this list. Whoever needs
    /// that size gets them first.
    #[cfg(feature = "io_uring")]
    pub(crate) fn add_known(&self, buffers: Vec<PageBuffer>) {
        let known = (0..).zip(buffers);
        lock(&self.known)
            .extend(known.map(|(number, bytes)| Box::new(Memory { bytes, number: Some(number) })));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AlignedBuffer {
    /// A buffer of the same size from the same pool.
    #[cfg(feature = "io_uring")]
    pub(crate) fn another(&self) -> Self {
        self.pool.take(self.len())
    }

    /// By which number the ring of its pool knows it.
    #[cfg(feature = "io_uring")]
    pub(crate) fn number(&self) -> Option<u16> {
        self.memory.as_ref()?.number
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.bytes)
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory.bytes)
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        #[cfg(feature = "io_uring")]
        if memory.number.is_some() {
            lock(&self.pool.known).push(memory);
            return;
        }
        let (size, capacity) = size_for(memory.bytes.len());
        let Some(idle) = self.pool.idle.get(size) else { return };
        let mut idle = lock(idle);
        if idle.len() < IDLE / capacity {
            idle.push(memory);
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
