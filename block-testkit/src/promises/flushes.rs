//! Promise: the data of a failed flush counts as lost, and no later flush claims otherwise.

use super::Effort;
use super::crashes::{Exploration, explore};
use super::search::Search;
use super::stage::{Setback, Stage};
use crate::crash::Level;
use crate::exec::block_on;
use crate::fault::{Fault, OpKind, Rule};
use crate::ops::{Change, Op};
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;
use block_core::ErrorKind;

/// Fails each flush of random histories like a kernel does. Unsaved data counts as clean from then on and some of it is
/// never written, but reads still show all of it.
///
/// The storage reports an error at that flush and at every later one. The struck request must fail, and nothing may be
/// reported durable until the image is opened again. After a power cut, everything saved by an earlier flush is there
/// and the image is sound.
pub fn failed_flushes(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let search = Search {
        promise: "failed flushes",
        subject,
        golden: &golden,
        seed: effort.seed ^ 0xF5C6,
        histories: effort.histories,
    };
    search.run(
        |history| {
            let mut rng = Rng::new(history.seed);
            let mut ops = search.requests(&mut rng, effort.requests.min(12), true)?;
            for op in &mut ops {
                if rng.one_in(4) {
                    *op = Op::Flush;
                }
            }
            ops.push(Op::Flush);
            Ok(ops)
        },
        |ops, _| {
            let mut tally = Tally::default();
            for skip in 0.. {
                match play(subject, &golden, ops, skip)? {
                    Some(seen) => tally.add(&seen),
                    None => break,
                }
            }
            Ok(tally)
        },
        |ops, _, _: &String| {
            let (skip, what) =
                (0..60).find_map(|n| play(subject, &golden, ops, n).err().map(|what| (n, what)))?;
            let when = format!("flush {skip} of the storage fails, and loses what it was to save");
            Some((what, Some(when)))
        },
    )
}

/// Replays the requests and fails the flush after the first `skip`. Returns `None` if there are not that many.
fn play(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    skip: u64,
) -> Result<Option<Tally>, String> {
    let mut stage = super::caught(|| block_on(history(subject, golden, ops, skip)))?;
    stage.device = None;
    if stage.tally.faults == 0 {
        return Ok(None);
    }
    let how =
        Exploration { seed: skip, level: Level::DEFAULT, states: 3, depth: 1, parents: false };
    explore(&stage, subject, golden, how)
        .map(Some)
        .map_err(|(what, when)| format!("{what} ({when})"))
}

async fn history(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    skip: u64,
) -> Result<Stage, String> {
    let mut stage = Stage::open(subject, golden).await?;
    stage.faults.add(Rule::once(&[OpKind::Flush], Fault::Forgotten(ErrorKind::Io)).after(skip));
    // Whether a change was acknowledged since the last good flush. Otherwise there is nothing to lose.
    let mut unsaved = false;
    for op in ops {
        if !op.fits(stage.model.sectors()) {
            continue;
        }
        let before = stage.faults.injected() > 0;
        let changes = op.change() != Change::Nothing;
        match stage.step(op).await {
            Ok(()) if before && (unsaved || changes) && op.makes_durable() => {
                return Err(format!("{op} succeeds after a flush has lost what it was to save"));
            }
            Ok(()) if !before && stage.faults.injected() > 0 => {
                return Err(format!("{op} succeeds although a flush in it failed"));
            }
            Ok(()) => unsaved = (unsaved || changes) && !op.flushes(),
            Err(Setback::Wrong(what)) => return Err(format!("{op}: {what}")),
            Err(Setback::Refused(error)) if stage.faults.injected() == 0 => {
                return Err(format!("{op} fails although nothing struck it: {error:?}"));
            }
            Err(Setback::Refused(_)) => match stage.read_back().await {
                Ok(()) => {}
                Err(setback) => return Err(setback.text(format!("reading after {op} failed"))),
            },
        }
    }
    stage.tally.faults = stage.faults.injected();
    Ok(stage)
}
