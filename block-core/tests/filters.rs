//! The filters: what they do to requests, and that they stack.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use block_core::filter::{LogStorage, OverlayStorage, StatsStorage, register};
use block_core::{
    Error, ErrorKind, MemStorage, OptionSpec, ProtocolDriver, Registry, Result, Storage,
    StorageAccess, StorageOptions, ZeroMode,
};
use block_testkit::exec::block_on;
use block_testkit::rng::Rng;

#[derive(Debug)]
struct One(Arc<MemStorage>);

#[async_trait]
impl ProtocolDriver for One {
    fn scheme(&self) -> &'static str {
        "one"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        match location {
            "a" => Ok(Arc::clone(&self.0) as Arc<dyn Storage>),
            _ => Err(Error::new(ErrorKind::NotFound, location.to_owned())),
        }
    }
}

fn registry(below: &Arc<MemStorage>) -> Registry {
    let mut registry = Registry::new();
    assert!(register(&mut registry).is_err(), "nothing to stand on");
    registry.register_protocol(Arc::new(One(Arc::clone(below))));
    register(&mut registry).unwrap();
    registry
}

fn opened(below: &Arc<MemStorage>, uri: &str, options: &[(&str, &str)]) -> Arc<dyn Storage> {
    let registry = registry(below);
    let (protocol, location) = registry.protocol(uri).unwrap();
    let mut all = StorageOptions::new(StorageAccess::ReadWrite);
    for (name, value) in options {
        all.options.set(protocol.open_options(), name, value).unwrap();
    }
    block_on(protocol.open(location, &all)).unwrap()
}

#[test]
fn filters_stack_and_an_overlay_leaves_the_storage_below_alone() {
    let below = MemStorage::from_bytes(&[1; 10_000]);
    let registry = registry(&below);
    let options = StorageOptions::new(StorageAccess::ReadWrite);
    block_on(async {
        let storage = registry.open_storage("stats:overlay:log:a", &options).await.unwrap();
        storage.write_at(5000, &[2; 6000]).await.unwrap();
        let stats = storage.as_any().downcast_ref::<StatsStorage>().unwrap();
        assert_eq!((stats.stats().writes, stats.stats().bytes_written), (1, 6000));
        let mut found = vec![0; 11_000];
        storage.read_at(0, &mut found).await.unwrap();
        assert_eq!(found, [vec![1; 5000], vec![2; 6000]].concat());
        assert!(registry.open_storage("log:b", &options).await.is_err());
    });
    assert_eq!(below.to_bytes().unwrap(), [1; 10_000]);
}

#[test]
fn the_third_write_fails_as_told_and_no_other_request_does() {
    let below = MemStorage::from_bytes(&[0; 4096]);
    let words = [("op", "write"), ("after", "2"), ("times", "2"), ("error", "enospc")];
    let storage = opened(&below, "fault:a", &words);
    block_on(async {
        let mut answers = Vec::new();
        for at in 0..6 {
            storage.read_at(0, &mut [0; 8]).await.unwrap();
            answers.push(storage.write_at(at * 8, &[7; 8]).await.map_err(|e| e.kind()));
            storage.flush().await.unwrap();
        }
        let full = Err(ErrorKind::NoSpace);
        assert_eq!(answers, [Ok(()), Ok(()), full, full, Ok(()), Ok(())]);
    });
    let bytes = below.to_bytes().unwrap();
    assert_eq!([bytes[8], bytes[16], bytes[24], bytes[32]], [7, 0, 0, 7]);
}

#[test]
fn a_throttle_takes_the_time_it_is_told_and_not_much_more() {
    let below = MemStorage::from_bytes(&[0; 4096]);
    let time = |words: &[(&str, &str)]| {
        let storage = opened(&below, "throttle:a", words);
        let start = Instant::now();
        for _ in 0..20 {
            block_on(storage.write_at(0, &[7; 1000])).unwrap();
        }
        start.elapsed()
    };
    assert!(time(&[("iops", "200")]) >= Duration::from_millis(95));
    assert!(time(&[("bps", "200k")]) >= Duration::from_millis(90));
    // Other programs may hold this one up, but not by what the slow ones above take.
    assert!(time(&[("iops", "1000000"), ("bps", "1G")]) < Duration::from_millis(90));
}

#[test]
fn what_was_kept_does_the_same_to_another_storage() {
    let (first, second) = (MemStorage::new(), MemStorage::new());
    let log = LogStorage::keeping(Arc::clone(&first) as Arc<dyn Storage>);
    block_on(async {
        log.write_at(100, &[7; 5000]).await.unwrap();
        log.write_zeroes(200, 4100, ZeroMode::Deallocate).await.unwrap();
        log.set_len(4400).await.unwrap();
        log.flush().await.unwrap();
        for record in log.records() {
            record.play(&*second).await.unwrap();
        }
    });
    assert_eq!(log.records().len(), 4);
    assert_eq!(first.to_bytes(), second.to_bytes());
}

#[test]
fn an_overlay_agrees_with_a_vector_and_leaves_what_is_below_alone() {
    let below = MemStorage::from_bytes(&[9; 20_000]);
    let mut wanted = vec![9; 20_000];
    let mut rng = Rng::new(4);
    block_on(async {
        let overlay = OverlayStorage::new(Arc::clone(&below) as Arc<dyn Storage>).await.unwrap();
        for step in 0..500 {
            let offset = rng.within(0..wanted.len() as u64 + 1000);
            let len = rng.within(1..9000) as usize;
            let end = offset as usize + len;
            if step % 7 == 6 {
                overlay.set_len(end as u64).await.unwrap();
                wanted.resize(end, 0);
            } else {
                let bytes = vec![step as u8; len];
                match step % 3 {
                    0 => overlay.write_zeroes(offset, len as u64, ZeroMode::Allocate).await,
                    _ => overlay.write_at(offset, &bytes).await,
                }
                .unwrap();
                let value = if step % 3 == 0 { 0 } else { step as u8 };
                wanted.resize(wanted.len().max(end), 0);
                wanted[offset as usize..end].fill(value);
            }
            let mut found = vec![1; overlay.len().await.unwrap() as usize];
            overlay.read_at(0, &mut found).await.unwrap();
            assert!(found == wanted, "step {step}");
        }
    });
    assert_eq!(below.to_bytes().unwrap(), [9; 20_000]);
}
