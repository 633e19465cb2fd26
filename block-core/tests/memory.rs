//! The storage in memory keeps the promises of every storage.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use block_core::{ErrorKind, MemStorage, Storage, ZeroMode};
use block_testkit::promises::{Effort, storage_requests};

#[tokio::test]
async fn a_full_storage_refuses_what_needs_more_and_takes_what_does_not() {
    let storage = MemStorage::new();
    storage.limit(8192);
    storage.write_at(1 << 20, &[1; 8192]).await.unwrap();
    let refused = storage.write_at((1 << 20) + 8191, &[2; 2]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    let mut last = [0];
    storage.read_at((1 << 20) + 8191, &mut last).await.unwrap();
    assert_eq!(last, [1], "a refused write changes nothing");
    storage.write_at(1 << 20, &[3; 8192]).await.unwrap();
    storage.write_zeroes(1 << 20, 4096, ZeroMode::Deallocate).await.unwrap();
    storage.write_at(0, &[4; 4096]).await.unwrap();
}

#[test]
fn memory_keeps_the_promises_of_every_storage() {
    let effort = Effort { seed: 0x5EED, histories: 8, requests: 60, states: 0 };
    let make = || MemStorage::new() as std::sync::Arc<dyn Storage>;
    let seen = storage_requests(&make, &effort).unwrap_or_else(|found| panic!("{found}"));
    assert!(seen.requests > 100, "{seen}");
}

#[tokio::test]
async fn what_no_file_can_hold_is_refused_and_changes_nothing() {
    let storage = MemStorage::from_bytes(&[1; 100]);
    for end in [i64::MAX as u64 + 1, u64::MAX] {
        let refused = [
            storage.write_at(end - 1, &[2]).await,
            storage.write_at(u64::MAX, &[2]).await,
            storage.write_zeroes(50, end - 50, ZeroMode::Allocate).await,
            storage.write_zeroes(50, u64::MAX, ZeroMode::Allocate).await,
            storage.set_len(end).await,
        ];
        for done in refused {
            assert_eq!(done.unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
    assert_eq!(storage.to_bytes().unwrap(), [1; 100]);
    storage.set_len(i64::MAX as u64).await.unwrap();
}
