//! What a guest may see: for each sector the contents that are allowed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ops::{Change, Op};
use super::stamp::{ANY, Content, Id, SECTOR, ZERO, identify};

/// The contents each sector may show. Nearly always there is one; after a failure, a dropped future or
/// a power cut there may be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// One allowed content of each sector.
    cells: Vec<Id>,
    /// The other allowed contents, for the sectors that have any.
    others: BTreeMap<u64, Vec<Id>>,
    /// Other sizes (in sectors) the disk may have.
    other_sizes: Vec<u64>,
    /// How far old data may lie behind the end of the disk, sectors.
    stale_end: u64,
}

impl Model {
    /// Exactly this content.
    pub fn new(cells: Vec<Id>) -> Self {
        Self { cells, others: BTreeMap::new(), other_sizes: Vec::new(), stale_end: 0 }
    }

    /// Size of the disk, sectors.
    pub fn sectors(&self) -> u64 {
        self.cells.len() as u64
    }

    /// The change is done.
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

    /// The change is done, or not, or in some sectors only.
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

    /// The contents a sector may show.
    pub fn allowed(&self, sector: u64) -> Vec<Id> {
        let mut allowed = vec![self.cells[sector as usize]];
        allowed.extend(self.others.get(&sector).into_iter().flatten());
        allowed
    }

    /// How many sectors may show more than one content.
    pub fn doubtful(&self) -> usize {
        self.others.len()
    }

    /// Whether the disk may have this many sectors.
    pub fn allows_size(&self, sectors: u64) -> bool {
        sectors == self.sectors() || self.other_sizes.contains(&sectors)
    }

    /// Compares what was read from `sector` on.
    ///
    /// # Errors
    /// The first sector that shows what it must not, in words.
    pub fn verify(&self, sector: u64, bytes: &[u8]) -> Result<(), String> {
        for (at, chunk) in (sector..).zip(bytes.chunks_exact(SECTOR)) {
            self.verify_one(at, chunk)?;
        }
        Ok(())
    }

    /// Compares the whole disk; what it shows is what it must show from here on.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), or that the size is wrong.
    pub fn settle(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sectors = (bytes.len() / SECTOR) as u64;
        if !self.allows_size(sectors) {
            return Err(format!("the disk has {sectors} sectors, wanted {}", self.sectors()));
        }
        // Behind a size that was believed and proves too small there are zeros, or what was there before
        // the disk was made smaller, if it was.
        let (known, stale) = (self.sectors(), self.stale_end.min(sectors));
        if stale > known {
            self.cells.resize(stale as usize, ANY);
        }
        self.cells.resize(sectors as usize, ZERO);
        self.others.retain(|sector, _| *sector < sectors);
        // A size that was in doubt is what the disk says it is; a failed attempt to make it larger may
        // still come to light when it is opened again.
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

    /// The disk was opened again: its size is no longer in doubt.
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

/// What was asked of a disk and when: gives the [`Model`] of any moment at which the power may be cut.
#[derive(Debug, Clone)]
pub struct Ledger {
    initial: Vec<Id>,
    below: Vec<Id>,
    entries: Vec<Entry>,
}

/// A request to the disk.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was asked.
    pub op: Op,
    /// The number its data carries.
    pub id: Id,
    /// When it began.
    pub start: u64,
    /// When it was acknowledged; `None`: it failed, was dropped, or never came to an end.
    pub end: Option<u64>,
}

impl Ledger {
    /// A disk that durably shows `initial`, above parents that show `below`.
    pub fn new(initial: Vec<Id>, below: Vec<Id>) -> Self {
        Self { initial, below, entries: Vec::new() }
    }

    /// Adds a request; the order is that in which they began.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The process died: what no flush had covered may be lost, whatever is flushed later.
    pub fn forsake(&mut self) {
        let flushed = self.flushed_by(u64::MAX);
        for entry in &mut self.entries {
            let kept = |end| end < flushed || entry.op.makes_durable();
            entry.end = entry.end.filter(|end| kept(*end));
        }
    }

    /// The beginning of the last flush that was done at `moment`.
    fn flushed_by(&self, moment: u64) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.op.flushes() && entry.end.is_some_and(|end| end <= moment))
            .map(|flush| flush.start)
            .max()
            .unwrap_or(0)
    }

    /// When something became durable: the ends of flushes and of FUA writes.
    pub fn promises(&self) -> Vec<u64> {
        self.entries.iter().filter(|e| e.op.makes_durable()).filter_map(|e| e.end).collect()
    }

    /// What the guest may find when the power is cut at `moment`.
    pub fn at(&self, moment: u64) -> Model {
        let flushed = self.flushed_by(moment);
        let mut model = Model::new(self.initial.clone());
        for entry in self.entries.iter().filter(|entry| entry.start <= moment) {
            let durable = entry
                .end
                .is_some_and(|end| end < flushed || (entry.op.makes_durable() && end <= moment));
            match durable {
                true => model.exact(&entry.op, entry.id, &self.below),
                false => model.maybe(&entry.op, entry.id, &self.below),
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
