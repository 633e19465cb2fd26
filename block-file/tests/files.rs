//! Regular files: each test shows one promise of the storage trait.
#![allow(missing_docs)]

mod common;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use block_core::{
    CacheMode, ErrorKind, ProtocolDriver, Sharing, Storage, StorageAccess, StorageCaps,
    StorageOptions, ZeroMode,
};
use block_file::FileProtocol;
use common::{all, create, extents, open, pattern};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn what_was_written_is_read_and_a_gap_reads_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.write_at(5001, b"abc").await.unwrap();
    let mut expected = vec![0; 5004];
    expected[5001..].copy_from_slice(b"abc");
    assert_eq!(all(&*file).await, expected);
    let mut part = [0; 2];
    assert!(matches!(file.try_read_at(5002, &mut part), Some(Ok(()))), "these bytes are cached");
    assert_eq!(&part, b"bc");
}

#[tokio::test]
async fn a_read_past_the_end_is_an_error_and_not_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.write_at(0, &[1; 100]).await.unwrap();
    for (offset, len) in [(0, 101), (99, 2), (100, 1), (1 << 40, 1)] {
        let mut buf = vec![0; len];
        let error = file.read_at(offset, &mut buf).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{offset} {len}: {error}");
        if let Some(answer) = file.try_read_at(offset, &mut buf) {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
    file.read_at(100, &mut []).await.unwrap();
}

#[tokio::test]
async fn no_offset_overflows() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    let far = i64::MAX as u64;
    for offset in [far, far + 1, u64::MAX] {
        let kinds = [
            file.read_at(offset, &mut [0; 2]).await.unwrap_err().kind(),
            file.write_at(offset, &[0; 2]).await.unwrap_err().kind(),
            file.write_zeroes(offset, 2, ZeroMode::Deallocate).await.unwrap_err().kind(),
            file.allocate(offset, 2).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::OutOfRange; 4], "{offset:#x}");
    }
    assert_eq!(file.set_len(u64::MAX).await.unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(file.len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_longer_length_exposes_zeros_even_where_bytes_had_been() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.write_at(0, &[7; 5000]).await.unwrap();
    file.set_len(10).await.unwrap();
    file.set_len(5000).await.unwrap();
    let bytes = all(&*file).await;
    assert!(bytes[..10].iter().all(|b| *b == 7));
    assert!(bytes[10..].iter().all(|b| *b == 0));
}

#[tokio::test]
async fn extents_tile_the_file_and_tell_holes_from_data() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.set_len(4 * MIB + 100).await.unwrap();
    file.write_at(MIB, &pattern(1, MIB as usize)).await.unwrap();
    assert!(file.caps().contains(StorageCaps::SPARSE));
    let found = extents(&*file).await;
    let mut at = 0;
    for extent in &found {
        assert_eq!(extent.start, at);
        assert!(extent.len > 0);
        at += extent.len;
    }
    assert_eq!(at, 4 * MIB + 100);
    let data: Vec<_> = found.iter().map(|e| (e.start, e.len, e.data)).collect();
    assert_eq!(data, [(0, MIB, false), (MIB, MIB, true), (2 * MIB, 2 * MIB + 100, false)]);
    let mut part = Vec::new();
    file.extents(MIB + 10..MIB + 20, &mut part).await.unwrap();
    assert_eq!((part.len(), part[0].start, part[0].len, part[0].data), (1, MIB + 10, 10, true));
}

#[tokio::test]
async fn a_deallocated_range_is_a_hole_and_its_odd_edges_are_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    let mut model = pattern(2, 3 << 20);
    file.write_at(0, &model).await.unwrap();
    file.flush().await.unwrap();
    let before = file.allocated_bytes().await.unwrap().unwrap();
    let (start, end) = (MIB + 77, 2 * MIB + 1234);
    file.write_zeroes(start, end - start, ZeroMode::Deallocate).await.unwrap();
    model[start as usize..end as usize].fill(0);
    assert_eq!(all(&*file).await, model);
    let after = file.allocated_bytes().await.unwrap().unwrap();
    assert!(before - after >= MIB - 8192, "{before} -> {after}");
    assert!(extents(&*file).await.iter().any(|e| !e.data && e.len >= MIB - 8192));
}

#[tokio::test]
async fn an_allocated_zero_range_keeps_its_room_and_extends_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    let mut model = pattern(3, 1 << 20);
    file.write_at(0, &model).await.unwrap();
    file.write_zeroes(MIB / 2 + 3, MIB, ZeroMode::Allocate).await.unwrap();
    model.resize((MIB + MIB / 2 + 3) as usize, 0);
    model[(MIB / 2 + 3) as usize..].fill(0);
    assert_eq!(all(&*file).await, model);
    assert!(file.allocated_bytes().await.unwrap().unwrap() >= model.len() as u64);
}

#[tokio::test]
async fn zeroes_behind_the_end_make_the_file_longer_at_no_cost() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.write_at(0, &[9; 10]).await.unwrap();
    file.write_zeroes(4, 8 * MIB, ZeroMode::Deallocate).await.unwrap();
    let bytes = all(&*file).await;
    assert_eq!(bytes.len() as u64, 8 * MIB + 4);
    assert!(bytes[..4].iter().all(|b| *b == 9) && bytes[4..].iter().all(|b| *b == 0));
    assert!(file.allocated_bytes().await.unwrap().unwrap() <= 8192);
}

#[tokio::test]
async fn a_large_write_into_a_hole_takes_the_room_it_needs_and_leaves_the_rest_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    let bytes = pattern(3, 2 * MIB as usize);
    // Write into the middle of a hole, across the end, and over data.
    file.set_len(8 * MIB).await.unwrap();
    file.write_at(3 * MIB, &bytes).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 8 * MIB, "room does not lengthen the file");
    file.write_at(7 * MIB, &bytes).await.unwrap();
    file.write_at(4 * MIB, &bytes).await.unwrap();
    let mut expected = vec![0; 9 * MIB as usize];
    for at in [3, 7, 4] {
        let at = (at * MIB) as usize;
        expected[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    assert!(all(&*file).await == expected);
    let stored = file.allocated_bytes().await.unwrap().unwrap();
    assert!((5 * MIB..6 * MIB).contains(&stored), "{stored} bytes for 5 MiB");
    let first = extents(&*file).await[0];
    assert!(!first.data && first.len == 3 * MIB, "{first:?}");
}

#[tokio::test]
async fn room_set_aside_changes_neither_length_nor_content() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a")).await;
    file.write_at(0, b"x").await.unwrap();
    file.allocate(0, 4 * MIB).await.unwrap();
    assert_eq!(all(&*file).await, b"x");
    assert!(file.allocated_bytes().await.unwrap().unwrap() >= 4 * MIB);
}

#[tokio::test]
async fn a_copy_equals_its_source_and_refuses_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let source = create(&dir.path().join("a")).await;
    let target = create(&dir.path().join("b")).await;
    let bytes = pattern(4, 3 << 20);
    source.write_at(0, &bytes).await.unwrap();
    // Aligned, unaligned, and of one block.
    for (to, from, len) in [(0, 0, 2 * MIB), (4 * MIB + 1, 3, MIB), (0, 4096, 4096)] {
        assert!(target.copy_from(to, &*source, from, len).await.unwrap(), "{to} {from} {len}");
        let mut copied = vec![0; len as usize];
        target.read_at(to, &mut copied).await.unwrap();
        assert!(copied == bytes[from as usize..(from + len) as usize], "{to} {from} {len}");
    }
    let error = target.copy_from(0, &*source, 3 * MIB, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert!(!target.copy_from(10, &*target, 0, 100).await.unwrap(), "it overlaps itself");
    let memory = block_core::MemStorage::from_bytes(&bytes);
    assert!(!target.copy_from(0, &*memory, 0, 100).await.unwrap());
}

#[tokio::test]
async fn a_storage_opened_for_reading_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"content").unwrap();
    let file = open(&path, StorageAccess::Read, CacheMode::Writeback).await.unwrap();
    assert!(!file.caps().intersects(StorageCaps::WRITE | StorageCaps::RESIZE));
    let kinds = [
        file.write_at(0, b"x").await.unwrap_err().kind(),
        file.write_zeroes(0, 1, ZeroMode::Allocate).await.unwrap_err().kind(),
        file.allocate(0, 1).await.unwrap_err().kind(),
        file.set_len(1).await.unwrap_err().kind(),
        file.copy_from(0, &*file, 1, 1).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::ReadOnly; 5]);
    file.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
}

#[tokio::test]
async fn one_file_by_two_names_is_one_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let first = create(&a).await;
    std::fs::hard_link(&a, &b).unwrap();
    assert_eq!(create(&b).await.id(), first.id());
    assert_ne!(create(&c).await.id(), first.id());
}

#[tokio::test]
async fn every_access_does_what_its_name_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let try_open = |access| open(&path, access, CacheMode::Writeback);
    for access in [StorageAccess::Read, StorageAccess::ReadWrite] {
        let error = try_open(access).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = format!("Could not open '{}': No such file or directory", path.display());
        assert_eq!(error.message(), text);
        assert_eq!(error.image(), path.to_str());
    }
    try_open(StorageAccess::CreateNew).await.unwrap().write_at(0, b"kept").await.unwrap();
    let error = try_open(StorageAccess::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(all(&*try_open(StorageAccess::Create).await.unwrap()).await, b"kept");
}

#[tokio::test]
async fn a_uri_of_the_scheme_and_a_bare_path_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("with:colon");
    std::fs::write(&path, b"x").unwrap();
    let mut registry = block_core::Registry::new();
    block_file::register(&mut registry);
    let request = StorageOptions::new(StorageAccess::Read);
    for uri in [path.display().to_string(), format!("file:{}", path.display())] {
        let file = registry.open_storage(&uri, &request).await.unwrap();
        assert_eq!(all(&*file).await, b"x");
    }
}

#[tokio::test]
async fn what_has_no_offsets_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
    common::run("mkfifo", &[fifo.to_str().unwrap()]).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, what) in [
        (dir.path(), "a directory"),
        (&fifo, "a FIFO"),
        (&socket, "a socket"),
        (std::path::Path::new("/dev/zero"), "a character device"),
    ] {
        for access in [StorageAccess::Read, StorageAccess::ReadWrite, StorageAccess::Create] {
            let opening = open(path, access, CacheMode::Writeback);
            let opened = tokio::time::timeout(Duration::from_secs(5), opening).await;
            let error = opened.expect("opening hangs").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.message().ends_with(what), "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = create_error(&dir.path().join("none/a")).await;
    assert!(error.hint().unwrap().to_string().contains("none' does not exist"), "{error:?}");
    let error = FileProtocol
        .open("nbd:somewhere", &StorageOptions::new(StorageAccess::Read))
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().to_string().starts_with("'nbd' is no protocol"), "{error:?}");
}

async fn create_error(path: &std::path::Path) -> block_core::Error {
    open(path, StorageAccess::Create, CacheMode::Writeback).await.unwrap_err()
}

#[tokio::test]
async fn a_file_without_permission_is_refused_as_such() {
    if rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: root may open everything, so nothing is refused");
    }
    let error = open("/etc/shadow".as_ref(), StorageAccess::Read, CacheMode::Writeback).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn force_sharing_is_for_reading_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"").unwrap();
    let error = common::open_shared(&path, StorageAccess::ReadWrite, Sharing::Force).await;
    let error = error.unwrap_err();
    assert_eq!(error.message(), "force-share=on can only be used with read-only images");
}

/// Growing by zeros reads the length and then sets it. Bytes that another task appends in between must survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn zeroing_behind_the_end_never_cuts_off_what_is_appended_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [CacheMode::Writeback, CacheMode::None] {
        let file: Arc<dyn Storage> =
            open(&dir.path().join("a"), StorageAccess::Create, cache).await.unwrap();
        for round in 0..40 {
            file.set_len(0).await.unwrap();
            let (writer, zeroer) = (Arc::clone(&file), Arc::clone(&file));
            let write = tokio::spawn(async move {
                for block in 0..16u64 {
                    writer.write_at(block * 8192 + 4096, &[5; 4096]).await.unwrap();
                }
            });
            let zero = tokio::spawn(async move {
                for block in 0..16u64 {
                    zeroer.write_zeroes(block * 8192, 4096, ZeroMode::Deallocate).await.unwrap();
                }
            });
            write.await.unwrap();
            zero.await.unwrap();
            let bytes = all(&*file).await;
            assert_eq!(bytes.len(), 16 * 8192, "round {round}");
            for (block, bytes) in bytes.chunks(4096).enumerate() {
                let expected = if block % 2 == 0 { 0 } else { 5 };
                assert!(
                    bytes.iter().all(|b| *b == expected),
                    "{cache:?} round {round} block {block}"
                );
            }
        }
    }
}

/// Works on every kind of runtime, cached or not.
#[test]
fn it_works_on_both_kinds_of_runtime_and_on_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let work = || async {
        let file = create(&path).await;
        let bytes = pattern(5, 100_000);
        file.write_at(0, &bytes).await.unwrap();
        file.flush().await.unwrap();
        let fd = std::fs::File::open(&path).unwrap();
        rustix::fs::fadvise(&fd, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(all(&*file).await == bytes);
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work());
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(work());
    let waker = std::task::Waker::noop();
    let mut future = std::pin::pin!(work());
    let polled = future.as_mut().poll(&mut std::task::Context::from_waker(waker));
    assert!(polled.is_ready(), "no call of the page cache waits for a runtime");
}

/// Variable with the path of the file for the next test's child. Without it, `limited` does nothing.
const SHORT: &str = "BLOCK_FILE_TEST_SHORT";

/// Not a test of its own: the child process, which may not make files longer than 4 KiB.
#[tokio::test]
async fn limited() {
    let Ok(path) = std::env::var(SHORT) else { return };
    let file = create(std::path::Path::new(&path)).await;
    let answer = file.write_at(0, &pattern(7, 8192)).await;
    println!("{answer:?}, {:?} bytes", file.len().await);
}

#[test]
fn a_short_write_is_not_taken_for_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    // The kernel writes up to the limit and returns that count. The rest fails.
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 8; trap '' XFSZ; exec \"$0\" --exact limited --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(SHORT, dir.path().join("a"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.contains(" bytes")).unwrap_or_default();
    assert!(line.contains("Ok(4096) bytes"), "the write was not short: {said}");
    assert!(line.contains("Err(") && !line.contains("Ok(())"), "{said}");
}
