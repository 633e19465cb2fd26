//! Entries that readers see and that the map on disk does not, or not surely, hold yet.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Change, Slot};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The newest entry of every block whose entry on disk may be older.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Their number, readable without the lock: most images have none most of the time.
    count: AtomicUsize,
    entries: RwLock<BTreeMap<u64, Slot>>,
}

impl Pending {
    /// The entry of `block`, if one is pending.
    pub(super) fn get(&self, block: u64) -> Option<Slot> {
        if self.len() == 0 {
            return None;
        }
        self.read().get(&block).copied()
    }

    /// The first pending entry in a range of blocks.
    pub(super) fn next_in(&self, blocks: Range<u64>) -> Option<(u64, Slot)> {
        if self.len() == 0 {
            return None;
        }
        self.read().range(blocks).next().map(|(block, slot)| (*block, *slot))
    }

    /// How many are pending.
    pub(super) fn len(&self) -> usize {
        // Whoever asks about a block holds a lock on it, and so did whoever made its entry pending.
        self.count.load(Ordering::Acquire)
    }

    /// Makes entries visible to readers. The caller owns the blocks.
    pub(super) fn insert(&self, changes: impl IntoIterator<Item = Change>) {
        let mut entries = self.write();
        entries.extend(changes.into_iter().map(|change| (change.block, change.slot)));
        self.count.store(entries.len(), Ordering::Release);
    }

    /// All of them, in the order of their blocks.
    pub(super) fn snapshot(&self) -> Vec<Change> {
        let entries = self.read();
        entries.iter().map(|(block, slot)| Change { block: *block, slot: *slot }).collect()
    }

    /// `changes` are durable: what has not changed since is pending no longer.
    pub(super) fn settle(&self, changes: &[Change]) {
        let mut entries = self.write();
        for change in changes {
            if entries.get(&change.block) == Some(&change.slot) {
                entries.remove(&change.block);
            }
        }
        self.count.store(entries.len(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Slot>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Slot>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}
