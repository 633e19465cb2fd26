//! Checks whether the history of each sector is that of an atomic register.

use std::collections::BTreeMap;

use super::stamp::{Content, Id, ZERO};

/// A request's effect on a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The sector was read, with this content.
    Read(Content),
    /// The sector was written, or zeroed ([`ZERO`]).
    Write(Id),
    /// The sector was discarded. It then reads as zeros or as before.
    MaybeZero,
}

/// A request to one sector, with its start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Sector number.
    pub sector: u64,
    /// The time it was sent.
    pub start: u64,
    /// The time it was acknowledged.
    pub end: u64,
    /// The effect.
    pub what: What,
}

/// The histories of all sectors.
#[derive(Debug, Default)]
pub struct History {
    sectors: BTreeMap<u64, Vec<Access>>,
    initial: Vec<Id>,
}

impl History {
    /// Creates the history of a disk that initially showed `initial`.
    pub fn new(initial: &[Id]) -> Self {
        Self { sectors: BTreeMap::new(), initial: initial.to_vec() }
    }

    /// Adds requests, in any order.
    pub fn extend(&mut self, accesses: impl IntoIterator<Item = Access>) {
        for access in accesses {
            self.sectors.entry(access.sector).or_default().push(access);
        }
    }

    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.sectors.values().map(Vec::len).sum()
    }

    /// Whether there are no requests.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// Compares every read with the writes that it can have seen.
    ///
    /// # Errors
    /// Describes the first read that no serial order explains.
    pub fn check(&self) -> Result<(), String> {
        for (sector, accesses) in &self.sectors {
            let initial = self.initial.get(*sector as usize).copied().unwrap_or(ZERO);
            check_one(*sector, initial, accesses)?;
        }
        Ok(())
    }
}

fn check_one(sector: u64, initial: Id, accesses: &[Access]) -> Result<(), String> {
    let beginning = Access { sector, start: 0, end: 0, what: What::Write(initial) };
    let writes: Vec<&Access> = std::iter::once(&beginning)
        .chain(accesses.iter().filter(|access| matches!(access.what, What::Write(_))))
        .collect();
    let sources = |id: Id| {
        let maybe = accesses.iter().filter(move |a| id == ZERO && a.what == What::MaybeZero);
        writes.iter().copied().filter(move |w| w.what == What::Write(id)).chain(maybe)
    };
    let mut read: Vec<(&Access, Id)> = Vec::new();
    for access in accesses {
        let What::Read(content) = access.what else {
            continue;
        };
        let Content::Written(id) = content else {
            return Err(format!("a read of sector {sector} shows {content}"));
        };
        let explained = sources(id).any(|w| {
            w.start < access.end && !writes.iter().any(|v| w.end < v.start && v.end < access.start)
        });
        if !explained {
            return Err(format!(
                "a read of sector {sector} from {} to {} shows {content}, which was overwritten before, or never written",
                access.start, access.end
            ));
        }
        read.push((access, id));
    }
    // A later read must not show a write older than an earlier read did.
    read.sort_by_key(|(access, _)| access.start);
    for (index, (late, late_id)) in read.iter().enumerate() {
        let Some(late_write) = only(&writes, *late_id) else {
            continue;
        };
        for (early, early_id) in &read[..index] {
            let went_back = early_id != late_id
                && early.end < late.start
                && only(&writes, *early_id).is_some_and(|w| late_write.end < w.start);
            if went_back {
                return Err(format!(
                    "sector {sector} showed #{early_id} until {}, and #{late_id}, which is older, from {} on",
                    early.end, late.start
                ));
            }
        }
    }
    Ok(())
}

/// Returns the write with this id. `None` for zeros, which several requests can write.
fn only<'a>(writes: &[&'a Access], id: Id) -> Option<&'a Access> {
    if id == ZERO {
        return None;
    }
    writes.iter().find(|write| write.what == What::Write(id)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u64, end: u64, what: What) -> Access {
        Access { sector: 0, start, end, what }
    }

    fn check(accesses: &[Access]) -> Result<(), String> {
        let mut history = History::new(&[ZERO]);
        history.extend(accesses.iter().copied());
        history.check()
    }

    #[test]
    fn a_read_sees_a_write_that_could_have_come_last() {
        let read = |start, end, id| at(start, end, What::Read(Content::Written(id)));
        let writes = [at(1, 4, What::Write(1)), at(2, 3, What::Write(2))];
        let with = |reads: &[Access]| check(&[&writes, reads].concat());
        assert!(with(&[read(5, 6, 1)]).is_ok());
        assert!(with(&[read(5, 6, 2)]).is_ok());
        assert!(with(&[read(5, 6, ZERO)]).is_err(), "both are over");
        assert!(with(&[read(1, 2, ZERO)]).is_ok(), "neither need have happened");
        let later = at(7, 8, What::Write(3));
        assert!(with(&[later, read(9, 10, 1)]).is_err(), "overwritten");
        assert!(with(&[later, read(7, 9, 3), read(10, 11, 3)]).is_ok());
        assert!(with(&[at(7, 20, What::Write(3)), read(8, 9, 3), read(10, 11, 1)]).is_err());
    }
}
