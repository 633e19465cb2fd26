//! Whether a thread that copies alone would be faster with another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Pieces between two decisions.
const WINDOW: u32 = 32;

/// What a lone thread spends its time on. Where it mostly writes into the page cache, a second thread saved a
/// tenth of the time for a quarter more of the processor's: writes to one file wait for each other, and both
/// threads for the same memory. Where it mostly reads, or waits for a disk, another one nearly doubles the pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// Another thread is worth it.
    decided: AtomicBool,
    spent: Mutex<Spent>,
}

/// Time of the pieces that were looked at. The last ones count most.
#[derive(Debug, Default)]
struct Spent {
    pieces: u32,
    reading: Duration,
    all: Duration,
    /// On the processor.
    used: Duration,
    /// What the thread had used when it began to look.
    used_before: Option<Duration>,
}

impl Pace {
    /// Undecided; or decided for more threads from the beginning.
    pub fn new(decided: bool) -> Self {
        Self { decided: AtomicBool::new(decided), spent: Mutex::default() }
    }

    /// Whether another thread is worth it.
    pub fn wants_help(&self) -> bool {
        self.decided.load(Ordering::Relaxed)
    }

    /// When a piece begins: now, while it is undecided.
    pub fn begin(&self) -> Option<Instant> {
        if self.wants_help() {
            return None;
        }
        self.spent().used_before.get_or_insert_with(used);
        Some(Instant::now())
    }

    /// Says that the piece that began then was read at `read` and is written now.
    pub fn end(&self, began: Instant, read: Instant) {
        let mut spent = self.spent();
        spent.pieces += 1;
        spent.reading += read - began;
        spent.all += began.elapsed();
        if spent.pieces == WINDOW {
            let before = spent.used_before.take();
            spent.used += used().saturating_sub(before.unwrap_or_default());
            if spent.wants_help() {
                self.decided.store(true, Ordering::Relaxed);
            }
            spent.halve();
        }
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    /// Whether most of the time is for reading, or a fifth of it is not the processor's.
    fn wants_help(&self) -> bool {
        self.reading * 20 >= self.all * 11 || self.used * 5 <= self.all * 4
    }

    fn halve(&mut self) {
        self.pieces = 0;
        for time in [&mut self.reading, &mut self.all, &mut self.used] {
            *time /= 2;
        }
    }
}

/// What this thread has used of the processor.
fn used() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_or_waits_wants_help() {
        let wants = |reading, used| {
            let [reading, all, used] = [reading, 100, used].map(Duration::from_millis);
            Spent { reading, all, used, ..Spent::default() }.wants_help()
        };
        assert!(!wants(40, 98), "it writes");
        assert!(wants(60, 98), "it reads");
        assert!(wants(40, 70), "it waits");
    }

    #[test]
    fn it_is_decided_when_enough_was_seen() {
        let pace = Pace::new(false);
        for _ in 0..WINDOW {
            assert!(!pace.wants_help());
            let began = pace.begin().unwrap();
            pace.end(began, began + Duration::from_secs(1));
        }
        assert!(pace.wants_help());
        assert_eq!(pace.begin(), None);
    }
}
