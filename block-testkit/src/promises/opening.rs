//! Promise: opening and closing change nothing, and no file makes a driver panic.

use super::stage::Stage;
use super::{Effort, broken};
use crate::exec::block_on;
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, read_all};
use crate::rng::Rng;
use block_core::{Access, CheckMode, ErrorKind, Image};

/// Images are recognised as what they are; an image that is opened and closed without a write does not
/// change; a closed image refuses requests; a sound image checks as sound.
pub fn reopening(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let run = || block_on(twice(subject, &golden, effort));
    super::caught(run).map_err(|what| broken("reopening", subject, effort.seed, &[], what, None))
}

async fn filled(subject: &Subject, golden: &Golden, effort: &Effort) -> Result<Stage, String> {
    let mut stage = Stage::open(subject, golden).await?;
    let mut rng = Rng::new(effort.seed);
    for op in stage.ground(golden, false).ops(&mut rng, effort.requests) {
        stage.step(&op).await.map_err(|setback| setback.text(&op))?;
    }
    stage.step(&Op::Reopen).await.map_err(|setback| setback.text("reopening"))?;
    Ok(stage)
}

async fn twice(subject: &Subject, golden: &Golden, effort: &Effort) -> Result<Tally, String> {
    let mut stage = filled(subject, golden, effort).await?;
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    stage.disk().close().await.map_err(fails("closing"))?;
    let before = stage.disks.last().map(|disk| disk.snapshot()).unwrap_or_default();
    for _ in 0..2 {
        stage.open_again().await?;
        stage.read_back().await.map_err(|setback| setback.text("reading"))?;
        let device = stage.disk();
        device.close().await.map_err(fails("closing"))?;
        // Once more is one too many or does nothing; both are fine.
        let _ = device.close().await;
        let write = Op::Write { sector: 0, count: 1, fua: false };
        for op in [write, Op::Read { sector: 0, count: 1 }, Op::Discard { sector: 0, count: 1 }] {
            if op.send(&*device, 1).await.is_ok() {
                return Err(format!("{op} succeeds after close"));
            }
        }
        let after = stage.disks.last().map(|disk| disk.snapshot()).unwrap_or_default();
        if let Some(at) = before.first_difference(&after) {
            return Err(format!("opening and closing changed the file at {at:#x}"));
        }
    }
    stage.device = None;
    let report = stage.rig.sound().await?;
    if !report.is_clean() {
        return Err(format!("an image that was closed is not clean: {:?}", report.findings));
    }
    let name = subject.driver().descriptor().name;
    let report = stage.rig.registry().probe(&**stage.rig.top()).await.map_err(fails("probing"))?;
    if report.selected().is_some_and(|selected| selected.id == name) {
        Ok(stage.tally)
    } else {
        Err(format!("an image of its own is not recognised: {}", report.explain()))
    }
}

/// Cut short, flipped and scribbled on: probing, opening, reading, checking and repairing answer or refuse. They
/// never panic, and never meet a mistake of their own.
pub fn damaged_images(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    let made = super::caught(|| block_on(filled(subject, &golden, effort)));
    let stage =
        made.map_err(|what| broken("damaged images", subject, effort.seed, &[], what, None))?;
    let images: Vec<Image> = stage.disks.iter().map(|disk| disk.snapshot()).collect();
    let mut rng = Rng::new(effort.seed ^ 0xDA3A);
    for n in 0..effort.histories * 300 {
        let mut damaged = images.clone();
        let Some(top) = damaged.last_mut() else { break };
        let how = damage(top, n, &mut rng);
        tally.runs += 1;
        super::caught(|| block_on(survive(subject, damaged))).map_err(|what| {
            broken("damaged images", subject, effort.seed, &[], what, Some(how.clone()))
        })?;
    }
    Ok(tally)
}

/// Numbers that a field of four bytes seldom expects; a last one is the length of the file.
const WORDS: [u32; 5] = [0, 1, 0x7FFF_FFFF, u32::MAX, u32::MAX - 1];

/// Bytes at the begin of a file in which each word gets each of those numbers.
const FIELDS: u64 = 512;

/// Damages an image; says how.
fn damage(image: &mut Image, n: u64, rng: &mut Rng) -> String {
    let len = image.len();
    let turn = n / 4;
    match n % 4 {
        0 => {
            let to = if rng.one_in(2) { rng.within(0..len.min(8192)) } else { rng.within(0..len) };
            image.set_len(to);
            format!("cut to {to} bytes")
        }
        1 | 2 => {
            // Metadata is small and mostly at the front: the first kilobyte byte by byte.
            let flip = turn * 2 + n % 4 - 1;
            let at = if flip < 2048 { flip % 1024 } else { rng.within(0..len) }.min(len - 1);
            let mut byte = [0];
            image.read(at, &mut byte);
            byte[0] ^= 1 << rng.within(0..8);
            image.write(at, &byte);
            format!("byte {at:#x} is {:#04x}", byte[0])
        }
        _ => {
            let kinds = WORDS.len() as u64 + 1;
            let (at, kind) = if turn < FIELDS / 4 * kinds {
                (turn * 4 % FIELDS, turn * 4 / FIELDS)
            } else {
                (rng.within(0..len.min(2048)) / 4 * 4, rng.within(0..kinds))
            };
            let word = WORDS.get(kind as usize).copied().unwrap_or(len as u32);
            image.write(at, &word.to_le_bytes());
            format!("the word at {at:#x} is {word:#x}")
        }
    }
}

/// What was answered, unless that is a mistake of the program: damage is not one.
fn answer<T>(doing: &str, given: block_core::Result<T>) -> Result<Option<T>, String> {
    match given {
        Err(error) if error.kind() == ErrorKind::Internal => Err(format!("{doing}: {error:?}")),
        given => Ok(given.ok()),
    }
}

async fn survive(subject: &Subject, images: Vec<Image>) -> Result<(), String> {
    const MOST: u64 = 1 << 16;
    for access in [Access::Read, Access::ReadWrite] {
        let rig = Rig::of_images(subject, images.clone());
        answer("probing", rig.registry().probe(&**rig.top()).await)?;
        if subject.driver().descriptor().can_check {
            let mode = match access {
                Access::Read => CheckMode::Report,
                Access::ReadWrite => CheckMode::RepairAll,
            };
            answer("checking", rig.check(mode).await)?;
        }
        let Some(device) = answer("opening", rig.open(access).await)? else {
            continue;
        };
        if device.sector_count() <= MOST {
            answer("reading", read_all(&*device).await)?;
        }
        if access == Access::ReadWrite && device.sector_count() > 0 {
            let last = device.sector_count() - 1;
            for sector in [0, last / 2, last] {
                let op = Op::Write { sector, count: 1, fua: false };
                answer("writing", op.send(&*device, 1).await)?;
            }
            answer("flushing", device.flush().await)?;
        }
        answer("closing", device.close().await)?;
    }
    Ok(())
}
