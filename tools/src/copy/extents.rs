//! The extents of a disk one by one, fetched in windows so that memory stays bounded.

use std::collections::VecDeque;
use std::ops::Range;

use block_core::{Disk, Extent, Result};

/// Walks the extents of a range. Neighbours with one answer come as one, also across windows.
#[derive(Debug)]
pub(crate) struct ExtentStream {
    disk: Disk,
    left: Range<u64>,
    window: u64,
    ready: VecDeque<Extent>,
    held: Option<Extent>,
}

const FIRST_WINDOW: u64 = 256 << 20;
const FEW: usize = 256;
const MANY: usize = 8192;

impl ExtentStream {
    /// Over `range` (bytes, cut at the end of the disk).
    pub fn new(disk: Disk, range: Range<u64>) -> Self {
        let left = range.start..range.end.min(disk.size());
        Self { disk, left, window: FIRST_WINDOW, ready: VecDeque::new(), held: None }
    }

    /// The next extent; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            while let Some(next) = self.ready.pop_front() {
                match &mut self.held {
                    Some(held) if continues(held, &next) => {
                        held.len = held.len.saturating_add(next.len);
                    }
                    held => {
                        if let Some(whole) = held.replace(next) {
                            return Ok(Some(whole));
                        }
                    }
                }
            }
            if self.left.is_empty() {
                return Ok(self.held.take());
            }
            self.fetch().await?;
        }
    }

    async fn fetch(&mut self) -> Result<()> {
        let end = self.left.end.min(self.left.start.saturating_add(self.window));
        let list = self.disk.extents(self.left.start..end).await?;
        match list.len() {
            0..FEW => self.window = self.window.saturating_mul(4),
            MANY.. => self.window = (self.window / 4).max(1 << 20),
            _ => {}
        }
        self.left.start = end;
        self.ready.extend(list.into_vec());
        Ok(())
    }
}

fn continues(first: &Extent, next: &Extent) -> bool {
    first.end() == next.start
        && first.flags == next.flags
        && first.depth == next.depth
        && match (first.offset, next.offset) {
            (None, None) => true,
            (Some(a), Some(b)) => a.checked_add(first.len) == Some(b),
            _ => false,
        }
}
