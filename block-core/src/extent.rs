//! The allocation of a disk: extents with one status each.

use bitflags::bitflags;
use serde::Serialize;

bitflags! {
    /// Status of an extent, known without reading it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ExtentFlags: u8 {
        /// An image of the chain has an entry for the extent. Without this bit, it was never written.
        const PRESENT = 1;
        /// The extent reads as zeros.
        const ZERO = 1 << 1;
        /// Bytes are stored for the extent.
        const DATA = 1 << 2;
        /// The extent is stored compressed.
        const COMPRESSED = 1 << 3;
    }
}

/// A run of guest bytes with the same status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First guest byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Status of the extent.
    pub flags: ExtentFlags,
    /// The image of the chain that provides the extent: 0 is the top.
    pub depth: u32,
    /// Offset in that image's storage in bytes, if the extent has a fixed location.
    pub offset: Option<u64>,
}

impl Extent {
    /// Returns the first guest byte past the extent.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Returns whether the extent is known to read as zeros.
    pub fn is_zero(&self) -> bool {
        self.flags.contains(ExtentFlags::ZERO)
    }

    /// Returns whether the content can only be known by reading it.
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

/// Extents in order and without gaps. Neighbours with the same status are merged as they are added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentList {
    extents: Vec<Extent>,
}

impl ExtentList {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an extent, merging it into the last one if their status is the same. Ignores an empty extent.
    pub fn push(&mut self, extent: Extent) {
        if extent.len == 0 {
            return;
        }
        match self.extents.last_mut() {
            Some(last) if last.continues(&extent) => last.len = last.len.saturating_add(extent.len),
            _ => self.extents.push(extent),
        }
    }

    /// Returns the extents as a slice.
    pub fn as_slice(&self) -> &[Extent] {
        &self.extents
    }

    /// Returns the number of extents.
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Returns the first byte past the last extent.
    pub fn end(&self) -> Option<u64> {
        self.extents.last().map(Extent::end)
    }

    /// Removes all extents.
    pub fn clear(&mut self) {
        self.extents.clear();
    }

    /// Converts the list into a vector.
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

/// Whether a sector is stored in this image (not in its parents), and for how many sectors that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// Whether this image has an entry (data or zeros) for the first requested sector.
    pub allocated: bool,
    /// Number of sectors, from the first one, with the same answer. At least 1.
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
