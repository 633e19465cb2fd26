//! The extents of a disk one by one, fetched in windows so that memory stays bounded.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use block_core::{Disk, Extent, ExtentFlags, Result, Storage, StorageCaps, chain};

/// A stream of the extents of a range of a disk. Neighbours of one kind come as one extent.
#[derive(Debug)]
pub struct ExtentStream {
    disk: Disk,
    left: Range<u64>,
    window: u64,
    ready: VecDeque<Extent>,
    /// Those that nothing more is asked about.
    exact: VecDeque<Extent>,
    held: Option<Extent>,
    /// By depth, the storages that are asked for holes in what is stored.
    storages: Vec<Option<Arc<dyn Storage>>>,
}

const FIRST_WINDOW: u64 = 256 << 20;
const FEW: usize = 256;
const MANY: usize = 8192;

/// Bytes of a storage that are asked for holes at once: they can be many.
const ASKED: u64 = 64 << 20;

impl ExtentStream {
    /// Streams the extents of `range`, in bytes, cut at the end of the disk, as the map of the image tells them.
    pub fn new(disk: Disk, range: Range<u64>) -> Self {
        let left = range.start..range.end.min(disk.size());
        Self {
            disk,
            left,
            window: FIRST_WINDOW,
            ready: VecDeque::new(),
            exact: VecDeque::new(),
            held: None,
            storages: Vec::new(),
        }
    }

    /// Streams extents for a caller that reads them. A hole in the file of a stored block comes as zeros, which the map
    /// of the image does not tell, and need not be read.
    pub fn with_holes(disk: Disk, range: Range<u64>) -> Self {
        let storages = chain::images(&disk)
            .iter()
            .map(|image| {
                let storage = image.device().storage();
                storage.caps().contains(StorageCaps::SPARSE).then_some(storage)
            })
            .collect();
        Self { storages, ..Self::new(disk, range) }
    }

    /// Returns the next extent; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            while let Some(next) = self.exact.pop_front() {
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
            match self.ready.pop_front() {
                Some(next) => self.look_at(next).await?,
                None if self.left.is_empty() => return Ok(self.held.take()),
                None => self.fetch().await?,
            }
        }
    }

    /// Adds an extent to the exact ones, cut where its storage has holes. What it is too long for stays ready.
    async fn look_at(&mut self, extent: Extent) -> Result<()> {
        let storage = usize::try_from(extent.depth).ok().and_then(|depth| self.storages.get(depth));
        let (Some(Some(storage)), Some(offset), true) = (storage, extent.offset, extent.is_data())
        else {
            self.exact.push_back(extent);
            return Ok(());
        };
        let part = |from: u64, len: u64, flags: ExtentFlags| Extent {
            start: extent.start.saturating_add(from),
            len,
            flags,
            offset: offset.checked_add(from),
            ..extent
        };
        let len = extent.len.min(ASKED);
        if let Some(rest) = extent.len.checked_sub(len).filter(|rest| *rest > 0) {
            self.ready.push_front(part(len, rest, extent.flags));
        }
        let mut below = Vec::new();
        storage.extents(offset..offset.saturating_add(len), &mut below).await?;
        let mut at = 0;
        for piece in below {
            let piece_len = piece.len.min(len.saturating_sub(at));
            if piece_len > 0 {
                let flags = if piece.data { ExtentFlags::empty() } else { ExtentFlags::ZERO };
                self.exact.push_back(part(at, piece_len, extent.flags | flags));
            }
            at = at.saturating_add(piece_len);
        }
        // What lies past the end of the storage: reading it says so.
        if at < len {
            self.exact.push_back(part(at, len.saturating_sub(at), extent.flags));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use block_core::{
        Access, CreateRequest, MemStorage, OpenContext, Options, Registry, WriteFlags,
    };

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A disk of four blocks: the second is stored with 8 KiB in its middle, and its file has holes around them.
    async fn disk() -> Disk {
        let mut registry = Registry::new();
        block_vdi::register(&mut registry);
        let registry = Arc::new(registry);
        let driver = Arc::clone(registry.driver("vdi").unwrap());
        let cx = OpenContext::new(registry);
        let file: Arc<dyn Storage> = MemStorage::new();
        driver.create(Arc::clone(&file), &CreateRequest::new(4 * MIB), &cx).await.unwrap();
        let device = driver.open(file, &Options::new(), Access::ReadWrite, &cx).await.unwrap();
        let disk = Disk::new(device);
        disk.write_at(MIB + 65536, &[7; 8192], WriteFlags::empty()).await.unwrap();
        disk
    }

    async fn data(mut stream: ExtentStream) -> Vec<(u64, u64)> {
        let (mut found, mut end) = (Vec::new(), 0);
        while let Some(extent) = stream.next().await.unwrap() {
            assert_eq!(extent.start, end, "a gap");
            end = extent.end();
            if extent.is_data() {
                found.push((extent.start, extent.len));
            }
        }
        assert_eq!(end, 4 * MIB);
        found
    }

    #[tokio::test]
    async fn holes_in_stored_blocks_are_zeros_for_who_reads() {
        let disk = disk().await;
        assert_eq!(data(ExtentStream::new(disk.clone(), 0..u64::MAX)).await, [(MIB, MIB)]);
        let exact = data(ExtentStream::with_holes(disk.clone(), 0..u64::MAX)).await;
        assert_eq!(exact, [(MIB + 65536, 8192)]);
        disk.close().await.unwrap();
    }
}
