//! Promise: requests from many threads take effect in some serial order for each sector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::{Effort, broken};
use crate::crash::World;
use crate::exec::block_on;
use crate::fault::FaultStorage;
use crate::linear::{Access as Seen, History, What};
use crate::ops::Op;
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Rig, Subject, layer_uri, read_all};
use crate::rng::Rng;
use crate::stamp::{SECTOR, ZERO, identify};
use block_core::MemStorage;
use block_core::{Access, BlockDevice, Storage};

const THREADS: u64 = 4;

/// Threads read, write, zero, discard and flush the same few blocks; each sector's history must be one
/// that an atomic register can have, and what is there at the end must be there after reopening.
pub fn threads(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let mut tally = Tally::default();
    let mut rng = Rng::new(effort.seed ^ 0x7E4D);
    for _ in 0..effort.histories {
        let seed = rng.roll();
        let seen = super::caught(|| together(subject, &golden, seed, effort.requests as u64 * 8))
            .map_err(|what| broken("threads", subject, seed, &[], what, None))?;
        tally.add(&seen);
    }
    Ok(tally)
}

fn together(subject: &Subject, golden: &Golden, seed: u64, requests: u64) -> Result<Tally, String> {
    let mut layers: Vec<Arc<dyn Storage>> = golden
        .images
        .iter()
        .enumerate()
        .map(|(layer, image)| match subject.backing(image) {
            // The world gives it the name that the layer above looks for.
            Some(below) => World::new().disk_over(&layer_uri(layer), image.clone(), Some(below))
                as Arc<dyn Storage>,
            None => MemStorage::of(layer_uri(layer), image.clone()),
        })
        .collect();
    let slow = FaultStorage::new(layers.pop().ok_or("a subject has a layer")?);
    slow.give_way((seed % 3) as u32);
    layers.push(Arc::clone(&slow) as Arc<dyn Storage>);
    let rig = Rig::new(subject, layers);
    let device =
        block_on(rig.open(Access::ReadWrite)).map_err(|error| format!("opening: {error:?}"))?;
    let clock = AtomicU64::new(1);
    let next_id = AtomicU32::new(golden.next_id);
    let parts: Vec<Result<Vec<Seen>, String>> = thread::scope(|scope| {
        let (clock, next_id, device) = (&clock, &next_id, &device);
        let workers: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn(move || {
                    let rng = Rng::new(seed ^ n << 32);
                    work(&**device, golden, rng, requests / THREADS, clock, next_id)
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|part| part.unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let mut history = History::new(&golden.content);
    for part in parts {
        history.extend(part?);
    }
    let fails = |doing: &'static str| move |error| format!("{doing}: {error:?}");
    let last = block_on(read_all(&*device)).map_err(fails("reading at the end"))?;
    let now = clock.fetch_add(1, Ordering::SeqCst);
    history.extend(reads(0, &last, now, now + 1));
    history.check()?;

    block_on(device.close()).map_err(fails("closing"))?;
    drop(device);
    block_on(rig.sound())?;
    let device = block_on(rig.open(Access::Read)).map_err(fails("opening again"))?;
    let again = block_on(read_all(&*device)).map_err(fails("reading again"))?;
    if again != last {
        return Err("what was read at the end is not there after reopening".into());
    }
    Ok(Tally {
        runs: 1,
        requests: requests / THREADS * THREADS,
        sectors: history.len() as u64,
        ..Tally::default()
    })
}

fn work(
    device: &dyn BlockDevice,
    golden: &Golden,
    mut rng: Rng,
    requests: u64,
    clock: &AtomicU64,
    next_id: &AtomicU32,
) -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    let unit = golden.unit();
    for _ in 0..requests {
        // A few sectors around the first two borders: everybody meets there.
        let sector =
            (rng.within(0..3) * unit + unit - 4 + rng.within(0..8)).min(golden.sectors - 1);
        let count = if rng.one_in(12) {
            (golden.sectors - sector).min(unit + 3)
        } else {
            rng.within(1..6).min(golden.sectors - sector)
        };
        // Whole blocks are given up, and the places of those before them become free: the next two writers
        // that need one are handed them at the same moment.
        let blocks = golden.sectors.div_ceil(unit);
        let first = rng.within(0..blocks) * unit;
        let whole = (rng.within(1..3) * unit).min(golden.sectors - first);
        let op = match rng.within(0..20) {
            0..=5 => Op::Read { sector, count },
            6..=11 => Op::Write { sector, count, fua: rng.one_in(8) },
            12 | 13 => Op::Zeroes { sector, count, unmap: rng.one_in(2), fua: false },
            14 => Op::Discard { sector, count },
            15 => Op::Discard { sector: first, count: whole },
            16 => Op::Zeroes { sector: first, count: whole, unmap: true, fua: rng.one_in(2) },
            17 => Op::Write { sector: first, count: 1, fua: false },
            _ => Op::Flush,
        };
        let (sector, count) = match op {
            Op::Read { sector, count }
            | Op::Write { sector, count, .. }
            | Op::Zeroes { sector, count, .. }
            | Op::Discard { sector, count } => (sector, count),
            _ => (sector, count),
        };
        let id = next_id.fetch_add(1, Ordering::Relaxed);
        let start = clock.fetch_add(1, Ordering::SeqCst);
        let answer = block_on(op.send(device, id)).map_err(|error| format!("{op}: {error:?}"))?;
        let end = clock.fetch_add(1, Ordering::SeqCst);
        let all = |what: What| {
            (sector..sector + count).map(move |sector| Seen { sector, start, end, what })
        };
        match (&op, answer) {
            (Op::Read { .. }, Some(bytes)) => seen.extend(reads(sector, &bytes, start, end)),
            (Op::Write { .. }, _) => seen.extend(all(What::Write(id))),
            (Op::Zeroes { .. }, _) => seen.extend(all(What::Write(ZERO))),
            (Op::Discard { .. }, _) => seen.extend(all(What::MaybeZero)),
            _ => {}
        }
    }
    Ok(seen)
}

fn reads(sector: u64, bytes: &[u8], start: u64, end: u64) -> Vec<Seen> {
    (sector..)
        .zip(bytes.chunks_exact(SECTOR))
        .map(|(sector, bytes)| Seen {
            sector,
            start,
            end,
            what: What::Read(identify(bytes, sector)),
        })
        .collect()
}
