//! A long search: many subjects, many seeds, on several threads, until enough has been seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::promises::{Effort, every_drop, every_fault, power_cuts, short_histories};
use super::report::{Tally, Verdict, Violation};
use super::rig::Subject;

/// How long to search, and how much has to be seen.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Where random numbers begin; printed with every violation.
    pub seed: u64,
    /// Threads that search.
    pub threads: usize,
    /// Crash states to examine, at least.
    pub crash_states: u64,
    /// Faults to inject, at least.
    pub faults: u64,
    /// Futures to drop, at least.
    pub drops: u64,
    /// Goes on at least this long.
    pub at_least: Duration,
}

/// One piece of work: a promise of a subject, with a seed of its own.
type Job<'a> = (&'a str, &'a Subject, fn(&Subject, &Effort) -> Verdict);

impl Campaign {
    /// Searches until all numbers are reached and the time is over, or a promise is broken.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&self, subjects: &[Subject]) -> Verdict {
        let start = Instant::now();
        let jobs: Vec<Job<'_>> = subjects
            .iter()
            .flat_map(|subject| -> [Job<'_>; 4] {
                [
                    ("short histories", subject, short_histories),
                    ("power cuts", subject, power_cuts),
                    ("every fault", subject, every_fault),
                    ("every drop", subject, every_drop),
                ]
            })
            .collect();
        let next = AtomicU64::new(0);
        let total = Mutex::new((Tally::default(), None::<Box<Violation>>));
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        let (_, subject, promise) = jobs[turn as usize % jobs.len()];
                        let round = turn / jobs.len() as u64;
                        let effort = Effort {
                            seed: self.seed.wrapping_add(round),
                            histories: 24,
                            requests: 16,
                            states: 40,
                        };
                        let verdict = promise(subject, &effort);
                        let mut total = total.lock().expect("no thread panics");
                        match verdict {
                            Ok(seen) => total.0.add(&seen),
                            Err(violation) => total.1 = Some(violation),
                        }
                        // Whole rounds only: every subject gets its share.
                        let last = turn as usize % jobs.len() == jobs.len() - 1;
                        if total.1.is_some() || (last && self.is_enough(&total.0, start.elapsed()))
                        {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                            return;
                        }
                        if next.load(Ordering::Relaxed) >= u64::MAX / 2 {
                            return;
                        }
                    }
                });
            }
        });
        match total.into_inner().expect("no thread panics") {
            (_, Some(violation)) => Err(violation),
            (tally, None) => Ok(tally),
        }
    }

    fn is_enough(&self, seen: &Tally, elapsed: Duration) -> bool {
        seen.crash_states >= self.crash_states
            && seen.faults >= self.faults
            && seen.dropped >= self.drops
            && elapsed >= self.at_least
    }
}
