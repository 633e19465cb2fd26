//! The block map: the slot in the file in which each block of the disk is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use block_core::engine::{
    BlockMapper, Change, Effect, EntryLocation, Layout, PagedTable, ReadMostly, ResizePlan, Slot,
    SlotRun,
};
use block_core::{
    Access, Advice, BlockDevice, ErrorKind, ImageInfo, Options, Preallocation, Result, SECTOR_SIZE,
    Storage, bug,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::chain::Lineage;
use crate::format::ENTRY_ZERO;
use crate::header::Header;
use crate::header_sector::HeaderSector;
use crate::invalid::InvalidImage;
use crate::{amend, entry, info, resize};

/// The name of a map entry in messages.
const ENTRY_FIELD: &str = "block map entry";

/// The map of an open image.
#[derive(Debug)]
pub(crate) struct VdiMap {
    storage: Arc<dyn Storage>,
    access: Access,
    cache: u64,
    lineage: Lineage,
    shape: ReadMostly<Shape>,
    /// The first sector as it is on disk. The task that holds the lock may write it.
    head: Mutex<HeaderSector>,
    /// Whether a started write of the first sector may or may not have reached the disk.
    head_in_doubt: AtomicBool,
    /// The block whose entry is in doubt: its write began while the disk grew, and is not known to be durable.
    entry_in_doubt: Mutex<Option<u64>>,
    /// Whether the modification UUID on disk was changed since the image was opened.
    marked: Mutex<bool>,
    /// Number of slots known to lie wholly inside the file. A slot below needs no further check.
    sound_slots: AtomicU64,
    /// Whether to read a slot that the file holds only in part as far as it goes, instead of refusing it.
    damaged: bool,
}

/// The data that lookups use. Replaced as a whole when the disk is resized.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub header: Header,
    pub layout: Layout,
    pub table: Arc<PagedTable>,
}

impl VdiMap {
    /// Creates the map of an image whose header was checked. `cache` is in bytes.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        head: HeaderSector,
        header: Header,
        file_len: u64,
        access: Access,
        cache: u64,
        lineage: Lineage,
    ) -> Self {
        let shape = Shape::new(&storage, header, access, cache);
        let sound_slots = AtomicU64::new(shape.slots_inside(file_len));
        Self {
            storage,
            access,
            cache,
            lineage,
            shape: ReadMostly::new(shape, access),
            head: Mutex::new(head),
            head_in_doubt: AtomicBool::new(false),
            entry_in_doubt: Mutex::new(None),
            marked: Mutex::new(false),
            sound_slots,
            damaged: false,
        }
    }

    /// Reads slots that the file holds only in part as far as they go. The storage refuses reads past its end.
    pub(crate) fn read_damaged(&mut self) {
        self.damaged = true;
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape.with(Shape::clone)
    }

    /// Changes the first sector: on disk in one write, and in memory only after that succeeded.
    pub(crate) async fn rewrite_head(
        &self,
        change: impl FnOnce(&mut HeaderSector, &Header) -> Result<()> + Send,
    ) -> Result<()> {
        let mut head = self.head.lock().await;
        let mut new = head.clone();
        let file_len = self.storage.len().await?;
        change(&mut new, &self.shape().header)?;
        let header = Header::parse(new.bytes(), file_len)?;
        self.head_in_doubt.store(true, Ordering::Release);
        self.storage.write_at(0, new.for_disk(&header)?).await?;
        self.head_in_doubt.store(false, Ordering::Release);
        *head = new;
        self.shape.change(|shape| {
            let places = |header: &Header| (header.map_offset, header.blocks, header.virtual_size);
            if places(&header) == places(&shape.header) {
                shape.layout = layout(&header, self.access);
                shape.header = header;
            } else {
                *shape = Shape::new(&self.storage, header, self.access, self.cache);
            }
            self.sound_slots.store(shape.slots_inside(file_len), Ordering::Release);
        })
    }

    /// Writes the entry of a block that had no slot, durably. On an error or a dropped future, the entry is in doubt
    /// until [`settle_doubt`](Self::settle_doubt).
    pub(crate) async fn store_entry(&self, block: u64, number: u32) -> Result<()> {
        let mut in_doubt = self.entry_in_doubt.lock().await;
        *in_doubt = Some(block);
        self.shape().table.write(&[(block, number)]).await?;
        self.storage.flush().await?;
        *in_doubt = None;
        Ok(())
    }

    /// Durably writes the value that readers see over an entry in doubt. Another block can then get the slot that the
    /// entry may name.
    async fn settle_doubt(&self) -> Result<()> {
        let mut in_doubt = self.entry_in_doubt.lock().await;
        if let Some(block) = *in_doubt {
            let table = self.shape().table;
            let told = table.load(block).await?;
            table.write(&[(block, told)]).await?;
            self.storage.flush().await?;
            *in_doubt = None;
        }
        Ok(())
    }

    /// Returns the parent and its end in bytes of the disk, if the parent is open.
    pub(crate) fn parent(&self) -> Option<(&dyn BlockDevice, u64)> {
        let device = &**self.lineage.device.as_ref()?;
        Some((device, device.sector_count().saturating_mul(SECTOR_SIZE)))
    }

    /// Updates the number of sound slots from the file's length, which it returns in bytes.
    async fn look_at_length(&self) -> Result<u64> {
        let file_len = self.storage.len().await?;
        let sound = self.shape().slots_inside(file_len);
        self.sound_slots.store(sound, Ordering::Release);
        Ok(file_len)
    }

    /// Checks a block's map entry against the file.
    async fn check(&self, shape: &Shape, block: u64, slot: Slot) -> Result<Slot> {
        let Slot::Data(number) = slot else { return Ok(slot) };
        let layout = &shape.layout;
        let wrong = |refusal: InvalidImage, wanted: String| {
            let at = shape.table.place(block);
            let error = refusal.error(ErrorKind::Corrupt, ENTRY_FIELD, at, number, wanted);
            Err(error.with_hint(Advice::Check))
        };
        if number >= layout.slot_limit {
            let wanted = format!("less than {} for block {block}", layout.slot_limit);
            return wrong(InvalidImage::EntryTooLarge, wanted);
        }
        if number < self.sound_slots.load(Ordering::Acquire) {
            return Ok(slot);
        }
        // The file may end inside its last slot, past the bytes that the last block needs.
        let guest = block.saturating_mul(layout.block_size);
        let needed = layout.virtual_size.saturating_sub(guest).min(layout.block_size);
        let end = layout.place(number).and_then(|place| place.checked_add(needed));
        if self.damaged && end.is_some() {
            return Ok(slot);
        }
        let file_len = self.look_at_length().await?;
        if end.is_some_and(|end| end <= file_len) {
            Ok(slot)
        } else {
            wrong(
                InvalidImage::EntryPastEnd,
                format!("a slot inside the file of {file_len:#x} bytes for block {block}"),
            )
        }
    }

    /// Refuses to write an image if map entries past the end of the disk are in use.
    pub(crate) async fn check_surplus(&self) -> Result<()> {
        let shape = self.shape();
        let mut at = shape.header.block_count();
        let mut entries = Vec::new();
        while at < shape.table.entries() {
            shape.table.read(at, &mut entries).await?;
            if let Some((index, entry)) =
                (at..).zip(&entries).find(|(_, entry)| **entry < ENTRY_ZERO)
            {
                return Err(InvalidImage::SurplusEntry
                    .error(
                        ErrorKind::Corrupt,
                        ENTRY_FIELD,
                        shape.table.place(index),
                        entry,
                        "free, behind the end of the disk",
                    )
                    .with_hint("repair the image first, or open it for reading"));
            }
            at = at.saturating_add(entries.len() as u64);
        }
        Ok(())
    }
}

impl Shape {
    fn new(storage: &Arc<dyn Storage>, header: Header, access: Access, cache: u64) -> Self {
        let table = PagedTable::new(Arc::clone(storage), header.map_offset, header.blocks, cache);
        Self { layout: layout(&header, access), header, table: Arc::new(table) }
    }

    /// Returns how many slots lie wholly inside a file of `file_len` bytes.
    fn slots_inside(&self, file_len: u64) -> u64 {
        let data = file_len.saturating_sub(self.layout.slots_start);
        data.checked_div(self.layout.stride).unwrap_or(0).min(self.layout.slot_limit)
    }
}

/// Returns the layout of an image. Other tools refuse or misread an entry that is not below the number of entries, so
/// it is accepted for reading only.
fn layout(header: &Header, access: Access) -> Layout {
    Layout {
        virtual_size: header.virtual_size,
        block_size: header.block_size,
        slots_start: header.data_offset,
        stride: header.stride(),
        lead: header.block_extra,
        slot_limit: match access {
            Access::Read => u64::from(ENTRY_ZERO),
            Access::ReadWrite => header.blocks,
        },
        has_zero_slots: true,
        is_fixed: header.is_static(),
    }
}

#[async_trait]
impl BlockMapper for VdiMap {
    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn layout(&self) -> Layout {
        self.shape.with(|shape| shape.layout)
    }

    fn info(&self) -> ImageInfo {
        let shape = self.shape();
        info::image_info(&shape.header, self.access, &self.lineage)
    }

    fn slot(&self, block: u64) -> Option<Slot> {
        self.shape.with(|shape| match entry::decode(shape.table.get(block)?) {
            Slot::Data(slot) if slot >= self.sound_slots.load(Ordering::Acquire) => None,
            slot => Some(slot),
        })
    }

    async fn load(&self, block: u64) -> Result<Slot> {
        let shape = self.shape();
        let slot = entry::decode(shape.table.load(block).await?);
        self.check(&shape, block, slot).await
    }

    async fn run(&self, block: u64, limit: u64) -> Result<SlotRun> {
        let shape = self.shape();
        let table = &shape.table;
        // For a block past the table, loading its entry reports the error.
        let limit = table.entries().checked_sub(block).map_or(1, |left| limit.min(left)).max(1);
        // The first stretch in memory sets the pattern.
        let stretch = |at: u64, most: u64| {
            table.peek(at, |entries| {
                let most = usize::try_from(most).map_or(entries.len(), |n| n.min(entries.len()));
                let entries = entries.get(..most)?;
                let len = entry::run_len(entries);
                Some((*entries.first()?, len, len == entries.len()))
            })
        };
        let mut first = None;
        let mut blocks = 0u64;
        while blocks < limit {
            let behind = || bug("a run ends behind the map");
            let at = block.checked_add(blocks).ok_or_else(behind)?;
            let wanted = limit.checked_sub(blocks).ok_or_else(behind)?;
            let Some(found) = stretch(at, wanted) else {
                if wanted < PagedTable::SCAN / 32 {
                    let _ = table.load(at).await?;
                } else {
                    table.scan(at).await?
                }
                continue;
            };
            let (entry, len, open_ended) = found
                .filter(|(_, len, _)| *len > 0)
                .ok_or_else(|| bug("a stretch of no entries"))?;
            let slot = entry::decode(entry);
            match first {
                None => first = Some(self.check(&shape, at, slot).await?),
                Some(first) if Slot::step(first, blocks) == slot => {}
                Some(_) => break,
            }
            blocks = blocks.checked_add(len as u64).ok_or_else(behind)?;
            if !open_ended {
                break;
            }
        }
        let first = first.ok_or_else(|| bug("a run of no blocks"))?;
        if let Slot::Data(slot) = first {
            // Only the first entry was checked, so end the run where slots are not known to lie inside the file.
            let sound = self.sound_slots.load(Ordering::Acquire).saturating_sub(slot);
            if !self.damaged {
                blocks = blocks.min(sound.max(1));
            }
        }
        Ok(SlotRun { first, blocks })
    }

    fn entry_location(&self, block: u64) -> EntryLocation {
        EntryLocation { field: ENTRY_FIELD, offset: self.shape().table.place(block) }
    }

    async fn start_writing(&self, effect: Effect) -> Result<()> {
        self.settle_doubt().await?;
        if effect == Effect::Places {
            // The content that children were created over does not change.
            return Ok(());
        }
        let mut marked = self.marked.lock().await;
        if !*marked {
            self.rewrite_head(|head, header| head.set_modification_uuid(header, Uuid::new_v4()))
                .await?;
            self.storage.flush().await?;
            *marked = true;
        }
        Ok(())
    }

    async fn prepare(&self, changes: &[Change], slots_end: u64) -> Result<()> {
        self.settle_doubt().await?;
        let allocated = self.shape().header.allocated.max(slots_end);
        let is_known = !self.head_in_doubt.load(Ordering::Acquire);
        if is_known && changes.is_empty() && allocated == self.shape().header.allocated {
            return Ok(());
        }
        let content_changed = *self.marked.lock().await;
        self.rewrite_head(|head, header| {
            if content_changed {
                head.set_modification_uuid(header, Uuid::new_v4())?;
            }
            head.set_allocated(header, allocated)
        })
        .await
    }

    async fn publish(&self, changes: &[Change]) -> Result<()> {
        let shape = self.shape();
        let entries: Result<Vec<_>> =
            changes.iter().map(|change| Ok((change.block, entry::encode(change.slot)?))).collect();
        shape.table.write(&entries?).await?;
        self.look_at_length().await?;
        Ok(())
    }

    async fn settle(&self, slots_end: u64) -> Result<()> {
        let shape = self.shape();
        if shape.layout.is_fixed || slots_end >= shape.header.allocated {
            return Ok(());
        }
        self.rewrite_head(|head, header| head.set_allocated(header, slots_end)).await
    }

    async fn plan_resize(&self, size: u64, slots_end: u64) -> Result<ResizePlan> {
        resize::widen(self, size, slots_end).await?;
        resize::plan(&self.shape().header, size, slots_end)
    }

    async fn resize(
        &self,
        size: u64,
        plan: ResizePlan,
        slots_end: u64,
        preallocation: Preallocation,
    ) -> Result<()> {
        resize::resize(self, size, plan, slots_end, preallocation).await
    }

    async fn amend(&self, options: &Options) -> Result<()> {
        amend::amend(self, options).await
    }

    async fn close(&self, slots_end: u64) -> Result<()> {
        self.settle(slots_end).await
    }
}
