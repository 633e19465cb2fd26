//! The promises of every driver over real files, by every engine: each storage request goes to the kernel.

use std::future::pending;
use std::sync::{Arc, OnceLock};

use block_core::{
    CacheMode, ErrorKind, Options, ProtocolDriver, Result, Sharing, Storage, StorageAccess,
    StorageOptions,
};
use block_file::FileProtocol;
use block_raw::RawDriver;
use block_testkit::exec::block_on;
use block_testkit::promises::{
    Effort, every_drop, every_fault, extents, failed_flushes, power_cuts, random_requests,
    storage_requests, threads,
};
use block_testkit::{Backing, Image, Subject, Tally, Verdict};
use block_vdi::VdiDriver;

/// How requests get to the kernel.
#[derive(Debug, Clone, Copy)]
struct Way {
    engine: &'static str,
    cache: CacheMode,
}

/// Flushes of the cached ones go nowhere: hundreds of thousands of real ones would take hours, and what a
/// power cut leaves is simulated from the record anyway.
const WAYS: [Way; 4] = [
    Way { engine: "sync", cache: CacheMode::Unsafe },
    Way { engine: "io_uring", cache: CacheMode::Unsafe },
    Way { engine: "sync", cache: CacheMode::None },
    Way { engine: "io_uring", cache: CacheMode::None },
];

/// A new file that is gone with the last handle to it.
fn file(way: Way) -> Result<Arc<dyn Storage>> {
    let dir = tempfile::tempdir().unwrap();
    let engine = format!("engine={}", way.engine);
    let engine = Options::parse(&engine, FileProtocol.open_options()).unwrap();
    let options = StorageOptions::new(StorageAccess::CreateNew)
        .sharing(Sharing::Unlocked)
        .cache(way.cache)
        .options(engine);
    let path = dir.path().join("f");
    block_on(FileProtocol.open(path.to_str().unwrap(), &options))
}

/// Whether files can be opened this way on this machine.
fn can(way: Way) -> bool {
    match file(way) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("skipped: {way:?}: {error}");
            false
        }
        Err(error) => panic!("{way:?}: {error}"),
    }
}

/// A runtime, in a thread of its own, that drives what is queued.
fn runtime() -> &'static tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(pending::<()>()));
        handle
    })
}

/// Files that hold what an image holds.
fn files(way: Way) -> Backing {
    Arc::new(move |image: &Image| {
        let storage = file(way).unwrap();
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

fn subjects(way: Way) -> Vec<Subject> {
    let vdi = Subject::of(VdiDriver).option("block_size", "128k").over(files(way));
    vec![
        Subject::of(RawDriver).named("raw").over(files(way)),
        vdi.clone().named("VDI base"),
        vdi.named("VDI child").with_parents(1),
    ]
}

/// Runs a promise for all subjects in each way.
fn holds(promise: fn(&Subject, &Effort) -> Verdict, enough: impl Fn(&Tally) -> bool) {
    holds_for(subjects, promise, enough);
}

/// Runs a promise for each subject in each way, with the effort that files can afford.
fn holds_for(
    subjects: impl Fn(Way) -> Vec<Subject>,
    promise: fn(&Subject, &Effort) -> Verdict,
    enough: impl Fn(&Tally) -> bool,
) {
    let effort = Effort { histories: 4, requests: 12, states: 4, ..Effort::default() };
    let _entered = runtime().enter();
    for way in WAYS.into_iter().filter(|way| can(*way)) {
        for subject in subjects(way) {
            match promise(&subject, &effort) {
                Ok(seen) => {
                    println!("{} on files, {way:?}: {seen}", subject.name);
                    assert!(enough(&seen), "{}: it hardly looked: {seen}", subject.name);
                }
                Err(violation) => panic!("{way:?}: {violation}"),
            }
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
    // Where every request waits, a history has fifty times as many moments to be dropped in.
    let few = |way: Way| match way {
        Way { engine: "io_uring", cache: CacheMode::None } => subjects(way).drain(..1).collect(),
        _ => subjects(way),
    };
    holds_for(few, every_drop, |seen| seen.dropped > 20);
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
    let _entered = runtime().enter();
    let more = [CacheMode::Writeback, CacheMode::Writethrough];
    let more = more.map(|cache| Way { engine: "auto", cache });
    for way in WAYS.into_iter().chain(more).filter(|way| can(*way)) {
        let seen = storage_requests(&|| file(way).unwrap(), &effort);
        let seen = seen.unwrap_or_else(|what| panic!("{way:?}: {what}"));
        assert!(seen.requests > 500, "{seen}");
    }
}
