//! One pass over an image: every entry looked at, nothing changed.

use std::collections::HashMap;
use std::sync::Arc;

use block_core::engine::{PagedTable, SlotSet};
use block_core::{CheckReport, Result, Severity, Storage, StorageCaps};

use super::finding;
use crate::entry::run_len;
use crate::format::ENTRY_ZERO;
use crate::header::{ALLOCATED_MANY, DISK_SIZE, FLAGS, Header, LCHS_SECTOR, NO_IDENTITY};
use crate::header_sector::HeaderSector;

/// What is wrong with an entry that names a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The block lies behind the end of the disk.
    Surplus,
    /// The content is not in the file at all.
    PastEnd,
    /// The end of the content is not in the file.
    CutShort,
    /// The slot has a number that the map has no entry for.
    TooLarge,
    /// The slot holds another block, too.
    Shared,
}

impl Fault {
    /// How bad it is.
    fn severity(self) -> Severity {
        match self {
            Self::Surplus => Severity::Leak,
            Self::PastEnd | Self::CutShort | Self::TooLarge | Self::Shared => Severity::Corruption,
        }
    }
}

/// An image as it was found.
pub(crate) struct Scan {
    pub head: HeaderSector,
    pub header: Header,
    pub file_len: u64,
    pub table: PagedTable,
    /// Slots that sound entries name.
    pub used: SlotSet,
    /// Blocks with a faulty entry of the kinds that were asked for: the first
    /// [`CheckReport::MAX_FINDINGS`] of them.
    pub faults: Vec<(u64, u32, Fault)>,
    pub report: CheckReport,
    /// Whether the file can be cut. What lies past the last slot of a device is the device's, and no leak.
    can_be_cut: bool,
    which: fn(Fault) -> bool,
    /// Blocks of the disk that are stored nowhere.
    pub unallocated: u64,
    moved: u64,
}

impl Scan {
    /// Examines the image, and keeps the entries whose faults `which` picks.
    pub(crate) async fn run(storage: &Arc<dyn Storage>, which: fn(Fault) -> bool) -> Result<Self> {
        let file_len = storage.len().await?;
        let head = HeaderSector::read(&**storage, file_len).await?;
        let header = Header::parse(head.bytes(), file_len)?;
        let table = PagedTable::new(Arc::clone(storage), header.map_offset, header.blocks, 0);
        let mut scan = Self {
            head,
            header,
            file_len,
            table,
            used: SlotSet::default(),
            faults: Vec::new(),
            report: CheckReport::default(),
            can_be_cut: storage.caps().intersects(StorageCaps::RESIZE | StorageCaps::SPARSE),
            which,
            unallocated: 0,
            moved: 0,
        };
        scan.look_at_header();
        scan.look_at_entries().await?;
        scan.report_faults().await?;
        scan.look_at_counts();
        Ok(scan)
    }

    /// Whether every entry is sound, so that slots may be moved.
    pub(crate) fn map_is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The fault of an entry that names a slot, as far as the entry alone tells.
    fn fault(&self, block: u64, entry: u32) -> Option<Fault> {
        let header = &self.header;
        if block >= header.block_count() {
            return Some(Fault::Surplus);
        }
        let start = self.place(u64::from(entry));
        if start >= self.file_len {
            return Some(Fault::PastEnd);
        }
        if u64::from(entry) >= header.blocks {
            return Some(Fault::TooLarge);
        }
        let guest = block.saturating_mul(header.block_size);
        let needed = header.virtual_size.saturating_sub(guest).min(header.block_size);
        (start.saturating_add(needed) > self.file_len).then_some(Fault::CutShort)
    }

    /// Where the content of the block in a slot begins.
    pub(crate) fn place(&self, slot: u64) -> u64 {
        let header = &self.header;
        slot.saturating_mul(header.stride())
            .saturating_add(header.data_offset)
            .saturating_add(header.block_extra)
    }

    fn look_at_header(&mut self) {
        for oddity in &self.header.oddities {
            let (severity, repair) = match oddity.code {
                ALLOCATED_MANY => (Severity::Corruption, Some("count the blocks in use")),
                NO_IDENTITY => (Severity::Cosmetic, Some("make a random UUID")),
                LCHS_SECTOR => (Severity::Cosmetic, Some("set it to 512")),
                FLAGS => (Severity::Cosmetic, Some("clear them")),
                DISK_SIZE => (Severity::Cosmetic, Some("store the size that is shown")),
                _ => (Severity::Cosmetic, None),
            };
            let message = oddity.message.clone();
            self.report.push(finding(oddity.code, severity, message, oddity.offset, None, repair));
        }
    }

    async fn look_at_entries(&mut self) -> Result<()> {
        let (mut at, mut entries) = (0u64, Vec::new());
        while at < self.table.entries() {
            self.table.read(at, &mut entries).await?;
            let mut rest = entries.as_slice();
            while let Some(first) = rest.first().copied() {
                let len = run_len(rest);
                if first < ENTRY_ZERO {
                    (at..).zip(rest.iter().take(len)).for_each(|(block, entry)| {
                        self.look_at_entry(block, *entry);
                    });
                } else if at < self.header.block_count() {
                    self.unallocated = self.unallocated.saturating_add(len as u64);
                }
                at = at.saturating_add(len as u64);
                rest = rest.get(len..).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn look_at_entry(&mut self, block: u64, entry: u32) {
        // A run of slots may count up to the special values.
        if entry >= ENTRY_ZERO {
            return;
        }
        let fault = self.fault(block, entry);
        let is_new = match fault {
            // Inside the file, so the set is no larger than the file allows.
            None | Some(Fault::CutShort) => {
                let is_new = !self.used.contains(u64::from(entry));
                if is_new {
                    self.used.insert(u64::from(entry));
                }
                is_new
            }
            Some(_) => true,
        };
        let fault = if is_new { fault } else { Some(Fault::Shared) };
        self.moved = self.moved.saturating_add(u64::from(u64::from(entry) != block));
        if let Some(fault) = fault.filter(|fault| (self.which)(*fault)) {
            if self.faults.len() < CheckReport::MAX_FINDINGS {
                self.faults.push((block, entry, fault));
            } else {
                // A hostile map has millions: they are counted, and no words are made for them.
                self.report.push_unlisted(fault.severity());
            }
        }
    }

    /// Puts the faulty entries into the report, each shared one with the block it shares with.
    async fn report_faults(&mut self) -> Result<()> {
        let faults = std::mem::take(&mut self.faults);
        let shared = faults.iter().filter(|(_, _, fault)| *fault == Fault::Shared);
        let mut owners: HashMap<u32, Option<u64>> =
            shared.map(|(_, entry, _)| (*entry, None)).collect();
        let mut unknown = owners.len();
        let (mut at, mut entries) = (0u64, Vec::new());
        while unknown > 0 && at < self.header.block_count() {
            self.table.read(at, &mut entries).await?;
            for (block, entry) in (at..).zip(&entries) {
                if let Some(owner @ None) = owners.get_mut(entry) {
                    *owner = Some(block);
                    unknown = unknown.saturating_sub(1);
                }
            }
            at = at.saturating_add(entries.len() as u64);
        }
        for (block, entry, fault) in &faults {
            let owner = owners.get(entry).copied().flatten();
            self.report.push(self.describe(*block, *entry, *fault, owner));
        }
        self.faults = faults;
        Ok(())
    }

    fn describe(
        &self,
        block: u64,
        entry: u32,
        fault: Fault,
        owner: Option<u64>,
    ) -> block_core::Finding {
        let place = self.place(u64::from(entry));
        let severity = fault.severity();
        let (code, message, repair) = match fault {
            Fault::Surplus => (
                "vdi.map.surplus",
                format!("entry {block} lies behind the end of the disk and names slot {entry}"),
                "free it",
            ),
            Fault::PastEnd => (
                "vdi.map.past-end",
                format!(
                    "block {block} is stored in slot {entry} at {place:#x}, past the end of the \
                     file at {:#x}: its content is lost",
                    self.file_len
                ),
                "let it read as zeros",
            ),
            Fault::CutShort => (
                "vdi.map.cut-short",
                format!(
                    "block {block} is stored at {place:#x}, and the file ends inside it at {:#x}",
                    self.file_len
                ),
                "fill it up with zeros",
            ),
            Fault::TooLarge => (
                "vdi.map.too-large",
                format!(
                    "block {block} is stored in slot {entry}, and there should be no slot from {} on",
                    self.header.blocks
                ),
                "move it to a free slot",
            ),
            Fault::Shared => (
                "vdi.map.duplicate",
                match owner {
                    Some(owner) => {
                        format!("blocks {owner} and {block} are both stored at {place:#x}")
                    }
                    None => format!("block {block} is stored at {place:#x}, as another one is"),
                },
                "give each a copy",
            ),
        };
        finding(code, severity, message, self.table.place(block), Some(block), Some(repair))
    }

    /// Compares what was counted with what the header and the file's length say.
    fn look_at_counts(&mut self) {
        let end = self.used.end();
        let allocated = self.header.allocated;
        let at = self.header.fields().allocated as u64;
        let is_static = self.header.is_static();
        let recount = Some("count the blocks in use");
        if allocated < end {
            let message = format!(
                "{allocated} slots are counted, and slot {} is in use",
                end.saturating_sub(1)
            );
            let code = "vdi.header.allocated-small";
            self.report.push(finding(code, Severity::Corruption, message, at, None, recount));
        }
        let expected = if is_static { end.max(self.header.blocks) } else { end };
        if allocated > expected && allocated <= self.header.blocks {
            let message = format!("{allocated} slots are counted, and {expected} are in use");
            let code = "vdi.header.allocated-large";
            self.report.push(finding(code, Severity::Leak, message, at, None, recount));
        }
        if is_static {
            self.look_at_static();
        } else {
            self.look_for_holes();
        }
        let slots_end = self.slot_start(if is_static { end.max(allocated) } else { end });
        let trailing = self.file_len.saturating_sub(slots_end);
        let slots = trailing.checked_div(self.header.stride()).unwrap_or(0);
        let cut = Some("cut them off");
        if !self.can_be_cut {
            return;
        }
        if slots > 0 {
            let message = format!("{slots} slots behind the last one in use belong to no block");
            let code = "vdi.file.trailing-slots";
            self.report.push(finding(code, Severity::Leak, message, slots_end, None, cut));
        } else if trailing > 0 && self.file_len > self.header.data_offset {
            let message = format!("{trailing} bytes behind the last slot belong to nothing");
            let code = "vdi.file.trailing-bytes";
            self.report.push(finding(code, Severity::Cosmetic, message, slots_end, None, cut));
        }
    }

    fn look_for_holes(&mut self) {
        let end = self.used.end();
        let mut hole = self.used.first_unused(0);
        while hole < end {
            let next = self.used.first_used(hole).unwrap_or(end);
            let at = self.slot_start(hole);
            let last = next.saturating_sub(1);
            let message = if hole == last {
                format!("slot {hole} belongs to no block")
            } else {
                format!("slots {hole} to {last} belong to no block")
            };
            let repair = Some("move the last blocks there");
            self.report.push(finding("vdi.slot.unused", Severity::Leak, message, at, None, repair));
            hole = self.used.first_unused(next);
        }
    }

    fn look_at_static(&mut self) {
        let at = self.header.map_offset;
        if self.unallocated > 0 {
            let message = format!(
                "{} blocks of a static image are not stored; VirtualBox destroys the header when it writes one",
                self.unallocated
            );
            let code = "vdi.static.unallocated";
            let repair = Some("give each a place full of zeros");
            self.report.push(finding(code, Severity::Corruption, message, at, None, repair));
        }
        if self.moved > 0 {
            let message = format!(
                "{} blocks of a static image are not stored in the order of the disk",
                self.moved
            );
            let code = "vdi.static.order";
            self.report.push(finding(code, Severity::Cosmetic, message, at, None, None));
        }
    }

    /// Where a slot begins.
    pub(crate) fn slot_start(&self, slot: u64) -> u64 {
        slot.saturating_mul(self.header.stride()).saturating_add(self.header.data_offset)
    }
}
