//! The locks of the engine in one place, so that a model checker's can stand in for them (`model/`).

pub(crate) use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

pub(crate) mod atomic {
    //! Numbers and flags that threads share.

    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}
