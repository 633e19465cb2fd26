//! Tells each request, and keeps those that change something, to be played again.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits, ZeroMode};

/// A request that changed the storage, or made changes durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Bytes were written at an offset.
    Write(u64, Vec<u8>),
    /// A range was zeroed.
    Zeroes(Range<u64>, ZeroMode),
    /// The length was set.
    SetLen(u64),
    /// All was made durable.
    Flush,
}

impl Record {
    /// Does the same to another storage.
    ///
    /// # Errors
    /// What the storage gives.
    pub async fn play(&self, storage: &dyn Storage) -> Result<()> {
        match self {
            Self::Write(offset, bytes) => storage.write_at(*offset, bytes).await,
            Self::Zeroes(range, mode) => {
                storage.write_zeroes(range.start, range.end - range.start, *mode).await
            }
            Self::SetLen(len) => storage.set_len(*len).await,
            Self::Flush => storage.flush().await,
        }
    }
}

/// A storage that tells its requests as they come, and keeps those that succeed as [`Record`]s if told to.
#[derive(Debug)]
pub struct LogStorage {
    below: Arc<dyn Storage>,
    /// `None`: nothing is kept.
    records: Mutex<Option<Vec<Record>>>,
}

impl LogStorage {
    /// Over `below`, keeping nothing.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { below, records: Mutex::default() })
    }

    /// Over `below`, keeping every change in memory.
    pub fn keeping(below: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { below, records: Mutex::new(Some(Vec::new())) })
    }

    /// What was kept so far, in the order in which it was done.
    pub fn records(&self) -> Vec<Record> {
        self.kept().clone().unwrap_or_default()
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<Record>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, record: impl FnOnce() -> Record) {
        if let Some(records) = self.kept().as_mut() {
            records.push(record());
        }
    }

    fn tell(&self, what: &str, offset: u64, len: u64, result: &Result<()>) {
        match result {
            Ok(()) => tracing::info!("{}: {what} {len} bytes at {offset:#x}", self.below.uri()),
            Err(error) => {
                tracing::info!("{}: {what} {len} bytes at {offset:#x}: {error}", self.below.uri());
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for LogStorage {
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
        let result = self.below.read_at(offset, buf).await;
        self.tell("read", offset, buf.len() as u64, &result);
        result
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let result = self.below.try_read_at(offset, buf)?;
        self.tell("read", offset, buf.len() as u64, &result);
        Some(result)
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let result = self.below.write_at(offset, buf).await;
        self.tell("write", offset, buf.len() as u64, &result);
        if result.is_ok() {
            self.keep(|| Record::Write(offset, buf.to_vec()));
        }
        result
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        let result = self.below.write_zeroes(offset, len, mode).await;
        self.tell("zero", offset, len, &result);
        if result.is_ok() {
            self.keep(|| Record::Zeroes(offset..offset.saturating_add(len), mode));
        }
        result
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let result = self.below.allocate(offset, len).await;
        self.tell("allocate", offset, len, &result);
        result
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        let result = self.below.set_len(len).await;
        self.tell("set the length to", 0, len, &result);
        if result.is_ok() {
            self.keep(|| Record::SetLen(len));
        }
        result
    }

    async fn flush(&self) -> Result<()> {
        let result = self.below.flush().await;
        self.tell("flush", 0, 0, &result);
        if result.is_ok() {
            self.keep(|| Record::Flush);
        }
        result
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
        // What is copied below cannot be kept, so a storage that keeps has it written instead.
        if self.kept().is_some() {
            return Ok(false);
        }
        let copied = self.below.copy_from(offset, source, source_offset, len).await?;
        tracing::info!("{}: copy {len} bytes to {offset:#x}: {copied}", self.below.uri());
        Ok(copied)
    }

    fn id(&self) -> Option<StorageId> {
        self.below.id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemStorage;
    use crate::testkit::exec::block_on;

    #[test]
    fn what_was_kept_does_the_same_to_another_storage() {
        let (first, second) = (MemStorage::new(), MemStorage::new());
        let log = LogStorage::keeping(Arc::clone(&first) as Arc<dyn Storage>);
        block_on(async {
            log.write_at(100, &[7; 5000]).await.unwrap();
            log.write_zeroes(200, 4100, ZeroMode::Deallocate).await.unwrap();
            log.set_len(4400).await.unwrap();
            log.flush().await.unwrap();
            for record in log.records() {
                record.play(&*second).await.unwrap();
            }
        });
        assert_eq!(log.records().len(), 4);
        assert_eq!(first.to_bytes(), second.to_bytes());
    }
}
