//! Promise: a disk holds what was written to it after any sequence of operations.

use super::Effort;
use super::search::Search;
use super::stage::Stage;
use crate::exec::block_on;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;

/// Compares a disk with a model under random requests: reads, writes, zeroes, discards, flushes, reopening, process
/// death, compaction, resizing, emptying.
pub fn random_requests(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let search = Search {
        promise: "random requests",
        subject,
        golden: &golden,
        seed: effort.seed,
        histories: effort.histories,
    };
    search.run(
        |history| {
            let mut rng = Rng::new(history.seed);
            let mut ops = search.requests(&mut rng, effort.requests, true)?;
            for op in &mut ops {
                if rng.one_in(20) {
                    *op = Op::Kill;
                }
            }
            Ok(ops)
        },
        |ops, _| play(subject, &golden, ops),
        |ops, _, _| play(subject, &golden, ops).err().map(|what| (what, None)),
    )
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
