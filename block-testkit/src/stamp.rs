//! What tests write: sectors that say who wrote them and where they belong.

use std::fmt;

use block_core::{Bytes, PageBuffer, SECTOR_SIZE};

/// Bytes in a sector, for slices.
pub const SECTOR: usize = SECTOR_SIZE as usize;

/// Which write a sector comes from. [`ZERO`] is no write at all.
pub type Id = u32;

/// The content of a sector that reads as zeros.
pub const ZERO: Id = 0;

/// In a set of allowed contents: anything at all.
pub const ANY: Id = u32::MAX;

/// What a sector turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// What write `id` put into a sector of this number; [`ZERO`] for zeros.
    Written(Id),
    /// What write `id` put into *another* sector: data that moved to where it does not belong.
    Elsewhere {
        /// The write.
        id: Id,
        /// The sector it was written to.
        sector: u64,
    },
    /// Parts of several contents, or bytes nobody wrote.
    Mixed,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(ZERO) => f.write_str("zeros"),
            Self::Written(id) => write!(f, "the data of write #{id}"),
            Self::Elsewhere { id, sector } => {
                write!(f, "the data of write #{id} for sector {sector}")
            }
            Self::Mixed => f.write_str("a mix of contents, or bytes nobody wrote"),
        }
    }
}

/// The first word of a sector.
fn base(id: Id, sector: u64) -> u64 {
    u64::from(id) << 32 | (sector & 0xFFFF_FFFF)
}

/// What the words of a sector differ in from the first one.
const WORDS: [u64; SECTOR / 8] = {
    let mut words = [0; SECTOR / 8];
    let mut index = 0;
    while index < words.len() {
        words[index] = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        index += 1;
    }
    words
};

/// Fills `buf` (whole sectors) with what write `id` puts from `sector` on.
pub fn fill(buf: &mut [u8], id: Id, sector: u64) {
    if id == ZERO {
        buf.fill(0);
        return;
    }
    for (at, chunk) in (sector..).zip(buf.chunks_exact_mut(SECTOR)) {
        for (bytes, word) in chunk.chunks_exact_mut(8).zip(WORDS) {
            bytes.copy_from_slice(&(base(id, at) ^ word).to_le_bytes());
        }
    }
}

/// `count` sectors of write `id` from `sector` on.
pub fn stamped(id: Id, sector: u64, count: u64) -> Vec<u8> {
    let mut buf = vec![0; count as usize * SECTOR];
    fill(&mut buf, id, sector);
    buf
}

/// The same bytes in memory that can be given away, and that requests past a page cache take as it is.
pub fn in_pages(bytes: &[u8]) -> Bytes {
    let mut pages = PageBuffer::new(bytes.len());
    pages.copy_from_slice(bytes);
    Bytes::from(pages)
}

/// Tells what one sector's bytes, read from `sector`, are.
pub fn identify(bytes: &[u8], sector: u64) -> Content {
    const ZEROS: [u8; SECTOR] = [0; SECTOR];
    let first = bytes.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    if first == 0 {
        return if bytes == ZEROS { Content::Written(ZERO) } else { Content::Mixed };
    }
    let id = (first >> 32) as Id;
    let at = first & 0xFFFF_FFFF;
    // No early way out, so that the compiler may compare many words at once.
    let (words, _) = bytes.as_chunks::<8>();
    let mut difference = u64::from(words.len() != WORDS.len());
    for (bytes, word) in words.iter().zip(WORDS) {
        difference |= u64::from_le_bytes(*bytes) ^ first ^ word;
    }
    match difference == 0 {
        false => Content::Mixed,
        true if at == sector & 0xFFFF_FFFF => Content::Written(id),
        true => Content::Elsewhere { id, sector: at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_writer_and_that_it_is_whole_and_at_home() {
        let mut buf = stamped(7, 100, 2);
        assert_eq!(identify(&buf[..SECTOR], 100), Content::Written(7));
        assert_eq!(identify(&buf[SECTOR..], 100), Content::Elsewhere { id: 7, sector: 101 });
        buf[400] ^= 1;
        assert_eq!(identify(&buf[..SECTOR], 100), Content::Mixed);
        assert_eq!(identify(&[0; SECTOR], 3), Content::Written(ZERO));
    }
}
