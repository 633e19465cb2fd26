//! Map entries visible to readers but not yet known to be durable.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Change, Slot};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The newest entry of every block whose entry on disk may be older.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Number of entries, readable without the lock. Most images have none most of the time.
    count: AtomicUsize,
    entries: RwLock<BTreeMap<u64, Slot>>,
}

impl Pending {
    /// Returns the pending entry of `block`, if there is one.
    pub(super) fn get(&self, block: u64) -> Option<Slot> {
        if self.len() == 0 {
            return None;
        }
        self.read().get(&block).copied()
    }

    /// Returns the first pending entry in a range of blocks.
    pub(super) fn next_in(&self, blocks: Range<u64>) -> Option<(u64, Slot)> {
        if self.len() == 0 {
            return None;
        }
        self.read().range(blocks).next().map(|(block, slot)| (*block, *slot))
    }

    /// Returns the number of pending entries.
    pub(super) fn len(&self) -> usize {
        // The caller holds a lock on its block, and so did the request that made the block's entry pending.
        self.count.load(Ordering::Acquire)
    }

    /// Makes entries visible to readers. The caller owns the blocks.
    pub(super) fn insert(&self, changes: impl IntoIterator<Item = Change>) {
        let mut entries = self.write();
        entries.extend(changes.into_iter().map(|change| (change.block, change.slot)));
        self.count.store(entries.len(), Ordering::Release);
    }

    /// Returns all pending entries in block order.
    pub(super) fn snapshot(&self) -> Vec<Change> {
        let entries = self.read();
        entries.iter().map(|(block, slot)| Change { block: *block, slot: *slot }).collect()
    }

    /// Removes `changes`, which are durable, except entries that have changed since.
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
