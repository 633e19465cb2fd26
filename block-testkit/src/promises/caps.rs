//! Promise: an image supports what its capabilities declare, and refuses everything else.

use super::stage::Stage;
use super::{Effort, broken};
use crate::exec::block_on;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, read_all};
use block_core::Image;
use block_core::{
    Access, CheckMode, DeviceCaps, ErrorKind, ExtentList, Options, Preallocation, Result,
    SECTOR_SIZE,
};

/// Sends every optional request to an image opened for writing. Each works if declared, and fails with `Unsupported`
/// otherwise.
pub fn caps(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let run = || block_on(declared(subject, &golden));
    super::caught(run).map_err(|what| broken("caps", subject, effort.seed, &[], what, None))
}

fn agree(declared: bool, what: &str, answer: Result<()>) -> std::result::Result<(), String> {
    match (declared, answer) {
        (true, Ok(())) => Ok(()),
        (false, Err(error)) if error.kind() == ErrorKind::Unsupported => Ok(()),
        (true, Err(error)) => Err(format!("{what} is declared and fails: {error:?}")),
        (false, Ok(())) => Err(format!("{what} is not declared and works")),
        (false, Err(error)) => Err(format!("{what}: wanted unsupported, got {error:?}")),
    }
}

async fn declared(subject: &Subject, golden: &Golden) -> std::result::Result<Tally, String> {
    let mut tally = Tally::default();
    let unit = golden.unit();
    let optional = [
        (DeviceCaps::COMPACT, "compact", Op::Compact),
        (DeviceCaps::GROW, "growing", Op::Resize(golden.sectors + unit)),
        (DeviceCaps::SHRINK, "shrinking", Op::Resize(golden.sectors - unit)),
        (DeviceCaps::MAKE_EMPTY, "make_empty", Op::MakeEmpty),
    ];
    for (cap, what, op) in optional {
        let mut stage = Stage::open(subject, golden).await?;
        let caps = stage.disk().info().caps;
        if !caps.contains(DeviceCaps::WRITE) {
            return Err("opened for writing, and writing is not declared".into());
        }
        for sector in [0, unit + 1] {
            let write = Op::Write { sector, count: unit / 2, fua: false };
            stage.step(&write).await.map_err(|setback| setback.text(write))?;
        }
        tally.requests += 1;
        if caps.contains(cap) {
            stage.step(&op).await.map_err(|setback| setback.text(&op))?;
        } else {
            agree(false, what, op.send(&*stage.disk(), 1).await.map(drop))?;
        }
        stage.read_back().await.map_err(|setback| setback.text(format!("after {what}")))?;
        stage.step(&Op::Reopen).await.map_err(|setback| setback.text("reopening"))?;
        stage.audit().await.map_err(|text| format!("after {what}: {text}"))?;
        tally.add(&stage.tally);
    }
    let stage = Stage::open(subject, golden).await?;
    let device = stage.disk();
    let caps = device.info().caps;
    agree(caps.contains(DeviceCaps::AMEND), "amend", device.amend(&Options::new()).await)?;
    let odd = device.resize(golden.sectors * SECTOR_SIZE + 1, Preallocation::Off).await;
    match odd {
        Err(_) => Ok(tally),
        Ok(()) => Err("a size that is no multiple of 512 is accepted".into()),
    }
}

/// Checks that an image opened for reading refuses every change, and that no read changes a byte of any file.
pub fn read_only(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let run = || block_on(untouched(subject, &golden));
    super::caught(run).map_err(|what| broken("read only", subject, effort.seed, &[], what, None))
}

async fn untouched(subject: &Subject, golden: &Golden) -> std::result::Result<Tally, String> {
    // Puts some data into the top layer.
    let mut stage = Stage::open(subject, golden).await?;
    let write = Op::Write { sector: 5, count: golden.unit(), fua: false };
    stage.step(&write).await.map_err(|setback| setback.text(&write))?;
    stage.step(&Op::Reopen).await.map_err(|setback| setback.text("reopening"))?;
    stage.device = None;
    let before: Vec<Image> = stage.disks.iter().map(|disk| disk.snapshot()).collect();

    let rig = Rig::of_images(subject, before.clone());
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    let device = rig.open(Access::Read).await.map_err(fails("opening for reading"))?;
    if device.info().caps.contains(DeviceCaps::WRITE) {
        return Err("opened for reading, and writing is declared".into());
    }
    let bytes = read_all(&*device).await.map_err(fails("reading"))?;
    stage.model.settle(&bytes)?;
    let size = golden.sectors * SECTOR_SIZE;
    let mut extents = ExtentList::new();
    device.extents(0..size, &mut extents).await.map_err(fails("extents"))?;
    device.is_allocated(0, golden.sectors).await.map_err(fails("is_allocated"))?;
    drop(device.map(0..size).await);
    device.flush().await.map_err(fails("flush"))?;
    let changes = [
        Op::Write { sector: 0, count: 1, fua: false },
        Op::Write { sector: 0, count: 1, fua: true },
        Op::Zeroes { sector: 0, count: 1, unmap: true, fua: false },
        Op::Discard { sector: 0, count: 1 },
        Op::Compact,
        Op::MakeEmpty,
        Op::Resize(golden.sectors + 1),
    ];
    for op in changes {
        stage.tally.requests += 1;
        match op.send(&*device, 1).await {
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Unsupported) => {}
            Err(error) => return Err(format!("{op}: wanted read-only, got {error:?}")),
            Ok(_) => return Err(format!("{op} succeeds on an image opened for reading")),
        }
    }
    if device.amend(&Options::new()).await.is_ok() {
        return Err("amend succeeds on an image opened for reading".into());
    }
    device.close().await.map_err(fails("close"))?;
    drop(device);
    if subject.driver().descriptor().can_check {
        rig.check(CheckMode::Report).await.map_err(fails("check"))?;
    }
    for (layer, (before, after)) in before.iter().zip(rig.images()).enumerate() {
        if let Some(at) = before.first_difference(&after) {
            return Err(format!("layer {layer} changed at byte {at:#x}"));
        }
    }
    Ok(stage.tally)
}
