//! A shrink that fails part way leaves the old disk or the new one intact.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use block_core::{Access, CheckMode, ErrorKind, MemStorage, Preallocation};
use block_testkit::{Fault, FaultStorage, OpKind, Rule};
use support::{FREE, Lab, MIB, ZERO, content, image, poke};

/// Maps of six blocks by slot number, the number of slots, and whether the image is static. In the fifth map the
/// removed blocks lie where the remaining ones must go.
const MAPS: [([u32; 6], u32, bool); 5] = [
    ([0, 1, 2, 3, 4, 5], 6, false),
    ([0, FREE, ZERO, 1, 2, FREE], 3, false),
    ([FREE, 2, FREE, 3, 0, 1], 4, false),
    ([0, 1, 2, 3, 4, 5], 6, true),
    ([4, FREE, ZERO, 1, 2, 0], 5, false),
];

#[tokio::test]
async fn shrinking_that_stops_anywhere_leaves_the_old_disk_or_the_new_one() {
    for (map, slots, is_static) in MAPS {
        for size in [3 * MIB, 2 * MIB + 512, 512] {
            let mut bytes = image(6 * MIB, &map, slots);
            if is_static {
                poke(&mut bytes, 0x4C, &2u32.to_le_bytes());
            }
            let lab = Lab::new();
            let open = async |bytes: &MemStorage| {
                let file = MemStorage::from_bytes(&bytes.to_bytes().unwrap());
                lab.open_on(file, Access::Read, "").await.unwrap()
            };
            let old = content(&open(&MemStorage::from_bytes(&bytes)).await).await;
            let mut seen = [0; 2];
            for stop in 0.. {
                let file = MemStorage::from_bytes(&bytes);
                let storage = FaultStorage::new(file.clone());
                let ops = &[OpKind::Write, OpKind::Zeroes, OpKind::SetLen, OpKind::Flush];
                storage.add(Rule::once(ops, Fault::Fail(ErrorKind::Io)).after(stop).forever());
                let disk = lab.open_on(storage, Access::ReadWrite, "").await.unwrap();
                let done = disk.device().resize(size, Preallocation::Off).await.is_ok();
                drop(disk);
                let now = open(&file).await;
                let is_new = now.size() == size;
                let place = format!("{map:?} to {size}, stop {stop}");
                assert!(is_new || now.size() == 6 * MIB, "{place}: {} bytes", now.size());
                let now = content(&now).await;
                assert!(now == old[..now.len()], "{place}: neither the old disk nor the new one");
                seen[usize::from(is_new)] += 1;
                let report = lab.check(file.clone(), CheckMode::Report).await.unwrap();
                assert_eq!(report.corruptions, 0, "{place}: {:#?}", report.findings);
                if done {
                    assert!(is_new, "{place}");
                    lab.assert_clean(file).await;
                    break;
                }
            }
            assert!(seen[0] > 1 && seen[1] > 1, "{map:?} to {size}: {seen:?}");
        }
    }
}
