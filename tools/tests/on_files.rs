//! The promises of every driver over real files: each storage request goes to the kernel.

use std::sync::Arc;

use block_core::testkit::exec::block_on;
use block_core::testkit::promises::{
    Effort, every_drop, every_fault, extents, failed_flushes, power_cuts, random_requests,
    storage_requests, threads,
};
use block_core::testkit::{Backing, Image, Subject, Tally, Verdict};
use block_core::{CacheMode, ProtocolDriver, Sharing, Storage, StorageAccess, StorageOptions};
use block_file::FileProtocol;
use block_raw::RawDriver;
use block_vdi::VdiDriver;

/// A new file that is gone with the last handle to it. Nothing is said about its cache but `cache`.
fn file(cache: CacheMode) -> Arc<dyn Storage> {
    let dir = tempfile::tempdir().unwrap();
    let options =
        StorageOptions::new(StorageAccess::CreateNew).sharing(Sharing::Unlocked).cache(cache);
    let path = dir.path().join("f");
    block_on(FileProtocol.open(path.to_str().unwrap(), &options)).unwrap()
}

/// Files that hold what an image holds. Flushes go nowhere: hundreds of thousands of real ones would take
/// hours, and what a power cut leaves is simulated from the record anyway.
fn files() -> Backing {
    Arc::new(|image: &Image| {
        let storage = file(CacheMode::Unsafe);
        block_on(async {
            let mut runs = Vec::new();
            image.extents(0..image.len(), &mut runs);
            storage.set_len(image.len()).await.unwrap();
            for run in runs.iter().filter(|run| run.data) {
                let mut bytes = vec![0; run.len as usize];
                image.read(run.start, &mut bytes);
                storage.write_at(run.start, &bytes).await.unwrap();
            }
        });
        storage
    })
}

fn subjects() -> Vec<Subject> {
    let vdi = Subject::of(VdiDriver).option("block_size", "128k").over(files());
    vec![
        Subject::of(RawDriver).named("raw").over(files()),
        vdi.clone().named("VDI base"),
        vdi.named("VDI child").with_parents(1),
    ]
}

/// Runs a promise for each subject, with the effort that files can afford.
fn holds(promise: fn(&Subject, &Effort) -> Verdict, enough: impl Fn(&Tally) -> bool) {
    let effort = Effort { histories: 4, requests: 12, states: 4, ..Effort::default() };
    for subject in subjects() {
        match promise(&subject, &effort) {
            Ok(seen) => {
                println!("{} on files: {seen}", subject.name);
                assert!(enough(&seen), "{}: it hardly looked: {seen}", subject.name);
            }
            Err(violation) => panic!("{violation}"),
        }
    }
}

#[test]
fn random_requests_on_files() {
    holds(random_requests, |seen| seen.requests > 40);
}

#[test]
fn every_fault_on_files() {
    holds(every_fault, |seen| seen.faults > 30);
}

#[test]
fn every_drop_on_files() {
    holds(every_drop, |seen| seen.dropped > 20);
}

#[test]
fn failed_flushes_on_files() {
    holds(failed_flushes, |seen| seen.faults > 5);
}

#[test]
fn power_cuts_on_files() {
    holds(power_cuts, |seen| seen.crash_states > 100);
}

#[test]
fn extents_on_files() {
    holds(extents, |seen| seen.requests > 20);
}

#[test]
fn threads_on_files() {
    holds(threads, |seen| seen.requests > 80);
}

#[test]
fn files_hold_what_was_written_however_they_are_cached() {
    let effort = Effort { histories: 10, ..Effort::default() };
    for cache in [CacheMode::Writeback, CacheMode::None, CacheMode::Writethrough, CacheMode::Unsafe]
    {
        let seen = storage_requests(&|| file(cache), &effort);
        let seen = seen.unwrap_or_else(|what| panic!("{cache:?}: {what}"));
        assert!(seen.requests > 500, "{seen}");
    }
}
