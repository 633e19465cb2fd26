//! The extents of two disks side by side, cut where either changes.

use block_core::{Disk, Extent, Result};

use super::ExtentStream;

/// A range in which each disk has one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What the first disk says; `None`: it has ended.
    pub a: Option<Extent>,
    /// What the second disk says; `None`: it has ended.
    pub b: Option<Extent>,
}

/// Walks two disks at once, to the end of the longer one.
#[derive(Debug)]
pub(crate) struct PairStream {
    a: Side,
    b: Side,
    at: u64,
}

#[derive(Debug)]
struct Side {
    stream: ExtentStream,
    now: Option<Extent>,
}

impl Side {
    /// The extent at `at`.
    async fn at(&mut self, at: u64) -> Result<Option<Extent>> {
        while self.now.is_none_or(|extent| extent.end() <= at) {
            self.now = self.stream.next().await?;
            if self.now.is_none() {
                break;
            }
        }
        Ok(self.now)
    }
}

impl PairStream {
    /// Over the whole of both disks, for reading; `as_mapped`: with the answers of their maps and nothing finer.
    pub fn new(a: &Disk, b: &Disk, as_mapped: bool) -> Self {
        let stream = if as_mapped { ExtentStream::new } else { ExtentStream::with_holes };
        let side = |disk: &Disk| Side { stream: stream(disk.clone(), 0..u64::MAX), now: None };
        Self { a: side(a), b: side(b), at: 0 }
    }

    /// The next pair; `None` when both have ended.
    pub async fn next(&mut self) -> Result<Option<Pair>> {
        let (a, b) = (self.a.at(self.at).await?, self.b.at(self.at).await?);
        let ends = a.iter().chain(&b).map(Extent::end);
        let Some(end) = ends.min() else { return Ok(None) };
        let start = self.at;
        self.at = end;
        Ok(Some(Pair { start, len: end.saturating_sub(start), a, b }))
    }
}
