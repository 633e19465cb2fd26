//! Resizes: data stays, new space reads as zeros, and the image stays sound.

mod support;

use std::sync::Arc;

use block_core::{Access, Disk, ErrorKind, MemStorage, Preallocation, Storage, WriteFlags};
use support::{FREE, Lab, MIB, allocated_of, content, image, map_of, number};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

async fn put(disk: &Disk, at: u64, value: u8) {
    disk.write_at(at, &[value; 4096], WriteFlags::empty()).await.unwrap();
}

async fn assert_holds(disk: &Disk, places: &[(u64, u8)]) {
    for (at, value) in places {
        let mut read = [0; 4096];
        disk.read_at(*at, &mut read).await.unwrap();
        assert!(read == [*value; 4096], "at {at:#x}: {} and not {value}", read[0]);
    }
}

/// Creates a disk, writes, resizes, and reads it back through the same handle and a new one.
async fn resized(from: u64, to: u64, options: &str, places: &[(u64, u8)]) -> Arc<MemStorage> {
    let lab = Lab::new();
    let file = lab.create("r", from, options).await.unwrap();
    let disk = lab.open("r", Access::ReadWrite, "").await.unwrap();
    for (at, value) in places {
        put(&disk, *at, *value).await;
    }
    disk.device().resize(to, Preallocation::Off).await.unwrap();
    assert_eq!(disk.size(), to);
    let left: Vec<_> = places.iter().copied().filter(|(at, _)| at + 4096 <= to).collect();
    assert_holds(&disk, &left).await;
    if to > from {
        assert_holds(&disk, &[(from.next_multiple_of(MIB), 0), (to - 4096, 0)]).await;
    }
    put(&disk, to - 4096, 0x77).await;
    disk.close().await.unwrap();
    let again = lab.open("r", Access::Read, "").await.unwrap();
    assert_holds(&again, &left).await;
    assert_holds(&again, &[(to - 4096, 0x77)]).await;
    lab.assert_clean(file.clone()).await;
    file
}

#[tokio::test]
async fn growing_with_few_stored_blocks_keeps_them() {
    resized(100 * GIB, TIB, "", &[(0, 1)]).await;
    resized(100 * GIB, TIB, "", &[(99 * GIB, 1)]).await;
    resized(100 * GIB, TIB, "", &[(5 * GIB, 1), (GIB, 2)]).await;
    resized(100 * GIB, TIB, "", &[]).await;
    resized(100 * GIB, TIB, "layout=qemu", &[(5 * GIB, 1), (GIB, 2)]).await;
}

#[tokio::test]
async fn what_a_child_gains_is_zeros_and_not_its_parents() {
    for (small, large) in [(MIB + 512, 2 * MIB), (MIB + 512, 4 * MIB), (MIB, 4 * MIB)] {
        for reopens in [false, true] {
            let lab = Lab::new();
            lab.create("parent", 4 * MIB, "").await.unwrap();
            let below = lab.open("parent", Access::ReadWrite, "").await.unwrap();
            below.write_at(0, &vec![0x11; 4 << 20], WriteFlags::empty()).await.unwrap();
            below.close().await.unwrap();
            let file = lab.create_child("child", "parent", "").await.unwrap();
            let mut disk = lab.open_with_parent("child").await.unwrap();
            disk.device().resize(small, Preallocation::Off).await.unwrap();
            if reopens {
                disk.close().await.unwrap();
                disk = lab.open_with_parent("child").await.unwrap();
            }
            disk.device().resize(large, Preallocation::Off).await.unwrap();
            let mut wanted = vec![0x11; small as usize];
            wanted.resize(large as usize, 0);
            assert_eq!(content(&disk).await, wanted, "from {small} to {large}");
            disk.close().await.unwrap();
            let again = lab.open_with_parent("child").await.unwrap();
            assert_eq!(content(&again).await, wanted, "from {small} to {large}, opened again");
            lab.assert_clean(file).await;
        }
    }
}

#[tokio::test]
async fn growing_a_terabyte_with_two_gigabytes_stored_keeps_them() {
    let places: Vec<(u64, u8)> = (0..2048).map(|i| (i * 500 * MIB + 8192, i as u8 | 1)).collect();
    resized(TIB, 1_331_200 * MIB, "", &places).await;
}

#[tokio::test]
async fn growing_into_the_gap_behind_the_map_moves_nothing() {
    let file = resized(4 * MIB, 200 * GIB, "", &[(0, 1), (MIB, 2)]).await;
    let disk = Lab::new().open_on(file, Access::Read, "").await.unwrap();
    assert_eq!((number(&disk, "map-offset"), number(&disk, "data-offset")), (MIB, 2 * MIB));
}

#[tokio::test]
async fn a_partial_last_block_grows_with_zeros() {
    let mut bytes = image(2 * MIB, &[0, 1], 2);
    bytes[0x170..0x178].copy_from_slice(&(2 * MIB - 1024).to_le_bytes());
    let lab = Lab::new();
    let file = MemStorage::from_bytes(&bytes);
    let disk = lab.open_on(file, Access::ReadWrite, "").await.unwrap();
    disk.device().resize(2 * MIB, Preallocation::Off).await.unwrap();
    let content = content(&disk).await;
    assert_eq!(content[2 * MIB as usize - 1024..], [0; 1024], "what lay there comes not to light");
    assert_eq!(content[2 * MIB as usize - 1025], 0xA1);
}

#[tokio::test]
async fn shrinking_forgets_what_is_behind_and_cuts_the_file() {
    let places: Vec<(u64, u8)> = (0..8).map(|i| (i * MIB + 4096, i as u8 + 1)).collect();
    let file = resized(8 * MIB, 3 * MIB + 512 * 8, "", &places).await;
    assert_eq!((allocated_of(&file), map_of(&file).len()), (4, 4));
    assert_eq!(file.len().await.unwrap(), 6 * MIB);
    let lab = Lab::new();
    let disk = lab.open_on(file, Access::ReadWrite, "").await.unwrap();
    disk.device().resize(8 * MIB, Preallocation::Off).await.unwrap();
    assert_holds(&disk, &[(4 * MIB + 4096, 0), (7 * MIB + 4096, 0)]).await;
}

#[tokio::test]
async fn a_static_image_stays_static() {
    let lab = Lab::new();
    let file = lab.create("s", 4 * MIB, "static=on").await.unwrap();
    let disk = lab.open("s", Access::ReadWrite, "").await.unwrap();
    put(&disk, 3 * MIB, 9).await;
    disk.device().resize(6 * MIB, Preallocation::Off).await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, 1, 2, 3, 4, 5], 6));
    assert_eq!(file.len().await.unwrap(), 8 * MIB);
    put(&disk, 5 * MIB, 8).await;
    disk.device().resize(2 * MIB, Preallocation::Off).await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, 1], 2));
    disk.device().resize(6 * MIB, Preallocation::Full).await.unwrap();
    assert_eq!(content(&disk).await, vec![0; 6 * MIB as usize]);
    disk.close().await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, 1, 2, 3, 4, 5], 6));
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn preallocated_growth_takes_slots_and_zeros_them() {
    for kind in [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full] {
        let lab = Lab::new();
        let file = lab.create("p", 2 * MIB, "").await.unwrap();
        let disk = lab.open("p", Access::ReadWrite, "").await.unwrap();
        put(&disk, MIB, 1).await;
        disk.device().resize(5 * MIB, kind).await.unwrap();
        assert_eq!((map_of(&file), allocated_of(&file)), (vec![FREE, 0, 1, 2, 3], 4), "{kind:?}");
        put(&disk, 0, 2).await;
        disk.close().await.unwrap();
        assert_eq!(map_of(&file)[0], 4);
        lab.assert_clean(file).await;
    }
}

#[tokio::test]
async fn a_full_image_without_room_for_the_map_says_what_to_do() {
    let lab = Lab::new();
    let file = lab.create("f", 128 * MIB, "layout=qemu,preallocation=metadata").await.unwrap();
    let before = file.len().await.unwrap();
    let disk = lab.open("f", Access::ReadWrite, "").await.unwrap();
    let error = disk.device().resize(256 * MIB, Preallocation::Off).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().to_string().contains("convert"));
    assert_eq!((disk.size(), file.len().await.unwrap()), (128 * MIB, before));
    put(&disk, 5 * MIB, 1).await;
    disk.close().await.unwrap();
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn sizes_the_format_cannot_have_are_refused_and_change_nothing() {
    let lab = Lab::new();
    lab.create("x", 4 * MIB, "").await.unwrap();
    let disk = lab.open("x", Access::ReadWrite, "").await.unwrap();
    for size in [2 << 50, 1000, i64::MAX as u64 - 511] {
        let error = disk.device().resize(size, Preallocation::Off).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{size}: {error}");
    }
    assert_eq!(disk.size(), 4 * MIB);
}

#[tokio::test]
async fn a_full_image_whose_map_has_no_room_grows_too() {
    // Ten blocks, all stored. The map's 512 bytes have space for 128 entries, but the new size needs 4096.
    let places: Vec<(u64, u8)> = (0..10).map(|i| (i * MIB + 4096, i as u8 + 1)).collect();
    let file = resized(10 * MIB, 4 * GIB, "layout=qemu", &places).await;
    let disk = Lab::new().open_on(file, Access::Read, "").await.unwrap();
    assert_eq!(number(&disk, "blocks"), 4096);
}

#[tokio::test]
async fn what_a_shrink_cuts_off_is_in_the_file_no_longer() {
    for options in ["", "layout=qemu", "static=on", "block_size=128k"] {
        // Cut in the middle of a block, and at the end of one.
        for size in [2 * MIB + 1536, 2 * MIB] {
            let lab = Lab::new();
            let file = lab.create("s", 4 * MIB, options).await.unwrap();
            let disk = lab.open("s", Access::ReadWrite, "").await.unwrap();
            disk.write_at(0, &vec![0x5A; 4 << 20], WriteFlags::empty()).await.unwrap();
            disk.flush().await.unwrap();
            disk.device().resize(size, Preallocation::Off).await.unwrap();
            disk.close().await.unwrap();
            let bytes = file.to_bytes().unwrap();
            let left = bytes.chunks(512).filter(|sector| **sector == [0x5A; 512]).count();
            assert_eq!(left as u64 * 512, size, "of {size} bytes, {options:?}");
        }
    }
}
