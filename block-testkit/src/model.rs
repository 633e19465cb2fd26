//! The content that a guest may see: the allowed contents of each sector.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ops::{Change, Op};
use super::stamp::{ANY, Content, Id, SECTOR, ZERO, identify};

/// The contents that each sector may show. Usually there is one. After a failure, a dropped future or a power cut there
/// may be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// One allowed content per sector.
    cells: Vec<Id>,
    /// The other allowed contents of sectors that have several.
    others: BTreeMap<u64, Vec<Id>>,
    /// Other sizes in sectors that the disk may have.
    other_sizes: Vec<u64>,
    /// End of the old data that may remain past the end of the disk, in sectors.
    stale_end: u64,
}

impl Model {
    /// Creates a model that allows only this content.
    pub fn new(cells: Vec<Id>) -> Self {
        Self { cells, others: BTreeMap::new(), other_sizes: Vec::new(), stale_end: 0 }
    }

    /// Returns the disk size in sectors.
    pub fn sectors(&self) -> u64 {
        self.cells.len() as u64
    }

    /// Applies a completed request. `below` is the parents' content.
    pub fn exact(&mut self, op: &Op, id: Id, below: &[Id]) {
        match op.change() {
            Change::Nothing => {}
            Change::Write(range) => self.set(range, id),
            Change::Zero(range) => self.set(range, ZERO),
            Change::MaybeZero(range) => self.allow(range, |_| ZERO),
            Change::Empty => {
                self.others.clear();
                for (sector, cell) in self.cells.iter_mut().enumerate() {
                    *cell = below.get(sector).copied().unwrap_or(ZERO);
                }
            }
            Change::Size(sectors) => {
                self.others.retain(|sector, _| *sector < sectors);
                self.cells.resize(sectors as usize, ZERO);
                self.other_sizes.clear();
                self.stale_end = 0;
            }
        }
    }

    /// Applies a request that may have been done, not done, or done in some sectors only.
    pub fn maybe(&mut self, op: &Op, id: Id, below: &[Id]) {
        match op.change() {
            Change::Nothing => {}
            Change::Write(range) => self.allow(range, |_| id),
            Change::Zero(range) | Change::MaybeZero(range) => self.allow(range, |_| ZERO),
            Change::Empty => {
                let all = 0..self.sectors();
                self.allow(all, |sector| below.get(sector as usize).copied().unwrap_or(ZERO));
            }
            Change::Size(sectors) => {
                let before = self.sectors();
                self.other_sizes.extend([before, sectors]);
                if sectors < before {
                    self.stale_end = self.stale_end.max(before);
                }
                self.allow(sectors.min(before)..before, |_| ANY);
                self.cells.resize(sectors.max(before) as usize, ZERO);
            }
        }
    }

    fn set(&mut self, range: Range<u64>, id: Id) {
        let doubtful: Vec<u64> = self.others.range(range.clone()).map(|(at, _)| *at).collect();
        for sector in doubtful {
            self.others.remove(&sector);
        }
        self.cells[range.start as usize..range.end as usize].fill(id);
    }

    fn allow(&mut self, range: Range<u64>, id: impl Fn(u64) -> Id) {
        for sector in range {
            let id = id(sector);
            if self.cells[sector as usize] == id {
                continue;
            }
            let others = self.others.entry(sector).or_default();
            if !others.contains(&id) {
                others.push(id);
            }
        }
    }

    /// Returns the contents that a sector may show.
    pub fn allowed(&self, sector: u64) -> Vec<Id> {
        let mut allowed = vec![self.cells[sector as usize]];
        allowed.extend(self.others.get(&sector).into_iter().flatten());
        allowed
    }

    /// Returns the number of sectors that may show more than one content.
    pub fn doubtful(&self) -> usize {
        self.others.len()
    }

    /// Whether the disk may have this many sectors.
    pub fn allows_size(&self, sectors: u64) -> bool {
        sectors == self.sectors() || self.other_sizes.contains(&sectors)
    }

    /// Compares bytes that were read from `sector` on.
    ///
    /// # Errors
    /// Describes the first sector with content that is not allowed.
    pub fn verify(&self, sector: u64, bytes: &[u8]) -> Result<(), String> {
        for (at, chunk) in (sector..).zip(bytes.chunks_exact(SECTOR)) {
            self.verify_one(at, chunk)?;
        }
        Ok(())
    }

    /// Compares the whole disk, then narrows the model to what it showed.
    ///
    /// # Errors
    /// Same as [`verify`](Self::verify), or the size is wrong.
    pub fn settle(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sectors = (bytes.len() / SECTOR) as u64;
        if !self.allows_size(sectors) {
            return Err(format!("the disk has {sectors} sectors, wanted {}", self.sectors()));
        }
        // If the disk is larger than the model, the rest reads as zeros. If it may have been shrunk before, old data
        // may be there instead.
        let (known, stale) = (self.sectors(), self.stale_end.min(sectors));
        if stale > known {
            self.cells.resize(stale as usize, ANY);
        }
        self.cells.resize(sectors as usize, ZERO);
        self.others.retain(|sector, _| *sector < sectors);
        // The size is now what the disk reports. A growth that failed may still appear when the disk is opened again.
        self.other_sizes.retain(|other| *other > sectors);
        self.verify(0, bytes)?;
        for sector in std::mem::take(&mut self.others).into_keys().chain(known..stale) {
            let at = sector as usize * SECTOR;
            self.cells[sector as usize] = match identify(&bytes[at..at + SECTOR], sector) {
                Content::Written(id) => id,
                _ => ANY,
            };
        }
        Ok(())
    }

    /// Records that the disk was opened again, which makes its size certain.
    pub fn size_is_known(&mut self) {
        self.other_sizes.clear();
        self.stale_end = 0;
    }

    fn verify_one(&self, sector: u64, bytes: &[u8]) -> Result<(), String> {
        let found = identify(bytes, sector);
        let cell = self.cells.get(sector as usize).copied().unwrap_or(ZERO);
        if found == Content::Written(cell) || cell == ANY {
            return Ok(());
        }
        let others = self.others.get(&sector).map_or(&[][..], Vec::as_slice);
        let fits = |id: &Id| *id == ANY || found == Content::Written(*id);
        if others.iter().any(fits) {
            return Ok(());
        }
        let allowed: Vec<String> =
            self.allowed(sector).iter().map(|id| Content::Written(*id).to_string()).collect();
        Err(format!("sector {sector} holds {found}, allowed: {}", allowed.join(" or ")))
    }
}

/// The requests to a disk with their times, from which follows the [`Model`] at any power cut.
#[derive(Debug, Clone)]
pub struct Ledger {
    initial: Vec<Id>,
    below: Vec<Id>,
    entries: Vec<Entry>,
}

/// A request to the disk.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The request.
    pub op: Op,
    /// The number stamped into its data.
    pub id: Id,
    /// The time it was sent.
    pub start: u64,
    /// The time it was acknowledged. `None` if it failed, was dropped, or never finished.
    pub end: Option<u64>,
}

impl Ledger {
    /// Creates a ledger for a disk that durably shows `initial`, over parents that show `below`.
    pub fn new(initial: Vec<Id>, below: Vec<Id>) -> Self {
        Self { initial, below, entries: Vec::new() }
    }

    /// Adds a request. Requests are added in the order they were sent.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Records that the process died. Unflushed changes may be lost, even if a later flush succeeds.
    pub fn forsake(&mut self) {
        let flushed = self.flushed_by(u64::MAX);
        for entry in &mut self.entries {
            let kept = |end| end < flushed || entry.op.makes_durable();
            entry.end = entry.end.filter(|end| kept(*end));
        }
    }

    /// Returns the start of the last flush that was done by `moment`.
    fn flushed_by(&self, moment: u64) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.op.flushes() && entry.end.is_some_and(|end| end <= moment))
            .map(|flush| flush.start)
            .max()
            .unwrap_or(0)
    }

    /// Returns the times at which data became durable: the ends of flushes and FUA writes.
    pub fn promises(&self) -> Vec<u64> {
        self.entries.iter().filter(|e| e.op.makes_durable()).filter_map(|e| e.end).collect()
    }

    /// Returns what the guest may find after a power cut at `moment`.
    pub fn at(&self, moment: u64) -> Model {
        let flushed = self.flushed_by(moment);
        let mut model = Model::new(self.initial.clone());
        for entry in self.entries.iter().filter(|entry| entry.start <= moment) {
            let durable = entry
                .end
                .is_some_and(|end| end < flushed || (entry.op.makes_durable() && end <= moment));
            if durable {
                model.exact(&entry.op, entry.id, &self.below)
            } else {
                model.maybe(&entry.op, entry.id, &self.below)
            }
        }
        model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::stamped;

    fn write(sector: u64, count: u64) -> Op {
        Op::Write { sector, count, fua: false }
    }

    #[test]
    fn a_write_is_certain_only_after_a_flush_that_began_after_it_ended() {
        let mut ledger = Ledger::new(vec![ZERO; 4], vec![ZERO; 4]);
        ledger.push(Entry { op: write(0, 2), id: 1, start: 1, end: Some(2) });
        ledger.push(Entry { op: Op::Flush, id: 0, start: 3, end: Some(6) });
        ledger.push(Entry { op: write(1, 2), id: 2, start: 7, end: Some(8) });
        assert_eq!(ledger.at(5).allowed(0), [ZERO, 1]);
        assert_eq!(ledger.at(6).allowed(0), [1]);
        assert_eq!(ledger.at(8).allowed(1), [1, 2]);
        assert_eq!(ledger.at(8).allowed(3), [ZERO]);
    }

    #[test]
    fn a_sector_with_foreign_data_is_named() {
        let model = Model::new(vec![ZERO, 5]);
        let mut bytes = stamped(5, 0, 2);
        bytes[..SECTOR].fill(0);
        assert_eq!(model.verify(0, &bytes), Ok(()));
        let moved = stamped(5, 9, 1);
        let error = model.verify(1, &moved).unwrap_err();
        assert!(error.contains("the data of write #5 for sector 9"), "{error}");
    }
}
