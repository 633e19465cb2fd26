//! The engine of `block-core`, built from its own source with the locks of a model checker.
//!
//! `tests/` plays a few requests on several tasks, thousands of times, and the scheduler of `shuttle` chooses
//! who goes on at every lock, every atomic number and every storage request.
#![allow(
    dead_code,
    missing_docs,
    reason = "it is a copy for tests; the documentation is in block-core"
)]

#[path = "../../../block-core/src/engine/mod.rs"]
pub mod engine;
#[path = "../../../block-core/src/range_lock.rs"]
pub mod range_lock;

/// In place of `block-core/src/sync.rs`.
mod sync {
    pub(crate) use shuttle::sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };

    pub(crate) mod atomic {
        pub(crate) use shuttle::sync::atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        };
    }
}

// What the engine names by `crate::`.
pub(crate) use block_core::*;
