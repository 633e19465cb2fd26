//! Limits the number of requests and bytes per second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Hook, Request};
use crate::{OptionKind, OptionSpec, Options, Result};

/// Delays requests to keep the configured rate.
///
/// It blocks the thread, because this crate has no runtime with a timer. In a single-threaded program this
/// stops other work too, as a slow disk would.
#[derive(Debug)]
pub struct ThrottleHook {
    /// Nanoseconds per byte.
    byte: f64,
    /// Nanoseconds per request.
    request: f64,
    /// Time when all requests admitted so far are done.
    busy_until: Mutex<Option<Instant>>,
}

/// Options of the filter.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "bps",
        kind: OptionKind::Size { min: 1, max: 1 << 50 },
        default: None,
        help: "bytes that pass in a second (default: any number)",
    },
    OptionSpec {
        name: "iops",
        kind: OptionKind::Number { min: 1, max: 1 << 40 },
        default: None,
        help: "requests that pass in a second (default: any number)",
    },
];

/// Maximum delay of one request.
const LONGEST: Duration = Duration::from_secs(60);

impl ThrottleHook {
    /// Creates the filter from `options`, which were parsed against [`OPTIONS`].
    pub fn new(options: &Options) -> Self {
        let nanos = |name| options.number(name).map_or(0.0, |rate| 1e9 / rate as f64);
        Self { byte: nanos("bps"), request: nanos("iops"), busy_until: Mutex::new(None) }
    }

    /// Adds the request to the queue, and returns the time until it is done.
    fn queue(&self, request: &Request<'_>) -> Duration {
        let bytes = match request {
            Request::Read { .. } | Request::Write { .. } | Request::Copy { .. } => {
                request.range().1
            }
            _ => 0,
        };
        let nanos = self.request + self.byte * bytes as f64;
        let cost = Duration::from_nanos(nanos as u64).min(LONGEST);
        let now = Instant::now();
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let end = busy_until.filter(|busy| *busy > now).unwrap_or(now) + cost;
        *busy_until = Some(end);
        (end - now).min(LONGEST)
    }
}

#[async_trait]
impl Hook for ThrottleHook {
    async fn before(&self, request: &Request<'_>) -> Result<()> {
        std::thread::sleep(self.queue(request));
        Ok(())
    }
}
