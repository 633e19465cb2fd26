//! Promise: the same, for every history of three requests that there is.

use super::crashes::cut_everywhere;
use super::{Effort, broken};
use crate::crash::Level;
use crate::exec::block_on;
use crate::ops::{Op, shrink};
use crate::report::{Tally, Verdict};
use crate::rig::{Golden, Subject};
use crate::rng::mix;
use block_core::DeviceCaps;

/// Cuts the power at every moment of all histories of three requests over a small alphabet.
///
/// What breaks a file system or a format breaks it, nearly always, within three requests to a new one.
/// With few `histories` in the effort, a part of them is taken, another one for each seed.
pub fn short_histories(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let caps = block_on(super::stage::Stage::open(subject, &golden))
        .map(|stage| stage.disk().info().caps)
        .map_err(|what| broken("short histories", subject, effort.seed, &[], what, None))?;
    let alphabet = alphabet(&golden, caps);
    let n = alphabet.len() as u64;
    let all = n * n * n;
    let wanted = (effort.histories * 8).min(all);
    let mut tally = Tally::default();
    for turn in 0..wanted {
        // A walk through all of them in steps that have no factor in common with their number.
        let number = (mix(effort.seed) % all + turn * step(all)) % all;
        let ops: Vec<Op> = [number / n / n, number / n % n, number % n]
            .map(|letter| alphabet[letter as usize].clone())
            .into();
        let play = |ops: &[Op]| {
            cut_everywhere(subject, &golden, ops, number, Level::DEFAULT, effort.states)
        };
        match play(&ops) {
            Ok(seen) => tally.add(&seen),
            Err(_) => {
                let ops = shrink(&ops, |ops| play(ops).is_err());
                let (what, when) = play(&ops).err().unwrap_or_default();
                return Err(broken("short histories", subject, number, &ops, what, Some(when)));
            }
        }
    }
    Ok(tally)
}

fn alphabet(golden: &Golden, caps: DeviceCaps) -> Vec<Op> {
    let unit = golden.unit();
    let write = |sector, count| Op::Write { sector, count, fua: false };
    let zeroes = |sector, count, unmap| Op::Zeroes { sector, count, unmap, fua: false };
    let ops = [
        write(1, 2),
        write(0, unit),
        write(unit, unit),
        write(unit - 1, unit + 2),
        Op::Write { sector: unit + 3, count: 1, fua: true },
        write(golden.sectors - 1, 1),
        zeroes(0, unit, true),
        zeroes(0, unit, false),
        zeroes(2, 3, true),
        Op::Discard { sector: 0, count: unit },
        Op::Discard { sector: unit, count: golden.sectors - unit },
        Op::Flush,
        Op::Reopen,
        Op::Kill,
        Op::Compact,
        Op::MakeEmpty,
        Op::Resize(golden.sectors + 2 * unit),
        Op::Resize(golden.sectors - unit),
    ];
    let sectors = golden.sectors;
    ops.into_iter().filter(|op| op.possible(caps, sectors) && op.fits(sectors)).collect()
}

/// A stride through `n` numbers that visits each once.
fn step(n: u64) -> u64 {
    let common = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (n * 5 / 8..).find(|step| common(*step, n) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn a_walk_visits_every_history_once() {
        for n in [1u64, 27, 1000, 4913] {
            let mut seen: Vec<u64> = (0..n).map(|turn| turn * step(n) % n).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..n));
        }
    }
}
