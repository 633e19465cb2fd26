//! Latencies counted in buckets, which give percentiles in bounded memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling of the latency. The error is at most one sixteenth.
const STEPS: u32 = 16;

/// The number of occurrences of each latency. All tasks share one, because it stays in the processor's cache and one
/// per task would not.
#[derive(Debug)]
pub(super) struct Latencies {
    buckets: Vec<AtomicU64>,
    longest: AtomicU64,
}

impl Latencies {
    pub fn new() -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default).take(bucket(u64::MAX) + 1);
        Self { buckets: buckets.collect(), longest: AtomicU64::new(0) }
    }

    pub fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(nanos, Ordering::Relaxed);
        }
        if let Some(count) = self.buckets.get(bucket(nanos)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the latency that `part` (0 to 1) of all requests did not exceed.
    pub fn at(&self, part: f64) -> Duration {
        let longest = self.longest.load(Ordering::Relaxed);
        let counts = || self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let total: u64 = counts().sum();
        let wanted = (total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (index, count) in counts().enumerate() {
            seen += count;
            if seen >= wanted && count > 0 {
                return Duration::from_nanos(upper(index).min(longest));
            }
        }
        Duration::from_nanos(longest)
    }
}

fn bucket(nanos: u64) -> usize {
    let steps = u64::from(STEPS);
    if nanos < steps {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEPS.ilog2();
    // Between STEPS and 2 * STEPS.
    let within = nanos >> shift;
    (u64::from(shift) * steps + within) as usize
}

/// Returns the largest latency of a bucket, in nanoseconds.
fn upper(index: usize) -> u64 {
    let (index, steps) = (index as u64, u64::from(STEPS));
    if index < 2 * steps {
        return index;
    }
    let shift = index / steps - 1;
    let within = index % steps + steps;
    ((within + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for nanos in [0, 1, 15, 16, 17, 31, 32, 33, 1000, 123_456_789, u64::MAX / 3, u64::MAX] {
            let index = bucket(nanos);
            assert!(upper(index) >= nanos, "{nanos}");
            assert!(index == 0 || upper(index - 1) < nanos, "{nanos}");
        }
    }

    #[test]
    fn percentiles_are_close() {
        let all = Latencies::new();
        for micros in 1..=1000 {
            all.record(Duration::from_micros(micros));
        }
        let median = all.at(0.5).as_secs_f64() * 1e6;
        assert!((500.0..535.0).contains(&median), "{median}");
        assert_eq!(all.at(1.0), Duration::from_millis(1));
    }
}
