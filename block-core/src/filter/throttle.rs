//! Lets so many requests and bytes pass in a second, and no more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Hook, Request};
use crate::{OptionKind, OptionSpec, Options, Result};

/// Holds requests up until their turn has come.
///
/// The thread sleeps: there is no runtime here whose timer could be asked. So other work of a
/// single-threaded program waits too, which is what a slow disk does to it.
#[derive(Debug)]
pub struct ThrottleHook {
    /// Nanoseconds a byte takes.
    byte: f64,
    /// Nanoseconds a request takes.
    request: f64,
    /// When everything admitted so far is through.
    busy_until: Mutex<Option<Instant>>,
}

/// What the filter can be told.
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

/// The longest that one request is held up.
const LONGEST: Duration = Duration::from_secs(60);

impl ThrottleHook {
    /// As `options` (parsed against [`OPTIONS`]) say.
    pub fn new(options: &Options) -> Self {
        let nanos = |name| options.number(name).map_or(0.0, |rate| 1e9 / rate as f64);
        Self { byte: nanos("bps"), request: nanos("iops"), busy_until: Mutex::new(None) }
    }

    /// Takes a place in the queue; the answer is how long it is until its end.
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
