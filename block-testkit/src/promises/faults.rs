//! Promise: a failed request affects only itself, and a retry that succeeds is durable.

use super::Effort;
use super::crashes::{Exploration, explore};
use super::search::Search;
use super::stage::{Setback, Stage};
use crate::crash::Level;
use crate::exec::block_on;
use crate::fault::{Fault, Half, OpKind, Rule};
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::Rng;
use block_core::ErrorKind;

/// The caller's reaction to a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Sends the request again immediately, like a guest whose disk was briefly full.
    Retry,
    /// Continues with the next request.
    GoOn,
}

/// Fails every storage request of random histories, one at a time and in every way, and continues.
///
/// A struck request fails and leaves old or new sectors in its block. The other blocks keep their content. A retry that
/// succeeds is still there after reopening. The check finds leaks at most.
pub fn every_fault(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let search = Search {
        promise: "every fault",
        subject,
        golden: &golden,
        seed: effort.seed ^ 0xFA17,
        histories: effort.histories.div_ceil(4),
    };
    search.run(
        |history| search.requests(&mut Rng::new(history.seed), effort.requests.min(12), true),
        |ops, _| {
            let mut tally = Tally::default();
            for rule in rules() {
                for skip in 0.. {
                    let rule = rule.clone().after(skip);
                    let manner = if skip % 2 == 0 { Manner::Retry } else { Manner::GoOn };
                    let cuts = if skip % 16 == 0 { 2 } else { 0 };
                    match play(subject, &golden, ops, &rule, manner, cuts) {
                        Ok(seen) if seen.faults == 0 => break,
                        Ok(seen) => tally.add(&seen),
                        Err(_) => return Err((rule, manner, cuts)),
                    }
                }
            }
            Ok(tally)
        },
        |ops, _, (rule, manner, cuts)| {
            let (rule, what) = find(subject, &golden, ops, rule, *manner, *cuts)?;
            Some((what, Some(format!("{rule:?}, then {manner:?}"))))
        },
    )
}

fn rules() -> Vec<Rule> {
    let io = ErrorKind::Io;
    let full = ErrorKind::NoSpace;
    vec![
        Rule::once(OpKind::CHANGES, Fault::Fail(io)),
        Rule::once(OpKind::TAKES_ROOM, Fault::Fail(full)),
        Rule::once(OpKind::CHANGES, Fault::Landed(io)),
        Rule::once(OpKind::TAKES_ROOM, Fault::Torn(Half::First, full)),
        Rule::once(OpKind::TAKES_ROOM, Fault::Torn(Half::Second, io)),
        Rule::once(&[OpKind::Read], Fault::Fail(io)),
        Rule::once(OpKind::CHANGES, Fault::Fail(io)).times(3),
        Rule::once(OpKind::TAKES_ROOM, Fault::Fail(full)).forever(),
    ]
}

/// In a shorter list the same fault strikes elsewhere: looks at every place for one that breaks.
fn find(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    rule: &Rule,
    manner: Manner,
    cuts: usize,
) -> Option<(Rule, String)> {
    for skip in 0..500 {
        let rule = rule.clone().after(skip);
        match play(subject, golden, ops, &rule, manner, cuts) {
            Ok(seen) if seen.faults == 0 => return None,
            Ok(_) => {}
            Err(what) => return Some((rule, what)),
        }
    }
    None
}

/// Replays a list of requests with every fault at every storage request, both with and without retrying the failed one.
///
/// # Errors
/// Describes the violation, and the fault that caused it.
pub fn fault_everywhere(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
) -> Result<Tally, (String, String)> {
    let mut tally = Tally::default();
    for rule in rules() {
        for manner in [Manner::Retry, Manner::GoOn] {
            for skip in 0.. {
                let rule = rule.clone().after(skip);
                let seen = play(subject, golden, ops, &rule, manner, 2)
                    .map_err(|what| (what, format!("{rule:?}, then {manner:?}")))?;
                tally.add(&seen);
                if seen.faults == 0 {
                    break;
                }
            }
        }
    }
    Ok(tally)
}

fn play(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    rule: &Rule,
    manner: Manner,
    cuts: usize,
) -> Result<Tally, String> {
    let mut stage = super::caught(|| block_on(history(subject, golden, ops, rule, manner)))?;
    stage.device = None;
    if cuts == 0 || stage.tally.faults == 0 {
        return Ok(stage.tally);
    }
    // The image must also be sound after a power cut at any moment of this history.
    let how = Exploration {
        seed: rule.skip,
        level: Level::DEFAULT,
        states: cuts,
        depth: 1,
        parents: false,
    };
    explore(&stage, subject, golden, how).map_err(|(what, when)| format!("{what} ({when})"))
}

async fn history(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    rule: &Rule,
    manner: Manner,
) -> Result<Stage, String> {
    let mut stage = Stage::open(subject, golden).await?;
    stage.faults.add(rule.clone());
    let once = rule.times == 1;
    for op in ops {
        if !op.fits(stage.model.sectors()) {
            continue;
        }
        let before = stage.faults.injected();
        let error = match stage.step(op).await {
            Ok(()) => continue,
            Err(Setback::Wrong(what)) => return Err(format!("{op}: {what}")),
            Err(Setback::Refused(error)) => error,
        };
        if stage.faults.injected() == before {
            return Err(format!("{op} fails although nothing struck it: {error:?}"));
        }
        // The rule may strike the following reads too. Then there is nothing to compare.
        match stage.read_back().await {
            Err(Setback::Wrong(what)) => return Err(format!("after {op} failed: {what}")),
            Err(Setback::Refused(error)) if once => {
                return Err(format!("after {op} failed, reading fails: {error:?}"));
            }
            _ => {}
        }
        if manner == Manner::Retry && once {
            stage.step(op).await.map_err(|setback| setback.text(format!("retry of {op}")))?;
        }
    }
    stage.tally.faults = stage.faults.injected();
    stage.faults.clear();
    stage.read_back().await.map_err(|setback| setback.text("reading after the faults"))?;
    let flush = stage.step(&Op::Flush).await;
    flush.map_err(|setback| setback.text("the flush after the faults"))?;
    stage.audit().await.map_err(|what| format!("after faults, a flush and reopening: {what}"))?;
    Ok(stage)
}
