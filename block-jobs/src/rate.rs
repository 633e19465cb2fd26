//! A limit on bytes per second.

use std::time::{Duration, Instant};

/// Holds work back so that it keeps to a rate on average.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: Option<u64>,
    started: Instant,
    bytes: u64,
}

impl Rate {
    /// With a limit, or none.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
        Self { bytes_per_second, started: Instant::now(), bytes: 0 }
    }

    /// Waits until `bytes` more may be moved.
    pub async fn take(&mut self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        self.bytes = self.bytes.saturating_add(bytes);
        tokio::time::sleep(due.saturating_sub(self.started.elapsed())).await;
    }
}
