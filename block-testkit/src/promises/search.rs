//! Playing random histories, and shortening one that breaks a promise.

use super::broken;
use super::stage::Stage;
use crate::exec::block_on;
use crate::ops::{Op, shrink};
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;

/// One promise, and how many histories of one subject it is tried on.
pub(super) struct Search<'a> {
    pub promise: &'static str,
    pub subject: &'a Subject,
    pub golden: &'a Golden,
    /// The seed of the first history.
    pub seed: u64,
    pub histories: u64,
}

/// A history, by its number from 0 and by the seed of its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    pub number: u64,
    pub seed: u64,
}

/// What is wrong, and under which circumstance.
pub(super) type Breach = (String, Option<String>);

impl Search<'_> {
    /// Plays each history: `script` makes its requests, `play` plays them. Where `play` fails, `again` looks for the
    /// same breach in ever shorter lists. It gets what `play` failed with, and the search may have to try other
    /// circumstances: in a shorter list the same fault strikes elsewhere.
    ///
    /// # Errors
    /// The first history that breaks the promise, as short as it gets.
    pub(super) fn run<C>(
        &self,
        script: impl Fn(&History) -> Result<Vec<Op>, String>,
        play: impl Fn(&[Op], &History) -> Result<Tally, C>,
        again: impl Fn(&[Op], &History, &C) -> Option<Breach>,
    ) -> Verdict {
        let mut tally = Tally::default();
        let mut rng = Rng::new(self.seed);
        for number in 0..self.histories {
            let history = History { number, seed: rng.roll() };
            let report = |ops: &[Op], what, when| {
                broken(self.promise, self.subject, history.seed, ops, what, when)
            };
            let ops = script(&history).map_err(|what| report(&[], what, None))?;
            match play(&ops, &history) {
                Ok(seen) => tally.add(&seen),
                Err(circumstance) => {
                    let find = |ops: &[Op]| again(ops, &history, &circumstance);
                    let ops = shrink(&ops, |ops| find(ops).is_some());
                    let (what, when) = find(&ops).unwrap_or_default();
                    return Err(report(&ops, what, when));
                }
            }
        }
        Ok(tally)
    }

    /// Random requests that fit the subject; with `maintenance`, some of them work on the whole image.
    pub(super) fn requests(
        &self,
        rng: &mut Rng,
        count: usize,
        maintenance: bool,
    ) -> Result<Vec<Op>, String> {
        let stage = block_on(Stage::open(self.subject, self.golden))?;
        Ok(stage.ground(self.golden, maintenance).ops(rng, count))
    }
}
