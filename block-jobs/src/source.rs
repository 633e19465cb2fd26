//! One or several disks, read as one behind the other.

use std::ops::Range;

use block_core::{Disk, Error, ErrorKind, Extent, Result};

use super::ExtentStream;

/// A part of a [`Source`]: `range` of `disk` appears at `start`.
#[derive(Debug, Clone)]
pub struct Part {
    /// The disk.
    pub disk: Disk,
    /// The bytes of the disk that belong to the source.
    pub range: Range<u64>,
    /// First byte, as an offset in the source.
    pub start: u64,
}

/// Disks, or parts of disks, that are read as one disk, each after the end of the one before.
#[derive(Debug, Clone, Default)]
pub struct Source {
    parts: Vec<Part>,
    len: u64,
}

impl From<Disk> for Source {
    /// The whole of one disk.
    fn from(disk: Disk) -> Self {
        let len = disk.size();
        Self { parts: vec![Part { disk, range: 0..len, start: 0 }], len }
    }
}

impl Source {
    /// A source without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a whole disk at the end.
    ///
    /// # Errors
    /// `InvalidInput`: the source would be larger than a disk can be.
    pub fn push(&mut self, disk: Disk) -> Result<()> {
        let size = disk.size();
        self.push_range(disk, 0..size)
    }

    /// Adds `range` of a disk, in bytes, at the end.
    ///
    /// # Errors
    /// `InvalidInput`: the source would be larger than a disk can be.
    pub fn push_range(&mut self, disk: Disk, range: Range<u64>) -> Result<()> {
        let start = self.len;
        let len = range.end.saturating_sub(range.start);
        let end = start.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        self.len = end.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the sources together are too large for a disk")
        })?;
        self.parts.push(Part { disk, range, start });
        Ok(())
    }

    /// Whether the source has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The disks of all parts.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.parts.iter().map(|part| &part.disk)
    }

    /// The part with number `index`.
    pub fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// Returns the stream of the extents of all parts.
    pub fn walk(&self) -> Walk {
        Walk { source: self.clone(), index: 0, stream: None }
    }
}

/// A stream of the extents of a [`Source`], part after part.
#[derive(Debug)]
pub struct Walk {
    source: Source,
    index: usize,
    stream: Option<ExtentStream>,
}

impl Walk {
    /// The number of the part that [`next`](Self::next) looked at last.
    pub fn part(&self) -> usize {
        self.index
    }

    /// Returns the next extent and the number of its part; `None` at the end. The extent's `start` is an offset in the
    /// part's disk.
    pub async fn next(&mut self) -> Result<Option<(usize, Extent)>> {
        loop {
            let Some(part) = self.source.parts.get(self.index) else { return Ok(None) };
            let stream = self.stream.get_or_insert_with(|| {
                ExtentStream::with_holes(part.disk.clone(), part.range.clone())
            });
            if let Some(extent) = stream.next().await? {
                return Ok(Some((self.index, extent)));
            }
            self.stream = None;
            self.index += 1;
        }
    }
}
