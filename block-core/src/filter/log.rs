//! Logs each request. Can also record the requests that change something, to replay them.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{FilteredStorage, Hook, Request};
use crate::{Error, Result, Storage, ZeroMode};

/// A recorded request that changed the storage or made changes durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Wrote bytes at an offset.
    Write(u64, Vec<u8>),
    /// Zeroed a range.
    Zeroes(Range<u64>, ZeroMode),
    /// Set the length.
    SetLen(u64),
    /// Made everything durable.
    Flush,
}

impl Record {
    /// Repeats the request on another storage.
    ///
    /// # Errors
    /// Any error of the storage.
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

    /// Returns the record of a completed request, if it is one to replay.
    fn of(request: &Request<'_>) -> Option<Self> {
        match *request {
            Request::Write { offset, bytes } => Some(Self::Write(offset, bytes.to_vec())),
            Request::Zeroes { offset, len, mode } => {
                Some(Self::Zeroes(offset..offset.saturating_add(len), mode))
            }
            Request::SetLen(len) => Some(Self::SetLen(len)),
            Request::Flush => Some(Self::Flush),
            _ => None,
        }
    }
}

/// Logs requests, and records those that succeed as [`Record`]s if it is created to do so.
#[derive(Debug, Default)]
pub struct LogHook {
    /// `None`: nothing is recorded.
    records: Mutex<Option<Vec<Record>>>,
}

/// A storage that logs its requests.
pub type LogStorage = FilteredStorage<LogHook>;

impl LogStorage {
    /// Creates a filter over `below` that records nothing.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Self> {
        Self::with(below, LogHook::default())
    }

    /// Creates a filter over `below` that records every change in memory.
    pub fn keeping(below: Arc<dyn Storage>) -> Arc<Self> {
        Self::with(below, LogHook { records: Mutex::new(Some(Vec::new())) })
    }
}

impl LogHook {
    /// Returns the records so far, in the order of completion.
    pub fn records(&self) -> Vec<Record> {
        self.kept().clone().unwrap_or_default()
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<Record>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Hook for LogHook {
    async fn before(&self, _: &Request<'_>) -> Result<()> {
        Ok(())
    }

    fn before_nowait(&self, _: &Request<'_>) -> Option<Result<()>> {
        Some(Ok(()))
    }

    fn after(&self, uri: &str, request: &Request<'_>, error: Option<&Error>) {
        let (name, (offset, len)) = (request.name(), request.range());
        match error {
            None => tracing::info!("{uri}: {name} {len} bytes at {offset:#x}"),
            Some(error) => tracing::info!("{uri}: {name} {len} bytes at {offset:#x}: {error}"),
        }
        if let (Some(records), None) = (self.kept().as_mut(), error) {
            records.extend(Record::of(request));
        }
    }

    fn lets_copy(&self) -> bool {
        // A copy made by the layer below cannot be recorded. While recording, the bytes are written through
        // the filter instead.
        self.kept().is_none()
    }
}
