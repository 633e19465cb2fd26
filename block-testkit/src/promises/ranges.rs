//! Promise: a request not wholly on the disk changes nothing and fails.

use super::stage::Stage;
use super::{Effort, broken};
use crate::exec::block_on;
use crate::ops::Op;
use crate::report::Verdict;
use crate::rig::{Subject, read_all};
use crate::rng::Rng;
use crate::stamp::in_pages;
use block_core::{Disk, ErrorKind, Result, SECTOR_SIZE, WriteFlags, ZeroFlags};

/// Tests requests past, across and far past the end, empty requests, and byte ranges through [`Disk`].
pub fn ranges(subject: &Subject, effort: &Effort) -> Verdict {
    let golden = subject.golden();
    let run = || {
        block_on(async {
            let mut stage = Stage::open(subject, &golden).await?;
            outside(&mut stage).await?;
            bytes(&mut stage, effort.seed).await?;
            Ok(stage.tally)
        })
    };
    super::caught(run).map_err(|what| broken("ranges", subject, effort.seed, &[], what, None))
}

fn refused(op: &Op, answer: Result<()>) -> std::result::Result<(), String> {
    match answer {
        Err(error) if error.kind() == ErrorKind::OutOfRange => Ok(()),
        Err(error) => Err(format!("{op}: wanted out-of-range, got {error:?}")),
        Ok(()) => Err(format!("{op} is not on the disk and succeeds")),
    }
}

async fn outside(stage: &mut Stage) -> std::result::Result<(), String> {
    let device = stage.disk();
    let n = device.sector_count();
    let before = read_all(&*device).await.map_err(|error| format!("reading: {error:?}"))?;
    let far = i64::MAX as u64 / SECTOR_SIZE - 8;
    for (sector, count) in [(n, 1), (n - 1, 2), (n + 1, 1), (far, 1), (far, 7), (0, n + 1)] {
        for op in [
            Op::Read { sector, count },
            Op::Write { sector, count, fua: false },
            Op::Zeroes { sector, count, unmap: true, fua: false },
            Op::Discard { sector, count },
        ] {
            stage.tally.requests += 1;
            refused(&op, op.send(&*device, 1).await.map(drop))?;
        }
        let end = sector.saturating_add(count).saturating_mul(SECTOR_SIZE);
        let read = Op::Read { sector, count };
        refused(&read, device.map(sector * SECTOR_SIZE..end).await.map(drop))?;
    }
    // These must not allocate memory.
    for (sector, count) in [(n, 1), (0, n + 1), (0, 1 << 45), (n - 1, far)] {
        let read = Op::Read { sector, count };
        refused(&read, device.read_bytes(sector, count).await.map(drop))?;
    }
    for sector in [0, n / 2, n] {
        for op in [Op::Read { sector, count: 0 }, Op::Write { sector, count: 0, fua: false }] {
            op.send(&*device, 1).await.map_err(|error| format!("empty {op}: {error:?}"))?;
        }
    }
    let after = read_all(&*device).await.map_err(|error| format!("reading: {error:?}"))?;
    if before != after {
        return Err("a request outside the disk, or an empty one, changed it".into());
    }
    let last = Op::Write { sector: n - 1, count: 1, fua: false };
    stage.step(&last).await.map_err(|setback| setback.text(last))?;
    stage.read_back().await.map_err(|setback| setback.text("reading all"))
}

/// Compares unaligned reads, writes and zeroes with a plain vector.
async fn bytes(stage: &mut Stage, seed: u64) -> std::result::Result<(), String> {
    let disk = Disk::new(stage.disk());
    let size = disk.size();
    let mut wanted = read_all(&**disk.device()).await.map_err(|error| format!("{error:?}"))?;
    let mut rng = Rng::new(seed);
    for _ in 0..100 {
        stage.tally.requests += 1;
        let mut offset = rng.within(0..size);
        let mut len = rng.within(0..(size - offset).min(3000) + 1);
        if rng.one_in(2) {
            offset -= offset % SECTOR_SIZE;
            len -= len % SECTOR_SIZE;
        }
        let range = offset as usize..(offset + len) as usize;
        let text = |error| format!("{len} bytes at {offset}: {error:?}");
        match rng.within(0..3) {
            0 => {
                let data: Vec<u8> = (0..len).map(|_| rng.roll() as u8).collect();
                let flags = WriteFlags::empty();
                if rng.one_in(2) {
                    disk.write_at(offset, &data, flags).await.map_err(text)?
                } else {
                    disk.write_bytes(offset, in_pages(&data), flags).await.map_err(text)?
                }
                wanted[range].copy_from_slice(&data);
            }
            1 => {
                disk.write_zeroes(offset, len, ZeroFlags::MAY_UNMAP).await.map_err(text)?;
                wanted[range].fill(0);
            }
            _ => {
                let mut found = vec![0x55; len as usize];
                disk.read_at(offset, &mut found).await.map_err(text)?;
                let given = disk.read_bytes(offset, len as usize).await.map_err(text)?;
                if found != wanted[range] || *given != *found {
                    return Err(format!("{len} bytes at {offset} are not what was written"));
                }
            }
        }
    }
    let found = read_all(&**disk.device()).await.map_err(|error| format!("{error:?}"))?;
    match found.iter().zip(&wanted).position(|(a, b)| a != b) {
        Some(at) => Err(format!("byte {at} is not what was written")),
        None => Ok(()),
    }
}
