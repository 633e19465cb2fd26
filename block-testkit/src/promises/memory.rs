//! Promise: what an image costs in memory depends on what is done with it, not on the size of its disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Effort, broken};
use crate::exec::block_on;
use crate::report::{Tally, Violation};
use crate::rig::{Rig, Subject};
use crate::rng::Rng;
use block_core::Image;
use block_core::{Access, BlockDevice, CheckMode, ExtentList, Result, WriteFlags};

/// Says how many bytes the process has allocated; the global allocator of a test knows.
pub type Meter = fn() -> u64;

/// Makes an image with a disk of `size` bytes, opens, reads, writes, lists and checks it, and looks at what
/// `meter` says all the while. Bytes stored in the image do not count.
///
/// The answer is the greatest number of bytes above those before, which has to be at most `bound`. The test
/// has to be alone in its process.
pub fn memory_bound(
    subject: &Subject,
    effort: &Effort,
    meter: Meter,
    size: u64,
    bound: u64,
) -> std::result::Result<(Tally, u64), Box<Violation>> {
    let images = vec![Image::default()];
    let alone = subject.clone().alone();
    let rig = Rig::of_images(&alone, images);
    let gauge = Gauge { meter, before: meter(), most: AtomicU64::new(0), rig: &rig };
    let run = || block_on(use_it(&rig, effort, size, &gauge)).map_err(|error| format!("{error:?}"));
    let tally = super::caught(run);
    let most = gauge.most.load(Ordering::Relaxed);
    let tally = tally.and_then(|tally| {
        if most <= bound {
            Ok(tally)
        } else {
            Err(format!("{most} bytes were allocated for it, wanted at most {bound}"))
        }
    });
    let circumstance = Some(format!("a disk of {size} bytes"));
    tally
        .map(|tally| (tally, most))
        .map_err(|what| broken("memory bound", subject, effort.seed, &[], what, circumstance))
}

struct Gauge<'r> {
    meter: Meter,
    before: u64,
    most: AtomicU64,
    rig: &'r Rig,
}

impl Gauge<'_> {
    fn look(&self) {
        let stored: u64 = self.rig.images().iter().map(Image::stored_bytes).sum();
        // A page of an image costs its bytes and a little more: half of it is plenty.
        let ours = stored + stored / 2;
        let now = (self.meter)().saturating_sub(self.before).saturating_sub(ours);
        self.most.fetch_max(now, Ordering::Relaxed);
    }
}

async fn use_it(rig: &Rig, effort: &Effort, size: u64, gauge: &Gauge<'_>) -> Result<Tally> {
    let mut tally = Tally { runs: 1, ..Tally::default() };
    rig.create_layer(0, size).await?;
    gauge.look();
    let device = rig.open(Access::ReadWrite).await?;
    gauge.look();
    let sectors = device.sector_count();
    let mut rng = Rng::new(effort.seed);
    let mut buf = vec![0; 4096];
    for n in 0..effort.requests as u64 * 200 {
        let sector = rng.within(0..sectors - 8);
        device.read_sectors(sector, &mut buf).await?;
        if n % 50 == 0 {
            device.write_sectors(sector, &buf, WriteFlags::empty()).await?;
        }
        if n % 1000 == 999 {
            device.flush().await?;
        }
        tally.requests += 1;
        gauge.look();
    }
    tally.requests += list(&*device, sectors, gauge).await?;
    device.close().await?;
    gauge.look();
    drop(device);
    if rig.can_check() {
        rig.check(CheckMode::Report).await?;
    }
    gauge.look();
    Ok(tally)
}

/// Lists what lies where, a sixty-fourth of the disk at a time.
async fn list(device: &dyn BlockDevice, sectors: u64, gauge: &Gauge<'_>) -> Result<u64> {
    let step = sectors / 64;
    for part in 0..64 {
        let mut extents = ExtentList::new();
        device.extents(part * step * 512..(part + 1) * step * 512, &mut extents).await?;
        gauge.look();
    }
    Ok(64)
}
