//! Promise: extents, allocation and maps agree with what is read.

use super::stage::Stage;
use super::{Effort, broken};
use crate::exec::{block_on, poll_times};
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject, read_all};
use crate::rng::Rng;
use crate::stamp::{Content, SECTOR, ZERO, identify};
use block_core::{ExtentFlags, ExtentList, Place, SECTOR_SIZE};

/// Checks after each of many random requests that extents and runs tile the disk and agree with what is read.
pub fn extents(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    let mut rng = Rng::new(effort.seed ^ 0xE47E);
    for _ in 0..effort.histories.div_ceil(4) {
        let seed = rng.roll();
        let run = || block_on(history(subject, &golden, seed, effort.requests));
        let seen =
            super::caught(run).map_err(|what| broken("extents", subject, seed, &[], what, None))?;
        tally.add(&seen);
    }
    super::caught(|| block_on(pinned(subject, &golden)))
        .map_err(|what| broken("pinned places", subject, effort.seed, &[], what, None))?;
    Ok(tally)
}

async fn history(
    subject: &Subject,
    golden: &Golden,
    seed: u64,
    requests: usize,
) -> Result<Tally, String> {
    let mut stage = Stage::open(subject, golden).await?;
    let mut rng = Rng::new(seed);
    for op in stage.ground(golden, true).ops(&mut rng, requests) {
        if !op.fits(stage.model.sectors()) {
            continue;
        }
        stage.step(&op).await.map_err(|setback| setback.text(&op))?;
        agree(&stage, &mut rng).await.map_err(|what| format!("after {op}: {what}"))?;
        stage.tally.requests += 1;
    }
    Ok(stage.tally)
}

async fn agree(stage: &Stage, rng: &mut Rng) -> Result<(), String> {
    let device = stage.disk();
    let sectors = device.sector_count();
    let size = sectors * SECTOR_SIZE;
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    let bytes = read_all(&*device).await.map_err(fails("reading"))?;
    let part = |start: u64, len: u64| &bytes[start as usize..(start + len) as usize];

    let mut list = ExtentList::new();
    device.extents(0..size, &mut list).await.map_err(fails("extents"))?;
    let mut at = 0;
    for extent in &list {
        if extent.start != at || extent.len == 0 {
            return Err(format!("the extents do not tile the disk at byte {at}: {extent:?}"));
        }
        at = extent.end();
        if extent.is_zero() && part(extent.start, extent.len).iter().any(|byte| *byte != 0) {
            return Err(format!("an extent of zeros does not read as zeros: {extent:?}"));
        }
        if let (Some(offset), 0) = (extent.offset, extent.depth) {
            let mut stored = vec![0; extent.len as usize];
            device.storage().read_at(offset, &mut stored).await.map_err(fails("the place"))?;
            if !extent.is_zero() && stored != part(extent.start, extent.len) {
                return Err(format!("what is stored at {offset:#x} is not what {extent:?} reads"));
            }
        }
    }
    if at != size {
        return Err(format!("the extents end at byte {at}, the disk at {size}"));
    }
    for _ in 0..4 {
        let start = rng.within(0..sectors) * SECTOR_SIZE;
        let end = start + rng.within(1..sectors - start / SECTOR_SIZE + 1) * SECTOR_SIZE;
        let mut some = ExtentList::new();
        device.extents(start..end, &mut some).await.map_err(fails("extents of a part"))?;
        let covers = some.as_slice().first().map(|e| e.start) == Some(start);
        if !covers || some.end() != Some(end) {
            return Err(format!("the extents of {start}..{end} do not cover it: {some:?}"));
        }
    }
    allocation(stage, &list, rng).await?;

    let runs = device.map(0..size).await.map_err(fails("map"))?;
    let mut at = 0;
    for run in &runs.runs {
        if run.start != at || run.len == 0 {
            return Err(format!("the runs do not tile the disk at byte {at}: {run:?}"));
        }
        at += run.len;
        let mut stored = vec![0; run.len as usize];
        match &run.place {
            Place::Stored { storage, offset } => {
                storage.read_at(*offset, &mut stored).await.map_err(fails("a mapped place"))?;
            }
            Place::Zero => {}
            Place::Opaque => continue,
        }
        if stored != part(run.start, run.len) {
            return Err(format!("a run does not hold what is read: {run:?}"));
        }
    }
    if at == size { Ok(()) } else { Err(format!("the runs end at byte {at}, the disk at {size}")) }
}

async fn allocation(stage: &Stage, list: &ExtentList, rng: &mut Rng) -> Result<(), String> {
    let device = stage.disk();
    let sectors = device.sector_count();
    // A DATA sector of this layer is allocated, and an allocated sector is PRESENT. Over a parent, a PRESENT sector is
    // also allocated. Otherwise the format decides whether an unwritten block of a base is PRESENT.
    let has_entry =
        if device.parent().is_some() { ExtentFlags::PRESENT } else { ExtentFlags::DATA };
    let flags = |sector: u64| {
        let at = sector * SECTOR_SIZE;
        let here = |extent: &&block_core::Extent| extent.start <= at && at < extent.end();
        list.into_iter()
            .find(here)
            .filter(|extent| extent.depth == 0)
            .map_or(ExtentFlags::empty(), |extent| extent.flags)
    };
    for _ in 0..6 {
        let sector = rng.within(0..sectors);
        let count = rng.within(1..sectors - sector + 1);
        let answer = device.is_allocated(sector, count).await;
        let answer = answer.map_err(|error| format!("is_allocated {sector}+{count}: {error:?}"))?;
        if answer.sectors == 0 || answer.sectors > count {
            return Err(format!("is_allocated {sector}+{count} answers for {answer:?}"));
        }
        let odd = (sector..sector + answer.sectors).find(|at| {
            if answer.allocated {
                !flags(*at).contains(ExtentFlags::PRESENT)
            } else {
                flags(*at).contains(has_entry)
            }
        });
        if let Some(odd) = odd {
            return Err(format!(
                "is_allocated {sector}+{count} says {answer:?}, the extents differ at {odd}"
            ));
        }
    }
    Ok(())
}

/// Checks that no other data is placed at a mapped location while the map is held.
async fn pinned(subject: &Subject, golden: &Golden) -> Result<(), String> {
    let mut stage = Stage::open(subject, golden).await?;
    let unit = golden.unit();
    let first = Op::Write { sector: 0, count: unit, fua: true };
    stage.step(&first).await.map_err(|setback| setback.text(&first))?;
    let device = stage.disk();
    let held = device.map(0..unit * SECTOR_SIZE).await.map_err(|error| format!("{error:?}"))?;
    for op in [Op::Discard { sector: 0, count: unit }, Op::Flush] {
        // The request may have to wait for the map. Then it is dropped.
        let id = stage.fresh_id();
        let start = stage.world.tick();
        let done = poll_times(op.send(&*device, id), 50).is_some_and(|answer| answer.is_ok());
        let end = stage.world.tick();
        stage.record(&op, id, start, done.then_some(end));
    }
    for block in 1..golden.sectors / unit {
        let op = Op::Write { sector: block * unit, count: unit, fua: false };
        stage.step(&op).await.map_err(|setback| setback.text(&op))?;
    }
    for run in &held.runs {
        let Place::Stored { storage, offset } = &run.place else {
            continue;
        };
        let mut stored = vec![0; run.len as usize];
        // A location past the end of the file is as good as zeros. It must not hold another block's data.
        if storage.read_at(*offset, &mut stored).await.is_err() {
            continue;
        }
        for (sector, chunk) in (run.start / SECTOR_SIZE..).zip(stored.chunks_exact(SECTOR)) {
            let found = identify(chunk, sector);
            let own = stage.model.allowed(sector).iter().any(|id| found == Content::Written(*id));
            if !own && found != Content::Written(ZERO) {
                return Err(format!("the place mapped for sector {sector} holds {found}"));
            }
        }
    }
    drop(held);
    stage.step(&Op::Reopen).await.map_err(|setback| setback.text("reopening"))?;
    stage.audit().await
}
