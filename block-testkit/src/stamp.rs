//! Stamps: test data in which each sector records the write and the sector number it belongs to.

use std::fmt;

use block_core::{Bytes, PageBuffer, SECTOR_SIZE};

/// Bytes per sector, as a `usize`.
pub const SECTOR: usize = SECTOR_SIZE as usize;

/// The number of the write that a sector comes from. [`ZERO`] stands for no write.
pub type Id = u32;

/// The content of a sector that reads as zeros.
pub const ZERO: Id = 0;

/// Any content, in a set of allowed contents.
pub const ANY: Id = u32::MAX;

/// The content found in a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The data of write `id` for this sector, or zeros for [`ZERO`].
    Written(Id),
    /// The data of write `id` for *another* sector: misplaced data.
    Elsewhere {
        /// The number of the write.
        id: Id,
        /// The sector it was written to.
        sector: u64,
    },
    /// Parts of several contents, or bytes that no test wrote.
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

/// Returns the first word of a sector.
fn base(id: Id, sector: u64) -> u64 {
    u64::from(id) << 32 | (sector & 0xFFFF_FFFF)
}

/// The XOR difference of each word of a sector to the first one.
const WORDS: [u64; SECTOR / 8] = {
    let mut words = [0; SECTOR / 8];
    let mut index = 0;
    while index < words.len() {
        words[index] = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        index += 1;
    }
    words
};

/// Fills `buf` (whole sectors) with the data of write `id` from `sector` on.
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

/// Returns `count` sectors of write `id` from `sector` on.
pub fn stamped(id: Id, sector: u64, count: u64) -> Vec<u8> {
    let mut buf = vec![0; count as usize * SECTOR];
    fill(&mut buf, id, sector);
    buf
}

/// Copies `bytes` to page-aligned shared memory, usable for direct I/O without another copy.
pub fn in_pages(bytes: &[u8]) -> Bytes {
    let mut pages = PageBuffer::new(bytes.len());
    pages.copy_from_slice(bytes);
    Bytes::from(pages)
}

/// Identifies the bytes of one sector, read from `sector`.
pub fn identify(bytes: &[u8], sector: u64) -> Content {
    const ZEROS: [u8; SECTOR] = [0; SECTOR];
    let first = bytes.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    if first == 0 {
        return if bytes == ZEROS { Content::Written(ZERO) } else { Content::Mixed };
    }
    let id = (first >> 32) as Id;
    let at = first & 0xFFFF_FFFF;
    // No early exit, so that the compiler can vectorise the comparison.
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
