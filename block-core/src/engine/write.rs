//! Writing: in place if the blocks are stored, otherwise by an allocating transaction.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::payload::Payload;
use super::read::{Source, length, on_parent, read_parent};
use super::slots::{Reservation, Reserved};
use super::{BlockMapper, Change, Effect, Layout, Mapped, Slot, blocks_of};
use crate::{
    Error, ErrorKind, PageBuffer, Result, SECTOR_SIZE, Storage, StorageCaps, WriteFlags, ZeroMode,
    bug,
};

/// Maximum number of blocks that one transaction allocates. It limits how much a failure rolls back and how
/// long readers wait.
const BLOCKS_IN_TRANSACTION: u64 = 64;

/// Number of publications that a writer waits for if the frees of all remaining slots are deferred.
const PUBLICATIONS_TO_WAIT: usize = 64;

/// Number of pending entries that are written without waiting for a flush.
const DIRTY_LIMIT: usize = 1 << 16;

/// The part of a request within one block.
#[derive(Debug, Clone)]
struct Part {
    block: u64,
    /// Guest bytes.
    range: Range<u64>,
    /// Position in the caller's buffer.
    buf: Range<usize>,
    /// Current entry of the block.
    slot: Slot,
}

impl<M: BlockMapper> Mapped<M> {
    pub(super) async fn write(
        &self,
        sector: u64,
        payload: Payload<'_>,
        flags: WriteFlags,
    ) -> Result<()> {
        let len = payload.bytes().len() as u64;
        if !len.is_multiple_of(SECTOR_SIZE) {
            return Err(bug("a write to a device is no whole number of sectors"));
        }
        let range = self.write_request(sector, len / SECTOR_SIZE)?;
        self.start_writing().await?;
        if !self.write_in_place(&range, &payload).await? {
            self.write_allocating(&range, &payload).await?;
        }
        if flags.contains(WriteFlags::FUA) {
            self.publish().await
        } else {
            self.flush_if_full().await
        }
    }

    /// Prepares for writing. Every change calls this first. It scans the map once, so that no write ever goes
    /// to a slot shared by two blocks.
    pub(super) async fn start_writing(&self) -> Result<()> {
        let unsure = self.unsure.load(Ordering::Acquire);
        if unsure || !self.dirty.load(Ordering::Acquire) {
            self.start_changing(Effect::Content).await?;
            self.dirty.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Prepares as [`start_writing`](Self::start_writing) does, but on every call, for a change with this
    /// effect.
    pub(super) async fn start_changing(&self, effect: Effect) -> Result<()> {
        if self.unsure.load(Ordering::Acquire) {
            self.refresh_layout()?;
        }
        self.scan_slots().await?;
        self.mapper.start_writing(effect).await
    }

    /// Publishes if there are too many pending entries to keep.
    pub(super) async fn flush_if_full(&self) -> Result<()> {
        if self.pending.len() >= DIRTY_LIMIT { self.publish().await } else { Ok(()) }
    }

    /// Writes in place if all blocks are stored. Otherwise writes nothing and returns `false`.
    async fn write_in_place(&self, range: &Range<u64>, payload: &Payload<'_>) -> Result<bool> {
        let layout = self.layout();
        let blocks = blocks_of(range, layout.block_size);
        let _guard = self.blocks.lock_shared(blocks.clone()).await;
        let mut known = None;
        for block in blocks {
            let slot = self.slot_of(block).await?;
            if !matches!(slot, Slot::Data(_)) {
                return Ok(false);
            }
            known = known.or(Some(slot));
        }
        let mut at = range.start;
        while at < range.end {
            let first = match known.take() {
                Some(first) => first,
                None => self.slot_of(layout.block_at(at).0).await?,
            };
            let (source, end) = self.source(&layout, first, at, range.end)?;
            let Source::Stored(offset) = source else {
                return Err(bug("a block lost its place while it was written to"));
            };
            let part = length(at - range.start)?..length(end - range.start)?;
            payload.write(&*self.storage, offset, part).await?;
            at = end;
        }
        Ok(true)
    }

    async fn write_allocating(&self, range: &Range<u64>, payload: &Payload<'_>) -> Result<()> {
        let mut layout = self.layout();
        let step = layout.block_size * BLOCKS_IN_TRANSACTION;
        let mut at = range.start;
        while at < range.end {
            let end = (at - layout.block_at(at).1 + step).min(range.end);
            let blocks = blocks_of(&(at..end), layout.block_size);
            let _guard = self.blocks.lock_exclusive(blocks).await;
            layout = self.layout();
            let first = length(at - range.start)?;
            self.write_transaction(&layout, at..end, first, payload).await?;
            at = end;
        }
        Ok(())
    }

    /// Reserves slots, writes data, and makes the entries visible. The caller owns the blocks.
    ///
    /// Until the last step, only unused space changes, apart from data for blocks that are already stored. On
    /// an error, or if this future is dropped, the slots are returned.
    pub(super) async fn write_transaction(
        &self,
        layout: &Layout,
        range: Range<u64>,
        first: usize,
        payload: &Payload<'_>,
    ) -> Result<()> {
        let parts = self.parts(layout, range, first).await?;
        let missing = parts.iter().filter(|part| !matches!(part.slot, Slot::Data(_))).count();
        let reservation = self.reserve(missing, 0, layout).await?;
        let mut reserved = reservation.taken().iter();
        let mut changes = Vec::with_capacity(missing);
        let mut writer = RunWriter::new(&*self.storage, payload);
        for part in parts {
            if let Slot::Data(slot) = part.slot {
                writer.add(place_in(layout, slot, part.range.start)?, &part.buf).await?;
                continue;
            }
            let target = reserved.next().ok_or_else(|| bug("a block of a write got no slot"))?;
            self.fill(layout, &part, *target, &mut writer).await?;
            changes.push(Change { block: part.block, slot: Slot::Data(target.slot) });
        }
        if reserved.next().is_some() {
            return Err(bug("a slot was taken for a write and no block is in it"));
        }
        writer.finish().await?;
        self.pending.insert(changes);
        reservation.keep();
        Ok(())
    }

    /// Writes one block into its new slot: the caller's part and the background around it.
    async fn fill(
        &self,
        layout: &Layout,
        part: &Part,
        target: Reserved,
        writer: &mut RunWriter<'_>,
    ) -> Result<()> {
        let covers = part.range.end - part.range.start == layout.stride;
        if !target.is_fresh && !covers {
            self.clear_slot(layout, target.slot).await?;
        }
        // Boxed separately, so that a write without a parent is a small future.
        if part.slot == Slot::Free
            && self.parent.is_some()
            && Box::pin(self.fill_around(layout, part, target, writer)).await?
        {
            return Ok(());
        }
        writer.add(place_in(layout, target.slot, part.range.start)?, &part.buf).await
    }

    /// Writes one block into its new slot, with the parent's content around the caller's part. If the parent
    /// shows zeros there, writes nothing and returns `false`.
    async fn fill_around(
        &self,
        layout: &Layout,
        part: &Part,
        target: Reserved,
        writer: &RunWriter<'_>,
    ) -> Result<bool> {
        let block_start = part.block * layout.block_size;
        let visible = block_start..(block_start + layout.block_size).min(layout.virtual_size);
        let around = [visible.start..part.range.start, part.range.end..visible.end];
        if !self.parent_shows(&around).await? {
            return Ok(false);
        }
        // One buffer that includes the caller's bytes, so that the storage gets a single write.
        let mut whole = PageBuffer::new(length(visible.end - visible.start)?);
        let head = length(part.range.start - visible.start)?;
        let tail = head + part.buf.len();
        let parent = self.parent.as_ref();
        let outside = || bug("a part of a block lies outside of it");
        let before = whole.get_mut(..head).ok_or_else(outside)?;
        read_parent(parent, visible.start, before).await?;
        let own = whole.get_mut(head..tail).ok_or_else(outside)?;
        own.copy_from_slice(writer.bytes(&part.buf).ok_or_else(outside)?);
        let behind = whole.get_mut(tail..).ok_or_else(outside)?;
        read_parent(parent, part.range.end, behind).await?;
        self.storage.write_at(place_in(layout, target.slot, visible.start)?, &whole).await?;
        Ok(true)
    }

    /// Returns whether the parent may hold anything but zeros in `ranges`, according to its map.
    pub(super) async fn parent_shows(&self, ranges: &[Range<u64>]) -> Result<bool> {
        for range in ranges {
            let covered = on_parent(self.parent.as_ref(), range.clone());
            if let (Some(parent), false) = (&self.parent, covered.is_empty()) {
                let extents = parent.extents(covered).await?;
                if extents.as_slice().iter().any(|extent| !extent.is_zero()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes a slot with stale bytes read as zeros.
    pub(super) async fn clear_slot(&self, layout: &Layout, slot: u64) -> Result<()> {
        let start = slot_start(layout, slot)?;
        self.storage.write_zeroes(start, layout.stride, ZeroMode::Deallocate).await
    }

    /// Reserves slots for `count` blocks and makes the file long enough for them.
    pub(super) async fn reserve(
        &self,
        count: usize,
        lowest: u64,
        layout: &Layout,
    ) -> Result<Reservation<'_>> {
        let mut published = 0;
        let reservation = loop {
            if let Some(reservation) = self.slots.reserve(count, lowest, layout)? {
                break reservation;
            }
            // Another waiting writer may take the slots freed by a publication.
            if published == PUBLICATIONS_TO_WAIT {
                let message = "slots given up elsewhere are not free yet";
                return Err(Error::new(ErrorKind::NoSpace, message));
            }
            published += 1;
            self.publish().await?;
        };
        if reservation.taken().len() != count {
            return Err(bug("more or fewer slots were taken than were asked for"));
        }
        let end = slot_start(layout, reservation.end())?;
        if count > 0 {
            self.ensure_len(end, layout).await?;
        }
        Ok(reservation)
    }

    /// Makes the file at least `end` bytes long. All slots are then whole, and readers never meet the end of
    /// the file.
    async fn ensure_len(&self, end: u64, layout: &Layout) -> Result<()> {
        if self.slots.len() >= end {
            return Ok(());
        }
        let _turn = self.slots.resizing.lock().await;
        let len = self.slots.len();
        if len >= end {
            return Ok(());
        }
        if !self.storage.caps().contains(StorageCaps::RESIZE) {
            return Err(Error::new(
                ErrorKind::NoSpace,
                format!("the image needs {end} bytes and {} holds {len}", self.storage.uri()),
            ));
        }
        // Extends a little further, so that a writer of new blocks does not change the length for each of
        // them.
        let ahead = self.slots.end() / 8;
        let limit = slot_start(layout, layout.slot_limit)?.max(end);
        let len = (end + ahead.min(64) * layout.stride).min(limit);
        self.storage.set_len(len).await?;
        self.slots.set_len(len);
        Ok(())
    }

    /// Splits guest bytes into blocks. `first` is the position of their first byte in the caller's buffer.
    async fn parts(&self, layout: &Layout, range: Range<u64>, first: usize) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let (mut at, mut buf) = (range.start, first);
        while at < range.end {
            let (block, _) = layout.block_at(at);
            let end = ((block + 1) * layout.block_size).min(range.end);
            let buf_end = buf + length(end - at)?;
            let slot = self.slot_of(block).await?;
            parts.push(Part { block, range: at..end, buf: buf..buf_end, slot });
            (at, buf) = (end, buf_end);
        }
        Ok(parts)
    }
}

/// Returns the offset in the storage of a guest byte whose block is in `slot`.
pub(super) fn place_in(layout: &Layout, slot: u64, at: u64) -> Result<u64> {
    let place = slot_start(layout, slot)? + layout.lead;
    Ok(place + layout.block_at(at).1)
}

/// Returns the offset of a slot in the storage. It is at most `i64::MAX`, so that adding a few slots cannot
/// overflow.
pub(super) fn slot_start(layout: &Layout, slot: u64) -> Result<u64> {
    let start = layout.slot_start(slot).filter(|start| *start <= i64::MAX as u64);
    start.ok_or_else(|| bug("a slot lies past the largest offset of a file"))
}

/// Writes parts of one buffer. Parts that are adjacent in buffer and storage become one request.
struct RunWriter<'a> {
    storage: &'a dyn Storage,
    payload: &'a Payload<'a>,
    offset: u64,
    run: Range<usize>,
}

impl<'a> RunWriter<'a> {
    fn new(storage: &'a dyn Storage, payload: &'a Payload<'a>) -> Self {
        Self { storage, payload, offset: 0, run: 0..0 }
    }

    fn bytes(&self, range: &Range<usize>) -> Option<&'a [u8]> {
        self.payload.bytes().get(range.clone())
    }

    async fn add(&mut self, offset: u64, range: &Range<usize>) -> Result<()> {
        let follows = self.run.end == range.start && self.offset + self.run.len() as u64 == offset;
        if follows && !self.run.is_empty() {
            self.run.end = range.end;
            return Ok(());
        }
        self.finish().await?;
        (self.offset, self.run) = (offset, range.clone());
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return Ok(());
        }
        self.payload.write(self.storage, self.offset, run).await
    }
}
