//! Counts what passes.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits, ZeroMode};

/// What has passed. All numbers count requests, but those that say bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Requests to zero or to set room aside.
    pub zeroes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Changes of the length.
    pub resizes: u64,
    /// Copies made below.
    pub copies: u64,
}

/// A storage that counts its requests, and tells them when it is dropped.
#[derive(Debug)]
pub struct StatsStorage {
    below: Arc<dyn Storage>,
    stats: Mutex<Stats>,
}

impl StatsStorage {
    /// Over `below`, counting from zero.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { below, stats: Mutex::default() })
    }

    /// What has passed so far.
    pub fn stats(&self) -> Stats {
        *self.count()
    }

    fn count(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StatsStorage {
    fn drop(&mut self) {
        tracing::info!("{}: {:?}", self.below.uri(), self.stats());
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for StatsStorage {
    fn uri(&self) -> &str {
        self.below.uri()
    }

    fn caps(&self) -> StorageCaps {
        self.below.caps()
    }

    fn limits(&self) -> StorageLimits {
        self.below.limits()
    }

    async fn len(&self) -> Result<u64> {
        self.below.len().await
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        {
            let mut stats = self.count();
            stats.reads += 1;
            stats.bytes_read += buf.len() as u64;
        }
        self.below.read_at(offset, buf).await
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let answer = self.below.try_read_at(offset, buf)?;
        let mut stats = self.count();
        stats.reads += 1;
        stats.bytes_read += buf.len() as u64;
        Some(answer)
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        {
            let mut stats = self.count();
            stats.writes += 1;
            stats.bytes_written += buf.len() as u64;
        }
        self.below.write_at(offset, buf).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        self.count().zeroes += 1;
        self.below.write_zeroes(offset, len, mode).await
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.count().zeroes += 1;
        self.below.allocate(offset, len).await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.count().resizes += 1;
        self.below.set_len(len).await
    }

    async fn flush(&self) -> Result<()> {
        self.count().flushes += 1;
        self.below.flush().await
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        self.below.extents(range, out).await
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        self.below.allocated_bytes().await
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let copied = self.below.copy_from(offset, source, source_offset, len).await?;
        self.count().copies += u64::from(copied);
        Ok(copied)
    }

    fn id(&self) -> Option<StorageId> {
        self.below.id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
