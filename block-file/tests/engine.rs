//! The queued engine: depth, dropped futures, and runtimes that come and go.
#![allow(missing_docs)]
#![cfg(feature = "io_uring")]

mod common;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use block_core::{CacheMode, ErrorKind, Storage, StorageAccess};
use common::{cool, open_with, pattern, skip};

async fn queued(path: &Path, cache: CacheMode) -> Option<Arc<dyn Storage>> {
    match open_with(path, StorageAccess::Create, cache, "io_uring").await {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            skip(&format!("no engine here: {error}"));
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

const LEN: usize = 4 << 20;

async fn read_in_parallel(file: &Arc<dyn Storage>, bytes: &Arc<Vec<u8>>, tasks: usize) {
    let readers: Vec<_> = (0..tasks)
        .map(|task| {
            let (file, bytes) = (Arc::clone(file), Arc::clone(bytes));
            tokio::spawn(async move {
                let mut buf = vec![0; 4096];
                for at in (task * 4096..LEN).step_by(tasks * 4096) {
                    file.read_at(at as u64, &mut buf).await.unwrap();
                    assert!(buf == bytes[at..at + 4096], "at {at}");
                    let given = file.read_bytes(at as u64, 4096).await.unwrap();
                    assert!(given == bytes[at..at + 4096], "given, at {at}");
                }
            })
        })
        .collect();
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader).await.expect("it hangs").unwrap();
    }
}

#[tokio::test]
async fn many_reads_and_writes_at_once_in_one_thread() {
    many_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_reads_and_writes_at_once_in_many_threads() {
    many_at_once().await;
}

/// Starts more requests at once than the ring has room for.
async fn many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [CacheMode::Writeback, CacheMode::None] {
        let path = dir.path().join(format!("{cache:?}"));
        let Some(file) = queued(&path, cache).await else { return };
        let bytes = Arc::new(pattern(1, LEN));
        // Alternate small and large writes, because their memory comes from different places.
        let writers: Vec<_> = (0..LEN)
            .step_by(16384)
            .flat_map(|at| [at..at + 4096, at + 4096..at + 16384])
            .map(|range| {
                let (file, bytes) = (Arc::clone(&file), Arc::clone(&bytes));
                tokio::spawn(async move { file.write_at(range.start as u64, &bytes[range]).await })
            })
            .collect();
        for writer in writers {
            let written = tokio::time::timeout(Duration::from_secs(60), writer);
            written.await.expect("it hangs").unwrap().unwrap();
        }
        cool(&path);
        read_in_parallel(&file, &bytes, 500).await;
    }
}

#[tokio::test]
async fn a_queued_write_waits_and_does_not_block_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = queued(&dir.path().join("a"), CacheMode::None).await else { return };
    let block = vec![3; 8192];
    let mut write = std::pin::pin!(file.write_at(0, &block));
    assert!(poll_once(write.as_mut()).is_pending(), "it is queued, not done");
    write.await.unwrap();
    assert_eq!(file.len().await.unwrap(), 8192);
}

#[tokio::test]
async fn a_dropped_write_never_lands_later_and_lets_go_of_its_range() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = queued(&dir.path().join("a"), CacheMode::None).await else { return };
    file.set_len(1 << 20).await.unwrap();
    for round in 0..200u8 {
        let (old, new) = (vec![round; 65536], vec![round.wrapping_add(1); 65536]);
        {
            let mut write = std::pin::pin!(file.write_at(4096, &old));
            assert!(poll_once(write.as_mut()).is_pending());
        }
        let after = file.write_at(8192, &new);
        tokio::time::timeout(Duration::from_secs(20), after)
            .await
            .expect("a guard is left")
            .unwrap();
        let mut back = vec![0; 65536];
        file.read_at(8192, &mut back).await.unwrap();
        assert!(back == new, "round {round}: what was dropped landed on what came after it");
    }
}

/// A stream keeps its futures without polling them while its reader does something else.
#[tokio::test]
async fn a_write_that_nobody_polls_does_not_hold_up_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = queued(&dir.path().join("a"), CacheMode::None).await else { return };
    let (first, second) = (vec![1; 8192], vec![2; 100]);
    let mut kept = Box::pin(file.write_at(0, &first));
    assert!(poll_once(kept.as_mut()).is_pending());
    // These are not whole units, so the write needs the range alone, but the first write holds it.
    let next = file.write_at(50, &second);
    tokio::time::timeout(Duration::from_secs(20), next).await.expect("it hangs").unwrap();
    kept.await.unwrap();
    let mut back = vec![0; 8192];
    file.read_at(0, &mut back).await.unwrap();
    assert!(back[..50].iter().all(|b| *b == 1) && back[150..].iter().all(|b| *b == 1));
    assert!(back[50..150].iter().all(|b| *b == 2));
}

#[test]
fn a_storage_outlives_its_runtimes_and_works_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let runtime = |io: bool, many: bool| {
        let mut builder = if many {
            tokio::runtime::Builder::new_multi_thread()
        } else {
            tokio::runtime::Builder::new_current_thread()
        };
        if io {
            builder.enable_all();
        }
        builder.build().unwrap()
    };
    let first = runtime(true, false);
    let Some(file) = first.block_on(queued(&path, CacheMode::None)) else { return };
    let write = |at: u64| {
        let file = Arc::clone(&file);
        async move { file.write_at(at * 4096, &[at as u8; 4096]).await.unwrap() }
    };
    first.block_on(write(1));
    let second = runtime(true, true);
    second.block_on(write(2));
    // Start on one runtime that is then no longer polled, and end on another.
    let mut begun = Box::pin(write(3));
    first.block_on(async { assert!(poll_once(begun.as_mut()).is_pending()) });
    second.block_on(begun);
    // Start on a runtime that is then dropped, and end without a runtime.
    let mut begun = Box::pin(write(4));
    first.block_on(async { assert!(poll_once(begun.as_mut()).is_pending()) });
    drop(first);
    assert!(poll_once(begun.as_mut()).is_ready());
    assert!(poll_once(Box::pin(write(5)).as_mut()).is_ready(), "a plain call");
    runtime(false, false).block_on(write(6));
    runtime(false, true).block_on(write(7));
    drop(second);
    let bytes = std::fs::read(&path).unwrap();
    for (block, bytes) in bytes.chunks(4096).enumerate() {
        assert!(bytes.iter().all(|b| usize::from(*b) == block), "block {block}");
    }
    assert_eq!(bytes.len(), 8 * 4096);
}

#[tokio::test]
async fn an_engine_lets_go_of_the_file_with_its_storage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for _ in 0..20 {
        let options = block_core::StorageOptions::new(StorageAccess::Create)
            .cache(CacheMode::None)
            .options(common::option("engine", "io_uring"));
        let opened = block_core::ProtocolDriver::open(
            &block_file::FileProtocol,
            path.to_str().unwrap(),
            &options,
        );
        let file = match opened.await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return skip("no engine here"),
            opened => opened.expect("the lock of the storage before is still held"),
        };
        file.write_at(0, &[1; 4096]).await.unwrap();
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 60, "{open} descriptors are open");
}

#[tokio::test]
async fn a_read_past_the_end_is_an_error_here_too() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [CacheMode::Writeback, CacheMode::None] {
        let path = dir.path().join(format!("{cache:?}"));
        let Some(file) = queued(&path, cache).await else { return };
        file.write_at(0, &pattern(2, 10_000)).await.unwrap();
        // In the last range, the whole units before the file's end hold as many bytes as the read wants.
        let ranges = [(8192, 4096), (9_999, 2), (10_000, 1), (0, 10_001), (8292, 1808)];
        for (offset, len) in ranges {
            cool(&path);
            let error = file.read_at(offset, &mut vec![0; len]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfRange, "{offset} {len}");
            cool(&path);
            let error = file.read_bytes(offset, len).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfRange, "given, {offset} {len}");
        }
        cool(&path);
        let mut tail = vec![0; 1808];
        file.read_at(8192, &mut tail).await.unwrap();
        assert!(tail == pattern(2, 10_000)[8192..]);
    }
}
