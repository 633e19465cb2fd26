//! Tells each request, and keeps those that change something, to be played again.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{FilteredStorage, Hook, Request};
use crate::{Error, Result, Storage, ZeroMode};

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

    /// What to play again of a request that was done.
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

/// Tells requests as they come, and keeps those that succeed as [`Record`]s if told to.
#[derive(Debug, Default)]
pub struct LogHook {
    /// `None`: nothing is kept.
    records: Mutex<Option<Vec<Record>>>,
}

/// A storage that tells its requests.
pub type LogStorage = FilteredStorage<LogHook>;

impl LogStorage {
    /// Over `below`, keeping nothing.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Self> {
        Self::with(below, LogHook::default())
    }

    /// Over `below`, keeping every change in memory.
    pub fn keeping(below: Arc<dyn Storage>) -> Arc<Self> {
        Self::with(below, LogHook { records: Mutex::new(Some(Vec::new())) })
    }
}

impl LogHook {
    /// What was kept so far, in the order in which it was done.
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

    fn before_at_once(&self, _: &Request<'_>) -> Option<Result<()>> {
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
        // What is copied below cannot be kept, so a storage that keeps has it written instead.
        self.kept().is_none()
    }
}
