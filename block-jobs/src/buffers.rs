//! The memory of a thread that works on pieces.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use block_core::{Bytes, Disk, PageBuffer};

use super::{PIECE, is_direct};

/// Bytes that a thread's buffer lends, or that somebody has given away.
pub(crate) enum Memory<'a> {
    Lent(&'a [u8]),
    Given(Bytes),
}

impl Memory<'_> {
    /// A part, if it is there.
    pub fn part(&self, range: Range<usize>) -> Option<Memory<'_>> {
        let part = self.get(range.clone())?;
        Some(match self {
            Self::Lent(_) => Memory::Lent(part),
            Self::Given(all) => Memory::Given(all.slice(range)),
        })
    }
}

impl Deref for Memory<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

/// A buffer, made when it is first used.
#[derive(Debug, Default)]
pub(crate) struct Buffer(PageBuffer);

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    first: Buffer,
    second: Buffer,
    /// Where the first one comes back to when it was given away.
    back: Arc<Mutex<PageBuffer>>,
}

/// A buffer that was given away, and goes back when nobody needs it any more.
struct GivenAway {
    buffer: PageBuffer,
    back: Arc<Mutex<PageBuffer>>,
}

impl AsRef<[u8]> for GivenAway {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for GivenAway {
    fn drop(&mut self) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        *back = std::mem::take(&mut self.buffer);
    }
}

impl Buffers {
    /// The one buffer of those who need no other.
    pub fn one(&mut self) -> &mut Buffer {
        if self.first.0.is_empty() {
            let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
            self.first = Buffer(std::mem::take(&mut *back));
        }
        &mut self.first
    }

    /// Gives away the buffer that [`Buffers::one`] lends, with its content, to whoever writes it from there. It
    /// is lent again once that is done.
    pub fn give_away(&mut self) -> Bytes {
        let Buffer(buffer) = std::mem::take(&mut self.first);
        Bytes::from_owner(GivenAway { buffer, back: Arc::clone(&self.back) })
    }

    /// Takes the buffer that [`Buffers::one`] lends, with its content, and leaves another in its place.
    pub fn exchange(&mut self, other: PageBuffer) -> PageBuffer {
        std::mem::replace(&mut self.first.0, other)
    }

    /// Two buffers.
    pub fn two(&mut self) -> (&mut Buffer, &mut Buffer) {
        (&mut self.first, &mut self.second)
    }
}

impl Buffer {
    /// `len` bytes (at most [`PIECE`]) with whatever content.
    pub fn sized(&mut self, len: u64) -> &mut [u8] {
        let len = len.min(PIECE) as usize;
        if self.0.len() < len {
            self.0 = PageBuffer::new(PIECE as usize);
        }
        self.0.get_mut(..len).unwrap_or_default()
    }

    /// Reads `len` bytes (at most [`PIECE`]) of `disk`. The buffer is used where they have to be copied.
    pub async fn read(&mut self, disk: &Disk, at: u64, len: u64) -> block_core::Result<Memory<'_>> {
        if is_direct(disk) {
            return disk.read_bytes(at, len as usize).await.map(Memory::Given);
        }
        let bytes = self.sized(len);
        disk.read_at(at, bytes).await?;
        Ok(Memory::Lent(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_away_comes_back_when_nobody_has_it() {
        let mut buffers = Buffers::default();
        buffers.one().sized(PIECE).fill(1);
        let given = buffers.give_away();
        let (part, place) = (given.slice(10..20), given.as_ptr());
        drop(given);
        buffers.one().sized(PIECE).fill(2);
        assert_eq!(part, [1; 10][..], "it is not lent while it is kept");
        drop(buffers.give_away());
        let second = buffers.one().sized(PIECE).as_ptr();
        assert_ne!(second, place);
        drop(buffers.give_away());
        drop(part);
        assert_eq!(buffers.one().sized(PIECE).as_ptr(), place, "and lent again when it is free");
    }
}
