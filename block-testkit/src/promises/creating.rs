//! Promise: an image that was created can be used, and one that was not completed cannot be opened.

use std::sync::Arc;

use super::{Effort, broken};
use crate::crash::{Level, World};
use crate::exec::block_on;
use crate::fault::{Fault, FaultStorage, OpKind, Rule};
use crate::model::Model;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, layer_uri, read_all};
use crate::stamp::ZERO;
use block_core::Image;
use block_core::{Access, ErrorKind, OptionKind, Options, SECTOR_SIZE, Storage};

/// Tests every choice of every create option and odd sizes, with faults and power cuts during creation.
pub fn creating(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    for (options, size) in matrix(subject, &golden) {
        let mut one = subject.clone();
        for (name, value) in &options {
            one = one.option(name, value);
        }
        let seen = super::caught(|| block_on(make_and_use(&one, &golden, size)));
        let when = format!("options {options:?}, {size} bytes");
        match seen {
            Ok(seen) => tally.add(&seen),
            Err(what) => {
                return Err(broken("creating", subject, 0, &[], what, Some(when)));
            }
        }
    }
    super::caught(|| interrupted(subject, &golden, effort))
        .map(|seen| {
            tally.add(&seen);
            tally
        })
        .map_err(|what| broken("creating", subject, effort.seed, &[], what, None))
}

type Choices = Vec<(String, String)>;

/// Returns cases with one option at a time changed from its default, and a few sizes with all defaults.
fn matrix(subject: &Subject, golden: &Golden) -> Vec<(Choices, u64)> {
    let unit = golden.unit() * SECTOR_SIZE;
    let size = golden.sectors * SECTOR_SIZE;
    let mut cases: Vec<(Choices, u64)> =
        [0, SECTOR_SIZE, unit - SECTOR_SIZE, unit, unit + SECTOR_SIZE, 3 * unit]
            .map(|size| (Vec::new(), size))
            .into();
    for spec in subject.driver().descriptor().create_options {
        let values: Vec<&str> = match spec.kind {
            OptionKind::Bool => vec!["on", "off"],
            OptionKind::Choice(words) => words.to_vec(),
            OptionKind::Text => vec!["", "text"],
            _ => Vec::new(),
        };
        for value in values {
            cases.push((vec![(spec.name.to_owned(), value.to_owned())], size));
        }
    }
    cases
}

async fn make_and_use(subject: &Subject, golden: &Golden, size: u64) -> Result<Tally, String> {
    let mut images = golden.images.clone();
    if let Some(top) = images.last_mut() {
        *top = Image::default();
    }
    let mut tally = Tally { runs: 1, ..Tally::default() };
    let rig = Rig::of_images(subject, images);
    match rig.create_layer(golden.images.len() - 1, size).await {
        Ok(()) => {}
        // A driver may refuse a size or a combination of options.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            return Ok(tally);
        }
        Err(error) => return Err(format!("creating fails: {error:?}")),
    }
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    let device = rig.open(Access::ReadWrite).await.map_err(fails("opening what was created"))?;
    let sectors = device.sector_count();
    if sectors != size / SECTOR_SIZE {
        return Err(format!("asked for {size} bytes, got {sectors} sectors"));
    }
    if sectors == 0 {
        return Ok(tally);
    }
    let mut content = golden.content.clone();
    content.resize(sectors as usize, ZERO);
    let mut model = Model::new(content);
    model.settle(&read_all(&*device).await.map_err(fails("reading"))?)?;
    for (id, sector) in [(golden.next_id, 0), (golden.next_id + 1, sectors - 1)] {
        let op = Op::Write { sector, count: 1, fua: false };
        op.send(&*device, id).await.map_err(fails("writing"))?;
        model.exact(&op, id, &[]);
        tally.requests += 1;
    }
    device.close().await.map_err(fails("closing"))?;
    drop(device);
    let device = rig.open(Access::Read).await.map_err(fails("opening again"))?;
    model.settle(&read_all(&*device).await.map_err(fails("reading again"))?)?;
    drop(device);
    let report = rig.sound().await?;
    if !report.is_clean() {
        return Err(format!("a new image is not clean: {:?}", report.findings));
    }
    if !subject.has_parents() {
        fits_measure(subject, golden, &rig, size).await?;
    }
    Ok(tally)
}

/// Checks that the file is no longer than `measure` said.
async fn fits_measure(
    subject: &Subject,
    golden: &Golden,
    rig: &Rig,
    size: u64,
) -> Result<(), String> {
    let mut options = Options::new();
    for (name, value) in subject.options() {
        let specs = subject.driver().descriptor().create_options;
        options.set(specs, name, value).map_err(|error| format!("{error:?}"))?;
    }
    let blocks = |block: u64| if size <= block.max(golden.unit()) { 1 } else { 2 };
    let measure = subject.driver().measure(size, &options, &blocks);
    let measure = measure.map_err(|error| format!("measure: {error:?}"))?;
    let len = rig.top().len().await.map_err(|error| format!("{error:?}"))?;
    if len > measure.required || measure.required > measure.fully_allocated {
        return Err(format!("measure says {measure:?}, the file has {len} bytes"));
    }
    Ok(())
}

/// Checks that a failure or a power cut during `create` leaves a complete image, or nothing that opens as one.
fn interrupted(subject: &Subject, golden: &Golden, effort: &Effort) -> Result<Tally, String> {
    let top = golden.images.len() - 1;
    let size = golden.sectors * SECTOR_SIZE;
    let mut tally = Tally::default();
    for skip in 0.. {
        let world = World::new();
        let mut storages: Vec<Arc<dyn Storage>> = Vec::new();
        for (layer, image) in golden.images.iter().enumerate().take(top) {
            storages.push(world.disk(&layer_uri(layer), image.clone()));
        }
        let disk = world.disk(&layer_uri(top), Image::default());
        let faults = FaultStorage::new(disk);
        storages.push(Arc::clone(&faults) as Arc<dyn Storage>);
        let rig = Rig::new(subject, storages);
        faults.add(Rule::once(OpKind::CHANGES, Fault::Fail(ErrorKind::Io)).after(skip));
        let made = block_on(rig.create_layer(top, size));
        if faults.injected() == 0 {
            made.map_err(|error| format!("creating: {error:?}"))?;
            return cut_while_creating(subject, golden, &world, effort, tally);
        }
        tally.faults += 1;
        if made.is_ok() {
            return Err(format!("request {skip} of create failed, and create succeeds"));
        }
        faults.clear();
        block_on(whole_or_nothing(subject, golden, &rig))
            .map_err(|what| format!("request {skip} of create failed: {what}"))?;
    }
    Ok(tally)
}

fn cut_while_creating(
    subject: &Subject,
    golden: &Golden,
    world: &Arc<World>,
    effort: &Effort,
    mut tally: Tally,
) -> Result<Tally, String> {
    let mut replay = world.replay();
    for moment in replay.moments() {
        for state in replay.cut(moment, Level::DEFAULT, effort.states, effort.seed) {
            tally.crash_states += 1;
            let images = state.disks.iter().map(|(_, image)| image.clone()).collect();
            let rig = Rig::of_images(subject, images);
            block_on(whole_or_nothing(subject, golden, &rig)).map_err(|what| {
                format!("power cut at moment {moment} of create, state {}: {what}", state.choice)
            })?;
        }
    }
    Ok(tally)
}

async fn whole_or_nothing(subject: &Subject, golden: &Golden, rig: &Rig) -> Result<(), String> {
    let Ok(device) = rig.open(Access::Read).await else {
        return Ok(());
    };
    // If the file is the disk, a short file is a short disk.
    if golden.block_sectors.is_none() && device.sector_count() < golden.sectors {
        return Ok(());
    }
    let bytes = read_all(&*device).await.map_err(|error| format!("it opens, but {error:?}"))?;
    golden.model().settle(&bytes).map_err(|what| format!("it opens, but {what}"))?;
    drop(device);
    let sound = rig.sound().await.map_err(|what| format!("it opens, but {what}"))?;
    let _ = subject;
    match sound.corruptions {
        0 => Ok(()),
        n => Err(format!("it opens with {n} corruptions")),
    }
}
