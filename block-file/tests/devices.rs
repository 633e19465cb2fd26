//! Block devices, working and failing, with the help of loop devices.
#![allow(missing_docs)]

mod common;

use std::os::unix::fs::FileExt;

use block_core::{CacheMode, ErrorKind, StorageAccess, StorageCaps, ZeroMode};
use common::{Loop, Tmpfs, all, open, pattern};

const LEN: u64 = 4 << 20;

#[tokio::test]
async fn a_device_is_read_written_zeroed_and_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backing");
    std::fs::File::create(&path).unwrap().set_len(LEN + 512).unwrap();
    let Some(device) = Loop::over(&path, &[]) else { return };
    for cache in [CacheMode::Writeback, CacheMode::None] {
        let disk = open(device.0.as_ref(), StorageAccess::Create, cache).await.unwrap();
        assert_eq!(disk.len().await.unwrap(), LEN + 512);
        assert!(disk.caps().contains(StorageCaps::WRITE));
        assert!(!disk.caps().contains(StorageCaps::RESIZE));
        let mut model = pattern(1, usize::try_from(LEN + 512).unwrap());
        disk.write_at(0, &model).await.unwrap();
        for (mode, start, len) in [
            (ZeroMode::Deallocate, 1 << 20, 1 << 20),
            (ZeroMode::Deallocate, 100_001, 10_000),
            (ZeroMode::Allocate, 3 << 20, 70_000),
            (ZeroMode::Allocate, LEN + 300, 212),
        ] {
            disk.write_zeroes(start, len, mode).await.unwrap();
            model[usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap()].fill(0);
            assert!(all(&*disk).await == model, "{cache:?} {mode:?} {start}");
        }
        disk.flush().await.unwrap();

        let error = disk.write_at(LEN, &[1; 513]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange);
        let error = disk.read_at(LEN + 1, &mut [0; 512]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange);
        assert_eq!(disk.set_len(LEN).await.unwrap_err().kind(), ErrorKind::Unsupported);
        disk.set_len(LEN + 512).await.unwrap();
        assert!(all(&*disk).await == model, "a refused request changed something");
        drop(disk);
        assert!(std::fs::read(&path).unwrap() == model);
    }
}

#[tokio::test]
async fn a_discarding_device_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backing");
    std::fs::write(&path, pattern(2, 4 << 20)).unwrap();
    let Some(device) = Loop::over(&path, &[]) else { return };
    let disk =
        open(device.0.as_ref(), StorageAccess::ReadWrite, CacheMode::Writeback).await.unwrap();
    if !disk.caps().contains(StorageCaps::DEALLOCATE) {
        return common::skip("this loop device does not discard");
    }
    disk.write_zeroes(0, LEN, ZeroMode::Deallocate).await.unwrap();
    disk.flush().await.unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
    assert!(blocks * 512 < LEN / 2, "{blocks} blocks are left");
}

/// The file system under the loop device is full, so the page cache cannot be written back.
#[tokio::test]
async fn after_a_failed_flush_every_flush_fails() {
    let Some(small) = Tmpfs::mount(1 << 20) else { return };
    let path = small.0.path().join("backing");
    std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let Some(device) = Loop::over(&path, &[]) else { return };
    let disk =
        open(device.0.as_ref(), StorageAccess::ReadWrite, CacheMode::Writeback).await.unwrap();
    disk.write_at(0, &pattern(3, 4 << 20)).await.unwrap();
    let first = disk.flush().await.unwrap_err();
    assert_eq!(first.message(), "could not flush");
    let second = disk.flush().await.expect_err("the kernel has forgotten the loss, we must not");
    assert!(second.message().starts_with("an earlier flush failed ("), "{second}");
    // Without new writes, the kernel reports this descriptor as clean.
    let other =
        open(device.0.as_ref(), StorageAccess::ReadWrite, CacheMode::Writeback).await.unwrap();
    let _ = other.flush().await;
    assert!(disk.flush().await.is_err());
}

#[tokio::test]
async fn a_full_file_system_is_an_error_of_its_own_kind_and_passes() {
    let Some(small) = Tmpfs::mount(1 << 20) else { return };
    let path = small.0.path().join("a");
    let file = open(&path, StorageAccess::Create, CacheMode::Writeback).await.unwrap();
    let error = file.write_at(0, &pattern(4, 2 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    assert_eq!(error.message(), "could not write 2097152 bytes");
    assert_eq!(file.allocate(0, 2 << 20).await.unwrap_err().kind(), ErrorKind::NoSpace);
    let error = file.write_zeroes(0, 2 << 20, ZeroMode::Allocate).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    // Deallocating zeros need no space. They succeed and free some.
    file.write_zeroes(0, 2 << 20, ZeroMode::Deallocate).await.unwrap();
    file.write_at(0, &[7; 4096]).await.unwrap();
    let mut back = [0; 4096];
    std::fs::File::open(&path).unwrap().read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, [7; 4096]);
    file.flush().await.unwrap();
}
