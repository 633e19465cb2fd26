//! How far a job has come, as numbers that the caller shows.

use std::sync::Arc;

/// Where a job reports how far it has come. `()` ignores the reports.
///
/// A job has no other way to speak while it runs. The caller stops a job by dropping its future.
pub trait JobProgress: Send + Sync {
    /// The job has to move `bytes` bytes in all, those already moved included.
    ///
    /// The job calls this once before its first byte. It calls it again, with a smaller number, whenever it finds
    /// bytes that it need not read or write. Calls follow each other and never overlap.
    fn total(&self, bytes: u64);

    /// The job has moved `bytes` bytes more. Threads of one job call this at the same time.
    fn done(&self, bytes: u64);
}

impl JobProgress for () {
    fn total(&self, _: u64) {}

    fn done(&self, _: u64) {}
}

/// The bytes that a job still expects to move, reported whenever they become fewer.
pub(super) struct Expected {
    progress: Arc<dyn JobProgress>,
    bytes: u64,
}

impl Expected {
    /// Reports the size of a job.
    pub fn new(progress: Arc<dyn JobProgress>, bytes: u64) -> Self {
        progress.total(bytes);
        Self { progress, bytes }
    }

    /// Reports `bytes` bytes that need not be moved.
    pub fn skip(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.progress.total(self.bytes);
    }
}
