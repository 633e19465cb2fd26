//! Counts requests and bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{FilteredStorage, Hook, Request};
use crate::{Error, Result, Storage};

/// Counters of the requests that passed. The fields count requests unless their name says bytes.
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
    /// Requests to zero, to discard or to reserve space.
    pub zeroes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Changes of the length.
    pub resizes: u64,
    /// Copies made by the layer below.
    pub copies: u64,
    /// Failed requests. They are also counted above.
    pub failed: u64,
}

/// Counts requests, and logs the counters at the end.
#[derive(Debug, Default)]
pub struct StatsHook(Mutex<Stats>);

/// A storage that counts its requests, and logs the counters when it is dropped.
pub type StatsStorage = FilteredStorage<StatsHook>;

impl StatsStorage {
    /// Creates a filter over `below` with all counters zero.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Self> {
        Self::with(below, StatsHook::default())
    }
}

impl StatsHook {
    /// Returns the counters so far.
    pub fn stats(&self) -> Stats {
        *self.count()
    }

    fn count(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Hook for StatsHook {
    async fn before(&self, _: &Request<'_>) -> Result<()> {
        Ok(())
    }

    fn before_nowait(&self, _: &Request<'_>) -> Option<Result<()>> {
        Some(Ok(()))
    }

    fn after(&self, _: &str, request: &Request<'_>, error: Option<&Error>) {
        let mut stats = self.count();
        let (_, len) = request.range();
        match request {
            Request::Read { .. } => {
                stats.reads += 1;
                stats.bytes_read += len;
            }
            Request::Write { .. } => {
                stats.writes += 1;
                stats.bytes_written += len;
            }
            Request::Zeroes { .. } | Request::Discard { .. } | Request::Allocate { .. } => {
                stats.zeroes += 1;
            }
            Request::SetLen(_) => stats.resizes += 1,
            Request::Flush => stats.flushes += 1,
            Request::Copy { .. } => stats.copies += 1,
        }
        stats.failed += u64::from(error.is_some());
    }

    fn lets_copy(&self) -> bool {
        true
    }

    fn done(&self, uri: &str) {
        tracing::info!("{uri}: {:?}", self.stats());
    }
}
