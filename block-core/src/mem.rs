//! A storage in memory, for tests, examples and overlays.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;

use crate::{
    Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits,
    ZeroMode, bug,
};

/// A sparse storage in memory. Chunks never written take no memory.
#[derive(Debug)]
pub struct MemStorage {
    uri: String,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    len: u64,
    /// Chunks of [`CHUNK`] bytes by number.
    chunks: BTreeMap<u64, Box<[u8]>>,
    /// Maximum number of chunks.
    room: Option<u64>,
}

const CHUNK: usize = 4096;
const CHUNK64: u64 = CHUNK as u64;

impl MemStorage {
    /// Creates an empty storage.
    pub fn new() -> Arc<Self> {
        Self::named("memory:")
    }

    /// Creates an empty storage with its own URI.
    pub fn named(uri: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { uri: uri.into(), inner: RwLock::default() })
    }

    /// Creates a storage that holds `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Arc<Self> {
        let storage = Self::new();
        // Cannot fail: a slice is shorter than the longest file, and a new storage has no limit.
        drop(storage.lock_mut().write(0, bytes));
        storage
    }

    /// Limits the storage to `bytes` from now on, not counting holes. A write that needs more fails with
    /// [`NoSpace`](ErrorKind::NoSpace) and changes nothing, as on a full disk.
    pub fn limit(&self, bytes: u64) {
        self.lock_mut().room = Some(bytes / CHUNK64);
    }

    /// Returns all bytes, or `None` if there are more than 1 GiB, too many to hold twice.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let inner = self.lock();
        let len = usize::try_from(inner.len).ok().filter(|len| *len <= 1 << 30)?;
        let mut bytes = vec![0; len];
        inner.read(0, &mut bytes).ok()?;
        Some(bytes)
    }

    fn lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let inner = self.lock();
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > inner.len) {
            return Err(past_end(self, offset, buf.len(), inner.len));
        }
        inner.read(offset, buf)
    }
}

fn past_end(storage: &MemStorage, offset: u64, len: usize, end: u64) -> Error {
    Error::new(ErrorKind::OutOfRange, format!("{len} bytes go past the end at {end:#x}"))
        .at(offset)
        .in_image(storage.uri.clone())
}

/// Returns the end of a range, or an error if it is past the largest offset of a file.
fn end_of(storage: &MemStorage, offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or_else(|| {
        let message = format!("{len} bytes go past the largest offset of a file");
        Error::new(ErrorKind::OutOfRange, message).at(offset).in_image(storage.uri.clone())
    })
}

/// Splits a range at chunk boundaries: (chunk, range of bytes in it).
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (chunk, within) = (at / CHUNK64, at % CHUNK64);
        let take = (CHUNK64 - within).min(range.end - at);
        at += take;
        let place = usize::try_from(within).ok()?..usize::try_from(within + take).ok()?;
        Some((chunk, place))
    })
}

/// Returns the internal error for an impossible state of a chunk.
fn outside() -> Error {
    bug("a piece of a request lies outside of its chunk or its buffer")
}

impl Inner {
    /// Reads inside the storage.
    fn read(&self, offset: u64, mut buf: &mut [u8]) -> Result<()> {
        for (chunk, place) in pieces(offset..offset + buf.len() as u64) {
            let (head, rest) = buf.split_at_mut_checked(place.len()).ok_or_else(outside)?;
            match self.chunks.get(&chunk) {
                Some(bytes) => head.copy_from_slice(bytes.get(place).ok_or_else(outside)?),
                None => head.fill(0),
            }
            buf = rest;
        }
        match buf.is_empty() {
            true => Ok(()),
            false => Err(outside()),
        }
    }

    /// Returns the number of chunks after writing `range`.
    fn chunks_with(&self, range: Range<u64>) -> u64 {
        let new = pieces(range).filter(|(chunk, _)| !self.chunks.contains_key(chunk));
        self.chunks.len() as u64 + new.count() as u64
    }

    /// Writes a range that ends before the largest offset.
    fn write(&mut self, offset: u64, mut buf: &[u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        self.len = self.len.max(end);
        for (chunk, place) in pieces(offset..end) {
            let (head, rest) = buf.split_at_checked(place.len()).ok_or_else(outside)?;
            let bytes = self.chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK].into());
            bytes.get_mut(place).ok_or_else(outside)?.copy_from_slice(head);
            buf = rest;
        }
        match buf.is_empty() {
            true => Ok(()),
            false => Err(outside()),
        }
    }

    /// Makes a range inside the storage read as zeros.
    fn clear(&mut self, range: Range<u64>) -> Result<()> {
        let first_whole = range.start.div_ceil(CHUNK64);
        let end_whole = range.end / CHUNK64;
        if first_whole < end_whole {
            let dropped = self.chunks.range(first_whole..end_whole).map(|(chunk, _)| *chunk);
            for chunk in dropped.collect::<Vec<_>>() {
                self.chunks.remove(&chunk);
            }
        }
        let whole = first_whole * CHUNK64..(end_whole * CHUNK64).max(first_whole * CHUNK64);
        let edges =
            [range.start..range.end.min(whole.start), range.start.max(whole.end)..range.end];
        for (chunk, place) in edges.into_iter().flat_map(pieces) {
            // A chunk that was never written is already zeros.
            if let Some(bytes) = self.chunks.get_mut(&chunk) {
                bytes.get_mut(place).ok_or_else(outside)?.fill(0);
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> Result<()> {
        if len < self.len {
            let end = self.len.next_multiple_of(CHUNK64);
            self.clear(len..end)?;
        }
        self.len = len;
        Ok(())
    }
}

#[async_trait]
impl Storage for MemStorage {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn caps(&self) -> StorageCaps {
        StorageCaps::WRITE | StorageCaps::RESIZE | StorageCaps::DEALLOCATE | StorageCaps::SPARSE
    }

    fn limits(&self) -> StorageLimits {
        StorageLimits::default()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.lock().len)
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(offset, buf)
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        Some(self.read(offset, buf))
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let end = end_of(self, offset, buf.len() as u64)?;
        let mut inner = self.lock_mut();
        if let Some(room) = inner.room.filter(|room| inner.chunks_with(offset..end) > *room) {
            let message = format!("the {} bytes of this storage are in use", room * CHUNK64);
            return Err(Error::new(ErrorKind::NoSpace, message)
                .at(offset)
                .in_image(self.uri.clone()));
        }
        inner.write(offset, buf)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<()> {
        let end = end_of(self, offset, len)?;
        let mut inner = self.lock_mut();
        inner.len = inner.len.max(end);
        inner.clear(offset..end)
    }

    async fn allocate(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        end_of(self, 0, len)?;
        self.lock_mut().set_len(len)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let inner = self.lock();
        let end = range.end.min(inner.len);
        let mut at = range.start;
        let mut add = |start: u64, end: u64, data: bool| {
            if start >= end {
                return;
            }
            let len = end - start;
            match out.last_mut() {
                Some(last) if last.data == data && last.start + last.len == start => {
                    last.len += len
                }
                _ => out.push(StorageExtent { start, len, data }),
            }
        };
        for chunk in
            inner.chunks.range(at / CHUNK64..end.div_ceil(CHUNK64)).map(|(chunk, _)| *chunk)
        {
            let start = (chunk * CHUNK64).max(at);
            let stop = ((chunk + 1) * CHUNK64).min(end);
            add(at, start, false);
            add(start, stop, true);
            at = stop.max(at);
        }
        add(at, end, false);
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(Some(self.lock().chunks.len() as u64 * CHUNK64))
    }

    async fn copy_from(&self, _: u64, _: &dyn Storage, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn id(&self) -> Option<StorageId> {
        // The address identifies the storage, because two live storages cannot share one.
        Some(StorageId(u64::MAX, std::ptr::from_ref(self).addr() as u64))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
