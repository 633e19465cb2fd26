//! Promise: a disk holds what was written to it after any sequence of operations.

use super::stage::Stage;
use super::{Effort, broken};
use crate::exec::block_on;
use crate::ops::{Op, shrink};
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;

/// Compares a disk with a model under random requests: reads, writes, zeroes, discards, flushes, reopening, process
/// death, compaction, resizing, emptying.
pub fn random_requests(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    let mut rng = Rng::new(effort.seed);
    for _ in 0..effort.histories {
        let seed = rng.roll();
        let ops = block_on(script(subject, &golden, seed, effort.requests))
            .map_err(|what| broken("random requests", subject, seed, &[], what, None))?;
        match play(subject, &golden, &ops) {
            Ok(seen) => tally.add(&seen),
            Err(_) => {
                let ops = shrink(&ops, |ops| play(subject, &golden, ops).is_err());
                let what = play(subject, &golden, &ops).err().unwrap_or_default();
                return Err(broken("random requests", subject, seed, &ops, what, None));
            }
        }
    }
    Ok(tally)
}

async fn script(
    subject: &Subject,
    golden: &Golden,
    seed: u64,
    requests: usize,
) -> Result<Vec<Op>, String> {
    let stage = Stage::open(subject, golden).await?;
    let mut rng = Rng::new(seed);
    let mut ops = stage.ground(golden, true).ops(&mut rng, requests);
    for op in &mut ops {
        if rng.one_in(20) {
            *op = Op::Kill;
        }
    }
    Ok(ops)
}

fn play(subject: &Subject, golden: &Golden, ops: &[Op]) -> Result<Tally, String> {
    super::caught(|| {
        block_on(async {
            let mut stage = Stage::open(subject, golden).await?;
            for op in ops {
                if !op.fits(stage.model.sectors()) {
                    continue;
                }
                stage.step(op).await.map_err(|setback| setback.text(op))?;
            }
            stage.read_back().await.map_err(|setback| setback.text("reading all"))?;
            stage.step(&Op::Reopen).await.map_err(|setback| setback.text("close and open"))?;
            stage.audit().await?;
            Ok(stage.tally)
        })
    })
}
