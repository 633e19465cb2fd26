//! Power failures at every moment of every operation that moves blocks: old or new content, no loss.

mod support;

use std::future::Future;
use std::sync::Arc;

use block_core::{Access, CheckMode, Disk, Preallocation, Result, WriteFlags, ZeroFlags};
use block_core::{Image, MemStorage};
use block_testkit::exec::block_on;
use block_testkit::{CrashStorage, Level, World};
use support::{Lab, content, image};

/// Block size of these images in bytes.
const BLOCK: u64 = 128 << 10;

/// States to test for each moment.
const STATES: usize = 40;

/// Returns an image created with `options` in which `blocks` were written.
fn golden(size: u64, options: &str, blocks: &[u64]) -> Image {
    block_on(async {
        let lab = Lab::new();
        let file = lab.create("g", size, options).await.unwrap();
        let disk = lab.open("g", Access::ReadWrite, "").await.unwrap();
        for block in blocks {
            let value = vec![*block as u8 + 1; BLOCK as usize];
            disk.write_at(block * BLOCK, &value, WriteFlags::empty()).await.unwrap();
        }
        disk.close().await.unwrap();
        Image::of(&file.to_bytes().unwrap())
    })
}

/// Runs `operation` on an image and cuts the power at every moment. Each state must open, check with leaks at most, and
/// hold the old or the new content in every sector.
fn every_cut<F>(golden: &Image, operation: impl Fn(Arc<CrashStorage>) -> F)
where
    F: Future<Output = Result<()>>,
{
    let lab = Lab::new();
    let look = |image: &Image| {
        block_on(async {
            let storage = MemStorage::of("cut", image.clone());
            let disk = lab.open_on(storage.clone(), Access::Read, "").await.unwrap();
            let report = lab.check(storage, CheckMode::Report).await.unwrap();
            (content(&disk).await, report)
        })
    };
    let world = World::new();
    let disk = world.disk("cut", golden.clone());
    let old = look(golden).0;
    block_on(operation(Arc::clone(&disk))).unwrap();
    let new = look(&disk.snapshot()).0;
    let mut replay = world.replay();
    let mut states = 0u32;
    for moment in replay.moments() {
        for state in replay.cut(moment, Level::DEFAULT, STATES, 7) {
            let (seen, report) = look(&state.disks[0].1);
            let place = format!("moment {moment}, {:?}", state.choice);
            assert_eq!(report.corruptions, 0, "{place}: {report:#?}");
            assert!(seen.len() == old.len() || seen.len() == new.len(), "{place}: {}", seen.len());
            for (sector, bytes) in seen.chunks(512).enumerate() {
                let at = sector * 512;
                let is = |content: &[u8]| content.get(at..at + 512) == Some(bytes);
                assert!(is(&old) || is(&new), "{place}: sector {sector} is {:#x}", bytes[0]);
            }
            states += 1;
        }
    }
    assert!(states > 5, "only {states} states were looked at");
}

async fn open(storage: Arc<CrashStorage>) -> Result<Disk> {
    Lab::new().open_on(storage, Access::ReadWrite, "").await
}

#[test]
fn growing_with_moved_slots_is_whole_at_every_cut() {
    let golden = golden(40 * BLOCK, "layout=qemu,block_size=128k", &[3, 0, 7, 20]);
    every_cut(&golden, async |storage| {
        open(storage).await?.device().resize(600 * BLOCK, Preallocation::Off).await
    });
}

#[test]
fn growing_a_full_image_is_whole_at_every_cut() {
    let golden = golden(5 * BLOCK, "layout=qemu,block_size=128k", &[0, 1, 2, 3, 4]);
    every_cut(&golden, async |storage| {
        open(storage).await?.device().resize(200 * BLOCK, Preallocation::Off).await
    });
}

#[test]
fn growing_into_the_gap_is_whole_at_every_cut() {
    let golden = golden(6 * BLOCK, "block_size=128k", &[3, 0]);
    every_cut(&golden, async |storage| {
        open(storage).await?.device().resize(9 * BLOCK, Preallocation::Off).await
    });
}

#[test]
fn growing_a_static_image_is_whole_at_every_cut() {
    let golden = golden(5 * BLOCK, "block_size=128k,static=on", &[3, 0]);
    every_cut(&golden, async |storage| {
        open(storage).await?.device().resize(9 * BLOCK, Preallocation::Off).await
    });
}

#[test]
fn compacting_is_whole_at_every_cut() {
    let golden = golden(9 * BLOCK, "layout=qemu,block_size=128k", &[8, 1, 4, 6, 0]);
    every_cut(&golden, async |storage| {
        let disk = open(storage).await?;
        disk.discard(BLOCK, 6 * BLOCK).await?;
        disk.device().compact(&|_, _| true).await?;
        disk.close().await
    });
}

#[test]
fn discarding_writing_and_zeroing_is_whole_at_every_cut() {
    let golden = golden(9 * BLOCK, "layout=qemu,block_size=128k", &[8, 1, 4]);
    every_cut(&golden, async |storage| {
        let disk = open(storage).await?;
        disk.write_at(2 * BLOCK, &vec![0x55; BLOCK as usize], WriteFlags::empty()).await?;
        disk.write_zeroes(4 * BLOCK, BLOCK, ZeroFlags::MAY_UNMAP).await?;
        disk.flush().await?;
        disk.write_at(5 * BLOCK, &vec![0x66; BLOCK as usize], WriteFlags::FUA).await?;
        disk.close().await
    });
}

#[test]
fn repairing_shared_and_leaked_slots_is_whole_at_every_cut() {
    // The entries of four blocks, the number of slots in the file, and the header's number of slots.
    for (entries, slots, allocated) in [
        ([0, 5, 0, 2], 6, 4),
        // The header's number is right already, so only the copy precedes the entry.
        ([0, 1, 0, 3], 4, 4),
        // Slot 1 is unused, and the last block moves there.
        ([0, 3, 2, FREE], 4, 4),
        ([FREE, 3, FREE, FREE], 4, 4),
    ] {
        let mut bytes = image(4 << 20, &entries, slots);
        bytes[0x184] = allocated;
        let shown = entries.map(|entry| if entry == FREE { 0 } else { 0xA0 + entry as u8 });
        repair_everywhere(&Image::of(&bytes), shown);
    }
}

/// The map entry of a block that was never written.
const FREE: u32 = u32::MAX;

/// Repairs an image and cuts the power at every moment. In each state the blocks must show their content, also after a
/// second repair, and that repair must leave the image clean.
fn repair_everywhere(file: &Image, shown: [u8; 4]) {
    let world = World::new();
    let disk = world.disk("cut", file.clone());
    let lab = Lab::new();
    block_on(lab.check(disk, CheckMode::RepairAll)).unwrap();
    let mut replay = world.replay();
    let mut states = 0;
    for moment in replay.moments() {
        for state in replay.cut(moment, Level::DEFAULT, STATES, 3) {
            let storage = MemStorage::of("cut", state.disks[0].1.clone());
            let firsts = || async {
                let disk = lab.open_on(storage.clone(), Access::Read, "").await.unwrap();
                let content = content(&disk).await;
                content.chunks(1 << 20).map(|block| (block[0], block[1 << 19])).collect::<Vec<_>>()
            };
            let wanted: Vec<_> = shown.map(|byte| (byte, byte)).into();
            assert_eq!(block_on(firsts()), wanted, "moment {moment}, {:?}", state.choice);
            block_on(lab.check(storage.clone(), CheckMode::RepairAll)).unwrap();
            assert_eq!(block_on(firsts()), wanted, "moment {moment}, {:?}", state.choice);
            assert!(block_on(lab.check(storage.clone(), CheckMode::Report)).unwrap().is_clean());
            states += 1;
        }
    }
    assert!(states >= 8, "{shown:x?}: only {states} states");
}

#[test]
fn no_byte_of_the_disk_changes_before_the_image_has_a_new_identity() {
    let golden = golden(3 * BLOCK, "block_size=128k", &[0, 1]);
    let look = |image: &Image| {
        let mut identity = [0; 16];
        image.read(0x198, &mut identity);
        let storage = MemStorage::of("cut", image.clone());
        let disk = block_on(Lab::new().open_on(storage, Access::Read, "")).unwrap();
        (block_on(content(&disk)), identity)
    };
    let (old, identity) = look(&golden);
    let world = World::new();
    let storage = world.disk("cut", golden);
    block_on(async {
        let disk = open(storage).await.unwrap();
        disk.write_at(BLOCK / 2, &[0x55; 4096], WriteFlags::empty()).await.unwrap();
        disk.write_at(2 * BLOCK, &[0x66; 4096], WriteFlags::empty()).await.unwrap();
        disk.close().await.unwrap();
    });
    let mut replay = world.replay();
    let mut changed = 0;
    for moment in replay.moments() {
        for state in replay.cut(moment, Level::DEFAULT, STATES, 5) {
            let (seen, now) = look(&state.disks[0].1);
            let place = format!("moment {moment}, {:?}", state.choice);
            assert!(seen == old || now != identity, "{place}: changed, and called the same");
            changed += usize::from(seen != old);
        }
    }
    assert!(changed > 3, "{changed} states showed a change");
}
