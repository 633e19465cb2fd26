//! Campaigns: a long search over many subjects and seeds, on several threads.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::promises::{
    Effort, every_drop, every_fault, failed_flushes, power_cuts, short_histories, written_parents,
};
use super::report::{Tally, Verdict, Violation};
use super::rig::Subject;

/// The goals of a search.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The first seed. Every violation prints its own.
    pub seed: u64,
    /// Number of threads.
    pub threads: usize,
    /// Fewest crash states to examine. Subjects share them by weight. Two states are distinct if a file differs in a
    /// byte not marked as random.
    pub crash_states: u64,
    /// Fewest faults to inject, shared in the same way.
    pub faults: u64,
    /// Fewest futures to drop, shared in the same way.
    pub drops: u64,
    /// Shortest duration of the search.
    pub at_least: Duration,
}

/// The results of a campaign.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The sum over all subjects.
    pub total: Tally,
    /// The result of each subject, by name.
    pub subjects: Vec<(String, Tally)>,
    /// Time spent on each promise, by name, summed over all threads.
    pub promises: Vec<(&'static str, Duration)>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, tally) in &self.subjects {
            writeln!(f, "{name}: {tally}")?;
        }
        for (name, time) in &self.promises {
            writeln!(f, "{name}: {:.1} s of one thread", time.as_secs_f64())?;
        }
        write!(f, "all: {}", self.total)
    }
}

/// A promise and the count that measures its progress.
struct Search {
    name: &'static str,
    promise: fn(&Subject, &Effort) -> Verdict,
    count: fn(&Tally) -> u64,
    /// The goal, over all subjects.
    wanted: u64,
}

/// The state shared by all threads.
struct State {
    seen: Seen,
    violation: Option<Box<Violation>>,
    next: u64,
}

impl Campaign {
    /// Searches until all counts and the duration are reached, or a promise is broken. A promise that has reached its
    /// count yields its turns to the others, until only the duration remains.
    ///
    /// # Errors
    /// Returns the first broken promise.
    pub fn run(&self, subjects: &[Subject]) -> Result<Seen, Box<Violation>> {
        let start = Instant::now();
        let subjects: Vec<Subject> = subjects.iter().map(|s| s.clone().counting()).collect();
        let states = |tally: &Tally| tally.crash_states;
        let search = |name, promise, count, wanted| Search { name, promise, count, wanted };
        let searches = [
            search("short histories", short_histories, states, self.crash_states),
            search("every fault", every_fault, |tally| tally.faults, self.faults),
            search("power cuts", power_cuts, states, self.crash_states),
            search("written parents", written_parents, states, self.crash_states),
            search("every drop", every_drop, |tally| tally.dropped, self.drops),
            search("failed flushes", failed_flushes, |tally| tally.faults, self.faults),
        ];
        let mut seen = Seen::default();
        seen.subjects.extend(subjects.iter().map(|s| (s.name.clone(), Tally::default())));
        seen.promises.extend(searches.iter().map(|search| (search.name, Duration::ZERO)));
        let state = Mutex::new(State { seen, violation: None, next: 0 });
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        // The lock is released at the end of this statement. In a `while let`, the guard would live
                        // through the loop body.
                        let next = self.turn(&mut lock(&state), &searches, &subjects, start);
                        let Some((turn, search, subject)) = next else { break };
                        let jobs = (searches.len() * subjects.len()) as u64;
                        let effort = Effort {
                            seed: self.seed.wrapping_add(turn / jobs),
                            histories: 8,
                            requests: 16,
                            states: 40,
                        };
                        let began = Instant::now();
                        let verdict = (searches[search].promise)(&subjects[subject], &effort);
                        let mut state = lock(&state);
                        match verdict {
                            Ok(seen) => {
                                state.seen.total.add(&seen);
                                state.seen.subjects[subject].1.add(&seen);
                                state.seen.promises[search].1 += began.elapsed();
                            }
                            Err(violation) => state.violation = Some(violation),
                        }
                    }
                });
            }
        });
        let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (subject, (_, tally)) in subjects.iter().zip(&mut state.seen.subjects) {
            tally.distinct_states = subject.distinct();
            state.seen.total.distinct_states += tally.distinct_states;
        }
        match state.violation {
            Some(violation) => Err(violation),
            None => Ok(state.seen),
        }
    }

    /// Returns the next job: its turn, and the indices of the search and the subject.
    fn turn(
        &self,
        state: &mut State,
        searches: &[Search],
        subjects: &[Subject],
        start: Instant,
    ) -> Option<(u64, usize, usize)> {
        if state.violation.is_some() {
            return None;
        }
        let reached = |search: &Search, subject: usize| {
            let (_, tally) = &state.seen.subjects[subject];
            let shares: u64 = subjects.iter().map(|subject| subject.weight).sum();
            let share = search.wanted * subjects[subject].weight;
            (search.count)(tally) >= share.div_ceil(shares.max(1))
        };
        let all = searches.iter().all(|search| (0..subjects.len()).all(|at| reached(search, at)));
        if all && start.elapsed() >= self.at_least {
            return None;
        }
        loop {
            let turn = state.next;
            state.next += 1;
            let search = turn as usize % searches.len();
            let subject = turn as usize / searches.len() % subjects.len();
            let first_round = turn < (searches.len() * subjects.len()) as u64;
            if all || first_round || !reached(&searches[search], subject) {
                return Some((turn, search, subject));
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
