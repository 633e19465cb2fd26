//! Flushing: makes pending entries durable, behind the barriers that make that safe.

use std::sync::atomic::Ordering;

use super::slots::SlotSet;
use super::{BlockMapper, Mapped, Slot};
use crate::{Advice, Error, ErrorKind, Result, StorageCaps};

impl<M: BlockMapper> Mapped<M> {
    /// Makes everything acknowledged so far durable.
    pub(super) async fn publish(&self) -> Result<()> {
        let _turn = self.publishing.lock().await;
        let unsure = self.unsure.load(Ordering::Acquire);
        if unsure {
            self.refresh_layout()?;
            self.scan_slots().await?;
        }
        // Read the deferred list before the entries: a slot enters the list after the entry that gives it up becomes
        // pending. So every slot seen here belongs to an entry that is in the snapshot or durable.
        let deferred = self.slots.deferred_free();
        let changes = self.pending.snapshot();
        if changes.is_empty() && deferred.is_empty() && !unsure {
            return self.storage.flush().await;
        }
        self.mapper.prepare(&changes, self.slots.end()).await?;
        // Data, file length and counters become durable before the entries that depend on them.
        self.storage.flush().await?;
        self.mapper.publish(&changes).await?;
        self.storage.flush().await?;
        self.pending.settle(&changes);
        if unsure {
            self.unsure.store(false, Ordering::Release);
        }
        self.reclaim(deferred).await
    }

    /// Deallocates slots that no entry names any more, and makes them available to later writes.
    async fn reclaim(&self, deferred: Vec<u64>) -> Result<()> {
        let layout = self.layout();
        let count = deferred.len();
        for slot in deferred {
            // A failure costs only space: a slot that keeps its bytes is cleared before it is reused.
            if let Err(error) = self.clear_slot(&layout, slot).await {
                if error.kind() == ErrorKind::Internal {
                    return Err(error);
                }
                tracing::debug!("slot {slot} keeps its space: {error}");
            }
        }
        if self.slots.release(count)? {
            self.mapper.settle(self.slots.end()).await?;
            self.trim().await?;
        }
        Ok(())
    }

    /// Truncates the file past the slots in use, if the storage can be resized.
    pub(super) async fn trim(&self) -> Result<()> {
        // A block device has a fixed length: the space past the slots in use stays there, free.
        if !self.storage.caps().contains(StorageCaps::RESIZE) {
            return Ok(());
        }
        let _turn = self.slots.resizing.lock().await;
        match self.slots.trim(&self.layout()) {
            Some(len) => self.storage.set_len(len).await,
            None => Ok(()),
        }
    }

    /// Scans the map once to learn which slots are in use. Trusts only the entries themselves.
    pub(super) async fn scan_slots(&self) -> Result<()> {
        let _turn = self.slots.resizing.lock().await;
        if self.slots.is_started() {
            return Ok(());
        }
        let layout = self.layout();
        let mut used = SlotSet::default();
        let blocks = layout.block_count();
        let mut block = 0;
        while block < blocks {
            let run = self.mapped_run(block, blocks - block).await?;
            if let Slot::Data(slot) = run.first {
                let slots = slot..slot + run.blocks;
                if slots.end > layout.slot_limit {
                    let first = slot.max(layout.slot_limit);
                    let limit = layout.slot_limit;
                    let wanted = format!("less than {limit} for writing");
                    return Err(self.needs_repair(block, slot, first, &wanted));
                }
                if let Some(shared) = used.insert_new(slots) {
                    let wanted = "a slot that holds no other block, for writing";
                    return Err(self.needs_repair(block, slot, shared, wanted));
                }
            }
            block += run.blocks;
        }
        self.slots.start(used, self.storage.len().await?);
        Ok(())
    }

    /// Returns the error for the entry of slot `found`. The run of entries begins with `block` in `slot`.
    fn needs_repair(&self, block: u64, slot: u64, found: u64, wanted: &str) -> Error {
        let place = self.mapper.entry_location(block + (found - slot));
        Error::field_mismatch(ErrorKind::Corrupt, place.field, found, wanted)
            .at(place.offset)
            .in_image(self.storage.uri())
            .with_code("image-needs-repair")
            .with_hint(Advice::Repair)
    }
}
