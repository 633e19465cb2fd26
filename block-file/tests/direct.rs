//! Direct I/O of any alignment, compared with a model in memory.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use block_core::{
    Bytes, CacheMode, ErrorKind, PageBuffer, Storage, StorageAccess, StorageCaps, ZeroMode,
};
use common::{Random, all, open, pattern, skip};

async fn direct(path: &std::path::Path, cache: CacheMode) -> Option<Arc<dyn Storage>> {
    direct_by(path, cache, "auto").await
}

/// The engines to test. A test reports an engine as skipped if this kernel or build refuses it.
const ENGINES: [&str; 2] = ["sync", "io_uring"];

async fn direct_by(
    path: &std::path::Path,
    cache: CacheMode,
    engine: &str,
) -> Option<Arc<dyn Storage>> {
    match common::open_with(path, StorageAccess::Create, cache, engine).await {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            skip(&format!("no direct I/O here: {error}"));
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn the_page_cache_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    for read_too in [false, true] {
        // A query for cached bytes starts readahead, and a fast disk may finish it before the query returns. So query
        // each file once: bytes really cached would show in all files.
        let mut cached = 0;
        for round in 0..5 {
            let path = dir.path().join(format!("{read_too}-{round}"));
            let Some(file) = direct(&path, CacheMode::None).await else { return };
            assert!(file.caps().contains(StorageCaps::DIRECT));
            file.write_at(0, &pattern(1, 1 << 20)).await.unwrap();
            let mut buf = vec![0; 4096];
            if read_too {
                file.read_at(512 << 10, &mut buf).await.unwrap();
                file.read_bytes(512 << 10, 4096).await.unwrap();
            }
            let plain = open(&path, StorageAccess::Read, CacheMode::Writeback).await.unwrap();
            assert!(!plain.caps().contains(StorageCaps::DIRECT));
            cached += usize::from(plain.try_read_at(512 << 10, &mut buf).is_some());
        }
        assert!(cached < 5, "read too: {read_too}");
    }
}

#[tokio::test]
async fn requests_of_any_alignment_do_what_a_model_does() {
    let dir = tempfile::tempdir().unwrap();
    for (cache, engine) in [
        (CacheMode::None, "sync"),
        (CacheMode::None, "io_uring"),
        (CacheMode::Directsync, "io_uring"),
    ] {
        let path = dir.path().join(format!("{cache:?}-{engine}"));
        let Some(file) = direct_by(&path, cache, engine).await else { continue };
        let seed = 0x5EED_0001;
        eprintln!("seed {seed:#x}");
        let mut random = Random(seed);
        let mut model: Vec<u8> = Vec::new();
        for step in 0..400 {
            // Half of the ranges consist of whole units.
            let unit = if random.below(2) == 0 { 1 } else { 4096 };
            let offset = random.below(1 << 16) / unit * unit;
            // Some ranges are larger than a bounce buffer.
            let len = if random.below(40) == 0 {
                (1 << 20) + random.below(5000)
            } else {
                random.below(9000)
            };
            let len = len / unit * unit;
            let end = usize::try_from(offset + len).unwrap();
            let start = usize::try_from(offset).unwrap();
            match random.below(8) {
                0 => {
                    let len = random.below(1 << 17);
                    file.set_len(len).await.unwrap();
                    model.resize(usize::try_from(len).unwrap(), 0);
                }
                1 | 2 => {
                    let mode = if random.below(2) == 0 {
                        ZeroMode::Allocate
                    } else {
                        ZeroMode::Deallocate
                    };
                    file.write_zeroes(offset, len, mode).await.unwrap();
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[start..end].fill(0);
                    }
                }
                3 | 4 => {
                    let mut buf = vec![0xEE; end - start];
                    let read = file.read_at(offset, &mut buf).await;
                    let given = file.read_bytes(offset, end - start).await;
                    assert_eq!(read.is_ok(), given.is_ok(), "step {step}");
                    assert!(given.is_ok_and(|bytes| bytes == buf) || read.is_err(), "step {step}");
                    match model.get(start..end) {
                        Some(expected) => assert!(read.is_ok() && buf == expected, "step {step}"),
                        None if len == 0 => {}
                        None => assert_eq!(read.unwrap_err().kind(), ErrorKind::OutOfRange),
                    }
                }
                _ => {
                    let bytes = pattern(seed + step, end - start);
                    match random.below(3) {
                        0 => file.write_at(offset, &bytes).await.unwrap(),
                        // Memory aligned as the kernel requires, or not.
                        shift => {
                            let shift = usize::try_from(shift - 1).unwrap();
                            let mut pages = PageBuffer::new(shift + bytes.len());
                            pages[shift..].copy_from_slice(&bytes);
                            let given = Bytes::from(pages).slice(shift..);
                            file.write_bytes(offset, given).await.unwrap();
                        }
                    }
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[start..end].copy_from_slice(&bytes);
                    }
                }
            }
            assert_eq!(file.len().await.unwrap(), model.len() as u64, "step {step}");
        }
        file.flush().await.unwrap();
        assert!(all(&*file).await == model);
        assert!(std::fs::read(&path).unwrap() == model);
    }
}

/// Keeps more buffers than the engine has registered while it reads others.
#[tokio::test]
async fn bytes_that_were_given_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        let path = dir.path().join(engine);
        let Some(file) = direct_by(&path, CacheMode::None, engine).await else { continue };
        let content = pattern(7, 200 * 4096);
        file.write_at(0, &content).await.unwrap();
        let mut given = Vec::new();
        for index in 0..200 {
            given.push(file.read_bytes(index * 4096, 4096).await.unwrap());
        }
        file.write_at(0, &pattern(8, 200 * 4096)).await.unwrap();
        let later = file.read_bytes(4096 + 100, 8000).await.unwrap();
        assert_eq!(later, pattern(8, 200 * 4096)[4196..12196]);
        for (bytes, wanted) in given.iter().zip(content.chunks(4096)) {
            assert_eq!(bytes, wanted);
        }
        drop(file);
        assert_eq!(given.concat(), content, "after the file is gone, too");
    }
}

/// Each task owns every fourth run of 100 bytes in the same few units.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn neighbours_in_one_unit_do_not_undo_each_other() {
    for engine in ENGINES {
        neighbours(engine).await;
    }
}

async fn neighbours(engine: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let Some(file) = direct_by(&path, CacheMode::None, engine).await else { return };
    let tasks: Vec<_> = (0..4u8)
        .map(|task| {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                for round in 0..80u64 {
                    let offset = round * 400 + u64::from(task) * 100;
                    file.write_at(offset, &[task + 1; 100]).await.unwrap();
                    // Whole units past all runs, each owned by one task: those writes are queued.
                    let own = 65536 + (round * 4 + u64::from(task)) * 4096;
                    file.write_at(own, &[task + 1; 4096]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let bytes = all(&*file).await;
    assert_eq!(bytes.len(), 65536 + 320 * 4096);
    let units = bytes[65536..].chunks(4096);
    for (place, bytes) in bytes[..80 * 400].chunks(100).chain(units).enumerate() {
        let owner = u8::try_from(place % 4).unwrap() + 1;
        assert!(bytes.iter().all(|b| *b == owner), "run {place}");
    }
}
