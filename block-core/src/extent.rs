//! What lies where on a disk: runs of bytes with one answer each.

use bitflags::bitflags;
use serde::Serialize;

bitflags! {
    /// What is known of an extent without reading it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ExtentFlags: u8 {
        /// Some image of the chain has an entry for it; without this bit it was never written.
        const PRESENT = 1;
        /// It reads as zeros.
        const ZERO = 1 << 1;
        /// Bytes are stored for it.
        const DATA = 1 << 2;
        /// It is stored compressed.
        const COMPRESSED = 1 << 3;
    }
}

/// A run of guest bytes with the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First guest byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// What is known of it.
    pub flags: ExtentFlags,
    /// Which image of the chain answers: 0 is the top.
    pub depth: u32,
    /// Where in that image's storage the bytes lie, when they lie at a fixed place.
    pub offset: Option<u64>,
}

impl Extent {
    /// The first guest byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Whether it is known to read as zeros.
    pub fn is_zero(&self) -> bool {
        self.flags.contains(ExtentFlags::ZERO)
    }

    /// Whether bytes have to be read to know what it holds.
    pub fn is_data(&self) -> bool {
        self.flags.contains(ExtentFlags::DATA) && !self.is_zero()
    }

    fn continues(&self, next: &Extent) -> bool {
        self.end() == next.start
            && self.flags == next.flags
            && self.depth == next.depth
            && match (self.offset, next.offset) {
                (None, None) => true,
                (Some(a), Some(b)) => a.checked_add(self.len) == Some(b),
                _ => false,
            }
    }
}

/// Extents in order, without gaps, neighbours with one answer merged as they come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentList {
    extents: Vec<Extent>,
}

impl ExtentList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an extent behind the last one, merging it where the answers are the same.
    /// An empty extent is dropped.
    pub fn push(&mut self, extent: Extent) {
        if extent.len == 0 {
            return;
        }
        match self.extents.last_mut() {
            Some(last) if last.continues(&extent) => last.len = last.len.saturating_add(extent.len),
            _ => self.extents.push(extent),
        }
    }

    /// The extents.
    pub fn as_slice(&self) -> &[Extent] {
        &self.extents
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// The first byte behind the last extent.
    pub fn end(&self) -> Option<u64> {
        self.extents.last().map(Extent::end)
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.extents.clear();
    }

    /// The extents, by value.
    pub fn into_vec(self) -> Vec<Extent> {
        self.extents
    }
}

impl<'a> IntoIterator for &'a ExtentList {
    type Item = &'a Extent;
    type IntoIter = std::slice::Iter<'a, Extent>;
    fn into_iter(self) -> Self::IntoIter {
        self.extents.iter()
    }
}

/// Whether a sector is stored in this image (not in its parents), and how far the answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// Whether this image has an entry (data or zeros) for the first sector asked about.
    pub allocated: bool,
    /// For how many sectors, from the first one on, the answer is the same. At least 1.
    pub sectors: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(start: u64, len: u64, offset: u64) -> Extent {
        Extent {
            start,
            len,
            flags: ExtentFlags::PRESENT | ExtentFlags::DATA,
            depth: 0,
            offset: Some(offset),
        }
    }

    #[test]
    fn neighbours_merge_only_when_their_places_follow_each_other() {
        let mut list = ExtentList::new();
        list.push(data(0, 10, 100));
        list.push(data(10, 10, 110));
        list.push(data(20, 10, 500));
        list.push(data(30, 0, 510));
        assert_eq!(list.as_slice(), &[data(0, 20, 100), data(20, 10, 500)]);
    }
}
