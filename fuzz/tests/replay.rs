//! Runs every body over its corpus and over every input that once made it fail.

use std::alloc::System;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use block_fuzz::{MEMORY, TARGETS};
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY + HARNESS);

/// Memory in bytes that the test harness itself may need.
const HARNESS: usize = 32 << 20;

/// Time limit for one input, in a debug build on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(5);

/// Lock that runs one target at a time, because the memory limit is shared.
static ONE: Mutex<()> = Mutex::new(());

fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "{name} has no corpus: nothing would be tested");
    for path in corpus.into_iter().chain(inputs("regressions", name)) {
        let data = fs::read(&path).expect("a readable input");
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (target.body)(&data)));
        assert!(result.is_ok(), "{name} fails on {}", path.display());
        let took = start.elapsed();
        assert!(took < TOO_LONG, "{name} takes {took:?} on {}", path.display());
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            let targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(targets, replayed);
        }
    };
}

replays! { open_read create_mutate check_repair vdi_ops recognise inspect options vbox_xml }
