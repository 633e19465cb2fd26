//! Promise: a power cut at any moment, leaving any state, loses nothing that was flushed and invents no data.

use std::cell::Cell;

use super::Effort;
use super::search::{History, Search};
use super::stage::Stage;
use crate::crash::{CrashState, Level};
use crate::exec::block_on;
use crate::model::Model;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, read_all, read_all_into};
use crate::rng::{Rng, mix};
use crate::stamp::{ANY, Id};
use block_core::Image;
use block_core::{Access, CheckMode};

/// Cuts the power at every moment of random histories, short and long, and examines the states it may leave.
///
/// Every state must pass the format's own check with leaks at most, and open for writing. Each sector must show its
/// last flushed content or a newer one. A write to every block must not change any other block.
pub fn power_cuts(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let search = Search {
        promise: "power cuts",
        subject,
        golden: &golden,
        seed: effort.seed ^ 0xC0A5,
        histories: effort.histories * 5,
    };
    let cut = |ops: &[Op], history: &History| {
        let level = match history.number % 8 {
            3 => Level::Atoms(4096),
            // A growing raw disk has no map to hide garbage in the new space.
            7 if golden.block_sectors.is_some() => Level::Garbage(512),
            7 => Level::Atoms(4096),
            _ => Level::DEFAULT,
        };
        cut_everywhere(subject, &golden, ops, history.seed, level, effort.states)
    };
    search.run(
        |history| {
            // Three requests expose most mistakes. Some need many.
            let few = 3 + history.number as usize % 3;
            let requests = if history.number % 3 == 2 { effort.requests } else { few };
            search.requests(&mut Rng::new(history.seed), requests, true)
        },
        cut,
        |ops, history, _| cut(ops, history).err().map(|(what, when)| (what, Some(when))),
    )
}

/// Replays a list of requests with a power cut at every moment.
///
/// # Errors
/// Describes the violation, and the state it occurs in.
pub fn cut_everywhere(
    subject: &Subject,
    golden: &Golden,
    ops: &[Op],
    seed: u64,
    level: Level,
    states: usize,
) -> Result<Tally, (String, String)> {
    let played = super::caught(|| {
        block_on(async {
            let mut stage = Stage::open(subject, golden).await?;
            for op in ops {
                if op.fits(stage.model.sectors()) {
                    stage.step(op).await.map_err(|setback| setback.text(op))?;
                }
            }
            stage.parents_untouched()?;
            Ok(stage)
        })
    });
    let mut stage = played.map_err(|what| (what, "before any power cut".to_owned()))?;
    stage.device = None;
    explore(&stage, subject, golden, Exploration { seed, level, states, depth: 0, parents: false })
}

/// Parameters of the exploration of a history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exploration {
    pub(super) seed: u64,
    pub(super) level: Level,
    /// Most states per power cut.
    pub(super) states: usize,
    /// Number of power cuts before this one.
    pub(super) depth: u32,
    /// Whether parents may have been written to, and are examined too.
    pub(super) parents: bool,
}

/// Cuts the power at every moment of a recorded history.
pub(super) fn explore(
    stage: &Stage,
    subject: &Subject,
    golden: &Golden,
    how: Exploration,
) -> Result<Tally, (String, String)> {
    let mut replay = stage.world.replay();
    let mut moments = replay.moments();
    moments.extend(stage.ledger.promises());
    moments.sort_unstable();
    moments.dedup();
    let mut tally = stage.tally;
    for moment in moments {
        let model = stage.ledger.at(moment);
        let seed = mix(how.seed ^ moment);
        for state in replay.cut(moment, how.level, how.states, seed) {
            tally.crash_states += 1;
            subject.saw(&state.disks);
            tally.partial_states += u64::from(state.is_partial());
            tally.sectors += golden.sectors;
            let one = Rng::new(mix(seed ^ tally.crash_states));
            let seen = super::caught(|| {
                block_on(examine(subject, golden, &state, model.clone(), one, how))
            });
            let deeper = seen.map_err(|what| {
                let cut = if how.depth == 0 { "power cut" } else { "second power cut" };
                let when = format!(
                    "{cut} at moment {moment} ({:?}), crash state {}",
                    how.level, state.choice
                );
                (what, when)
            })?;
            tally.add(&deeper);
        }
    }
    Ok(tally)
}

/// First number of the writes after a power cut, far from those before it.
const AFTERWARDS: Id = 1 << 24;

thread_local! {
    /// A buffer for the content of a disk. Without it, most of a state's time would be spent allocating memory.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

async fn examine(
    subject: &Subject,
    golden: &Golden,
    state: &CrashState,
    mut model: Model,
    mut rng: Rng,
    how: Exploration,
) -> Result<Tally, String> {
    let images: Vec<Image> = state.disks.iter().map(|(_, image)| image.clone()).collect();
    if let Some(top) = images.last() {
        subject.look(top)?;
    }
    let rig = Rig::of_images(subject, images.clone());
    rig.sound().await.map_err(|what| format!("after the power cut, {what}"))?;
    if how.parents {
        rig.sound_below().await.map_err(|what| format!("after the power cut, {what}"))?;
    }
    let fails = |doing: &'static str| move |error| format!("{doing} after the cut: {error:?}");
    let device = rig.open(Access::ReadWrite).await.map_err(fails("opening"))?;
    let mut bytes = BUFFER.take();
    read_all_into(&*device, &mut bytes).await.map_err(fails("reading"))?;
    model.settle(&bytes).map_err(|what| format!("after the power cut, {what}"))?;
    if how.depth == 0 && rng.one_in(64) {
        drop(device);
        return again(subject, golden, images, &model, rng, how).await;
    }

    // A write to every block must change that block only.
    let sectors = device.sector_count();
    for block in 0..sectors.div_ceil(golden.unit()) {
        let first = block * golden.unit();
        let sector = first + rng.within(0..golden.unit().min(sectors - first));
        let op = Op::Write { sector, count: 1, fua: false };
        let id = AFTERWARDS + block as Id;
        op.send(&*device, id).await.map_err(fails("writing"))?;
        model.exact(&op, id, &golden.content);
    }
    device.flush().await.map_err(fails("flushing"))?;
    read_all_into(&*device, &mut bytes).await.map_err(fails("reading back"))?;
    model.settle(&bytes).map_err(|what| format!("after writing to every block, {what}"))?;
    BUFFER.set(bytes);
    drop(device);
    rig.sound().await.map_err(|what| format!("after writing to every block, {what}"))?;
    if rng.one_in(8) {
        repair(subject, &rig, &mut model).await?;
    }
    Ok(Tally::default())
}

/// Checks that a repair leaves nothing to repair and does not change what is read.
async fn repair(subject: &Subject, rig: &Rig, model: &mut Model) -> Result<(), String> {
    if subject.driver().descriptor().can_repair {
        let fixed = rig.check(CheckMode::RepairAll).await;
        fixed.map_err(|error| format!("repairing after the cut: {error:?}"))?;
        let report = rig.sound().await?;
        if report.leaks > 0 {
            return Err(format!("{} leaks are left after a repair", report.leaks));
        }
    }
    let device = rig.open(Access::Read).await.map_err(|e| format!("opening again: {e:?}"))?;
    let bytes = read_all(&*device).await.map_err(|e| format!("reading again: {e:?}"))?;
    model.settle(&bytes).map_err(|what| format!("after a repair, {what}"))
}

/// Restores the power, sends a few requests, and cuts the power again.
async fn again(
    subject: &Subject,
    golden: &Golden,
    images: Vec<Image>,
    model: &Model,
    mut rng: Rng,
    how: Exploration,
) -> Result<Tally, String> {
    let content: Vec<Id> = (0..model.sectors()).map(|sector| model.allowed(sector)[0]).collect();
    if content.contains(&ANY) {
        return Ok(Tally::default());
    }
    let sectors = model.sectors();
    let next = Golden { images, sectors, content, next_id: 2 * AFTERWARDS, ..golden.clone() };
    let mut stage = Stage::open(subject, &next).await?;
    for op in stage.ground(&next, false).ops(&mut rng, 3) {
        stage.step(&op).await.map_err(|setback| setback.text(&op))?;
    }
    stage.device = None;
    let how = Exploration { states: 4, depth: how.depth + 1, ..how };
    explore(&stage, subject, &next, how).map_err(|(what, when)| format!("{what} ({when})"))
}
