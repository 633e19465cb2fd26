//! One or several disks, read as one behind the other.

use std::ops::Range;

use block_core::{Disk, Error, ErrorKind, Extent, Result};

use super::ExtentStream;

/// A part of a [`Source`]: `range` of `disk` appears at `start`.
#[derive(Debug, Clone)]
pub struct Part {
    /// The disk.
    pub disk: Disk,
    /// Its bytes that belong to the source.
    pub range: Range<u64>,
    /// Where they begin in the source.
    pub start: u64,
}

/// Disks one behind the other.
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
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a whole disk at the end.
    pub fn push(&mut self, disk: Disk) -> Result<()> {
        let size = disk.size();
        self.push_range(disk, 0..size)
    }

    /// Adds `range` of a disk at the end.
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

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in all.
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

    /// Walks the extents of all parts.
    pub fn walk(&self) -> Walk {
        Walk { source: self.clone(), index: 0, stream: None }
    }
}

/// The extents of a source, by part.
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

    /// The number of the part, and the next of its extents (`start` counts in the part's disk).
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
