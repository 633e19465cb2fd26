//! Promise: a future may be dropped at any await, and nothing but its own range is in doubt.

use super::stage::{Setback, Stage};
use super::{Effort, broken};
use crate::exec::{block_on, poll_times};
use crate::fault::Fate;
use crate::ops::{Op, shrink};
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;

/// Where a future is dropped, and what becomes of what it had begun.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The request, by its place in the list.
    at: usize,
    /// After so many polls.
    polls: usize,
    fate: Fate,
    /// Whether the same request is sent again at once.
    retry: bool,
}

/// Drops every request of random histories at every await, with every fate of the I/O under way.
pub fn every_drop(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    let mut rng = Rng::new(effort.seed ^ 0xD409);
    for _ in 0..effort.histories.div_ceil(4) {
        let seed = rng.roll();
        let ops = block_on(script(subject, &golden, seed, effort.requests.min(8)))
            .map_err(|what| broken("every drop", subject, seed, &[], what, None))?;
        for at in 0..ops.len() {
            for fate in Fate::ALL {
                for polls in 1.. {
                    let cut = Cut { at, polls, fate, retry: (at + polls) % 2 == 0 };
                    match play(subject, &golden, &ops, cut) {
                        Ok(None) => break,
                        Ok(Some(seen)) => tally.add(&seen),
                        Err(_) => return Err(report(subject, &golden, seed, &ops, cut)),
                    }
                }
            }
        }
    }
    Ok(tally)
}

/// Plays a list of requests and drops each of them at every await, with every fate of the I/O under way, and
/// both with and without sending it again.
///
/// # Errors
/// What is wrong, and after which drop.
pub fn drop_everywhere(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
) -> Result<Tally, (String, String)> {
    let mut tally = Tally::default();
    for (at, fate) in (0..ops.len()).flat_map(|at| Fate::ALL.map(|fate| (at, fate))) {
        for retry in [false, true] {
            for polls in 1.. {
                let cut = Cut { at, polls, fate, retry };
                match play(subject, golden, ops, cut) {
                    Ok(None) => break,
                    Ok(Some(seen)) => tally.add(&seen),
                    Err(what) => return Err((what, format!("{cut:?}"))),
                }
            }
        }
    }
    Ok(tally)
}

/// Shortens the list around the request that is dropped.
fn report(
    subject: &Subject,
    golden: &Golden,
    seed: u64,
    ops: &[Op],
    cut: Cut,
) -> Box<crate::report::Violation> {
    let find = |ops: &[Op]| {
        (0..ops.len())
            .flat_map(|at| (1..60).map(move |polls| Cut { at, polls, ..cut }))
            .find_map(|cut| play(subject, golden, ops, cut).err().map(|what| (cut, what)))
    };
    let ops = shrink(ops, |ops| find(ops).is_some());
    let (cut, what) = find(&ops).unwrap_or((cut, String::new()));
    broken("every drop", subject, seed, &ops, what, Some(format!("{cut:?}")))
}

async fn script(
    subject: &Subject,
    golden: &Golden,
    seed: u64,
    requests: usize,
) -> Result<Vec<Op>, String> {
    let stage = Stage::open(subject, golden).await?;
    Ok(stage.ground(golden, true).ops(&mut Rng::new(seed), requests))
}

/// `None`: the request was done before it could be dropped.
fn play(subject: &Subject, golden: &Golden, ops: &[Op], cut: Cut) -> Result<Option<Tally>, String> {
    super::caught(|| {
        block_on(async {
            let mut stage = Stage::open(subject, golden).await?;
            stage.faults.give_way(1);
            stage.faults.set_fate(cut.fate);
            for (at, op) in ops.iter().enumerate() {
                if !op.fits(stage.model.sectors()) {
                    continue;
                }
                if at != cut.at {
                    stage.step(op).await.map_err(|setback| setback.text(op))?;
                    continue;
                }
                if !drop_midway(&mut stage, op, cut).await? {
                    return Ok(None);
                }
            }
            stage.faults.give_way(0);
            stage.read_back().await.map_err(|setback| setback.text("reading after the drop"))?;
            let flush = stage.step(&Op::Flush).await;
            flush.map_err(|setback| setback.text("the flush after the drop"))?;
            stage.faults.land_all().await.map_err(|error| format!("landing: {error:?}"))?;
            stage.audit().await.map_err(|what| format!("after a drop and reopening: {what}"))?;
            stage.tally.dropped += 1;
            Ok(Some(stage.tally))
        })
    })
}

/// `false`: there was nothing to drop.
async fn drop_midway(stage: &mut Stage, op: &Op, cut: Cut) -> Result<bool, String> {
    if matches!(op, Op::Kill) {
        return Ok(false);
    }
    let id = stage.fresh_id();
    let start = stage.world.tick();
    let device = stage.disk();
    if poll_times(op.send(&*device, id), cut.polls).is_some() {
        return Ok(false);
    }
    stage.record(op, id, start, None);
    drop(device);
    let refused = |setback: Setback| setback.text(format!("{op}, sent again"));
    match op {
        // Half closed: whoever gives up on that opens the image again.
        Op::Reopen => stage.step(&Op::Kill).await.map_err(refused)?,
        // The size has to be known before more can be asked.
        Op::Resize(_) => stage.read_back().await.map_err(refused)?,
        _ => {}
    }
    if cut.retry {
        stage.step(op).await.map_err(refused)?;
    }
    Ok(true)
}
