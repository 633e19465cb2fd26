//! Promise: while a parent is written or detached, the child reads as before, even after a power cut.

use super::Effort;
use super::crashes::{Exploration, explore};
use super::search::{History, Search};
use super::stage::Stage;
use crate::crash::Level;
use crate::exec::block_on;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, read_all};
use crate::rng::Rng;
use block_core::chain;
use block_core::{Access, DeviceCaps, Disk};

/// An operation on a chain after its child was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Commits the child's content into its parent. The child keeps it.
    Commit,
    /// Commits the child's content into its parent, then empties the child.
    CommitAndEmpty,
    /// Copies the parents' content into the child, which then has no parent.
    Rebase,
}

/// Writes to a child, then commits it into its parent or makes it independent of it. Cuts the power of all images
/// together at every moment.
///
/// In every state all images pass the format's check. Whatever the state of the parent, the child shows what a power
/// cut may leave of its own requests. After the last flush, the parent holds what was committed. A subject without
/// parents passes.
pub fn written_parents(subject: &Subject, effort: &Effort) -> Verdict {
    if !subject.has_parents() {
        return Ok(Tally::default());
    }
    let golden = subject.golden();
    let search = Search {
        promise: "written parents",
        subject,
        golden: &golden,
        seed: effort.seed ^ 0xFA7E,
        histories: effort.histories,
    };
    let work = |history: &History| {
        [Work::Commit, Work::CommitAndEmpty, Work::Rebase][history.number as usize % 3]
    };
    let cut = |ops: &[Op], history: &History| {
        cut_work(subject, &golden, ops, work(history), history.seed, effort.states)
    };
    search.run(
        |history| {
            let requests = 2 + history.number as usize % 4;
            search.requests(&mut Rng::new(history.seed), requests, false)
        },
        cut,
        |ops, history, _| {
            let (what, when) = cut(ops, history).err()?;
            Some((what, Some(format!("{:?}, {when}", work(history)))))
        },
    )
}

fn cut_work(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    work: Work,
    seed: u64,
    states: usize,
) -> Result<Tally, (String, String)> {
    let played = super::caught(|| block_on(play(subject, golden, ops, work)));
    let mut stage = played.map_err(|what| (what, "before any power cut".to_owned()))?;
    stage.device = None;
    let how = Exploration { seed, level: Level::DEFAULT, states, depth: 0, parents: true };
    explore(&stage, subject, golden, how)
}

async fn play(subject: &Subject, golden: &Golden, ops: &[Op], work: Work) -> Result<Stage, String> {
    let mut stage = Stage::open_with(subject, golden, Access::ReadWrite).await?;
    for op in ops {
        stage.step(op).await.map_err(|setback| setback.text(op))?;
    }
    let child = Disk::new(stage.disk());
    let shown = read_all(&*stage.disk()).await.map_err(|error| format!("reading: {error:?}"))?;
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    match work {
        Work::Rebase => {
            chain::rebase(&child, None, &|_, _| true).await.map_err(fails("rebasing"))?;
            let facts = subject.driver().descriptor().amend_options;
            if chain::records_parent(facts) {
                chain::adopt(&child, facts, None).await.map_err(fails("adopting"))?;
            }
        }
        Work::Commit | Work::CommitAndEmpty => {
            chain::commit(&child, &|_, _| true).await.map_err(fails("committing"))?;
            committed(subject, &stage, &shown).await?;
            if work == Work::CommitAndEmpty && child.info().caps.contains(DeviceCaps::MAKE_EMPTY) {
                child.device().make_empty().await.map_err(fails("emptying"))?;
            }
        }
    }
    stage.step(&Op::Flush).await.map_err(|setback| setback.text("the last flush"))?;
    stage.read_back().await.map_err(|setback| setback.text("reading at the end"))?;
    Ok(stage)
}

/// Checks that the parent durably holds all that the child shows.
async fn committed(subject: &Subject, stage: &Stage, shown: &[u8]) -> Result<(), String> {
    let now = stage.world.tick();
    for state in stage.world.replay().cut(now, Level::LastFlush, 1, 0) {
        let images = state.disks.iter().map(|(_, image)| image.clone()).collect();
        let rig = Rig::of_images(subject, images);
        let parent = rig.open_below(Access::Read).await;
        let parent = parent.map_err(|error| format!("opening the parent: {error:?}"))?;
        let bytes = read_all(&*parent).await.map_err(|e| format!("reading the parent: {e:?}"))?;
        if bytes.len() < shown.len() || bytes[..shown.len()] != *shown {
            return Err("a commit is done, and not all of it is durable in the parent".to_owned());
        }
    }
    Ok(())
}
