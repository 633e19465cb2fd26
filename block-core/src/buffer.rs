//! Request buffers, aligned so that copying to and from the page cache is fastest.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::{Buf, Bytes, BytesMut};

/// A page-aligned buffer.
///
/// Large allocations usually begin 16 bytes past a page boundary, because the allocator keeps its header there.
/// That is the worst alignment for a buffer. On AMD Zen 4, copying between it and the kernel's pages was measured
/// at half to three quarters of full speed. Direct I/O needs page alignment, too.
///
/// ```
/// let mut buffer = block_core::PageBuffer::new(1 << 20);
/// assert!(buffer.as_ptr().addr().is_multiple_of(4096));
/// buffer[5] = 7;
/// assert_eq!(buffer.len(), 1 << 20);
/// ```
#[derive(Default)]
pub struct PageBuffer(BytesMut);

impl PageBuffer {
    /// Alignment of every buffer, in bytes.
    pub const ALIGNMENT: usize = 4096;

    /// Allocates a buffer of `len` zero bytes. Its pages take no memory before they are touched.
    pub fn new(len: usize) -> Self {
        let mut memory = BytesMut::zeroed(len.saturating_add(Self::ALIGNMENT));
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        memory.advance(start);
        memory.truncate(len);
        Self(memory)
    }
}

/// Converts the buffer without copying.
impl From<PageBuffer> for Bytes {
    fn from(buffer: PageBuffer) -> Self {
        buffer.0.freeze()
    }
}

impl AsRef<[u8]> for PageBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, PageBuffer};

    #[test]
    fn a_buffer_begins_on_a_page_and_has_its_length() {
        for len in [0, 1, 511, 4096, 4097, (1 << 20) + 5] {
            let mut buffer = PageBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.as_ptr().addr().is_multiple_of(PageBuffer::ALIGNMENT));
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(7);
        }
        assert!(PageBuffer::default().is_empty());
    }

    #[test]
    fn what_is_given_away_lies_where_it_lay() {
        for len in [1, 4096, 4097] {
            let mut buffer = PageBuffer::new(len);
            buffer.fill(7);
            let place = buffer.as_ptr();
            let bytes = Bytes::from(buffer);
            assert_eq!((bytes.as_ptr(), &bytes[..]), (place, &vec![7; len][..]));
            assert!(bytes.is_unique());
        }
    }
}
