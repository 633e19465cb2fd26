//! Requests to a disk: their values and text form, random generation, and shortening of failing lists.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::rng::Rng;
use super::stamp::{Id, SECTOR, in_pages, stamped};
use block_core::{BlockDevice, DeviceCaps, Preallocation, SECTOR_SIZE, WriteFlags, ZeroFlags};

/// One request. All numbers are in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Reads sectors and compares them.
    Read {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
    },
    /// Writes stamped sectors.
    Write {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
        /// Whether the change is durable on return.
        fua: bool,
    },
    /// Writes zeros.
    Zeroes {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
        /// Whether the driver may deallocate the space.
        unmap: bool,
        /// Whether the change is durable on return.
        fua: bool,
    },
    /// Discards.
    Discard {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
    },
    /// Flushes.
    Flush,
    /// Closes the disk and opens it again.
    Reopen,
    /// Drops the disk without closing it and opens it again. Unflushed changes may be lost.
    Kill,
    /// Compacts the file.
    Compact,
    /// Removes all data from the image.
    MakeEmpty,
    /// Resizes the disk to this many sectors.
    Resize(u64),
}

/// The effect of a request on the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// The sectors hold new data.
    Write(Range<u64>),
    /// The sectors read as zeros.
    Zero(Range<u64>),
    /// The sectors read as zeros or as before.
    MaybeZero(Range<u64>),
    /// The disk shows the parents' content.
    Empty,
    /// The disk has this many sectors.
    Size(u64),
}

impl Op {
    /// Returns the effect on the content.
    pub fn change(&self) -> Change {
        match *self {
            Self::Write { sector, count, .. } => Change::Write(sector..sector + count),
            Self::Zeroes { sector, count, .. } => Change::Zero(sector..sector + count),
            Self::Discard { sector, count } => Change::MaybeZero(sector..sector + count),
            Self::MakeEmpty => Change::Empty,
            Self::Resize(sectors) => Change::Size(sectors),
            _ => Change::Nothing,
        }
    }

    /// Whether all requests acknowledged earlier are durable when this one returns.
    pub fn flushes(&self) -> bool {
        matches!(self, Self::Flush | Self::Reopen)
    }

    /// Whether its own changes are durable when it returns.
    pub fn makes_durable(&self) -> bool {
        match self {
            Self::Write { fua, .. } | Self::Zeroes { fua, .. } => *fua,
            other => other.flushes(),
        }
    }

    /// Whether an image with `caps` and `sectors` sectors supports the request.
    pub fn possible(&self, caps: DeviceCaps, sectors: u64) -> bool {
        match self {
            Self::Compact => caps.contains(DeviceCaps::COMPACT),
            Self::MakeEmpty => caps.contains(DeviceCaps::MAKE_EMPTY),
            Self::Resize(to) if *to >= sectors => caps.contains(DeviceCaps::GROW),
            Self::Resize(_) => caps.contains(DeviceCaps::SHRINK),
            _ => true,
        }
    }

    /// Whether the request fits on a disk of `sectors` sectors.
    pub fn fits(&self, sectors: u64) -> bool {
        match *self {
            Self::Read { sector, count }
            | Self::Write { sector, count, .. }
            | Self::Zeroes { sector, count, .. }
            | Self::Discard { sector, count } => sector + count <= sectors,
            _ => true,
        }
    }

    /// Sends the request to the device. A read returns its bytes. `Reopen` closes the device and `Kill` does nothing
    /// here. In both cases the caller opens the disk again.
    ///
    /// # Errors
    /// Returns the device's error.
    pub async fn send(
        &self,
        device: &dyn BlockDevice,
        id: Id,
    ) -> block_core::Result<Option<Vec<u8>>> {
        match *self {
            Self::Read { sector, count } => {
                // Both read methods must return the same bytes.
                if sector % 2 == 1 {
                    return Ok(Some(device.read_bytes(sector, count).await?.to_vec()));
                }
                let mut bytes = vec![0xA5; count as usize * SECTOR];
                device.read_sectors(sector, &mut bytes).await?;
                return Ok(Some(bytes));
            }
            Self::Write { sector, count, fua } => {
                let flags = if fua { WriteFlags::FUA } else { WriteFlags::empty() };
                let bytes = stamped(id, sector, count);
                // Both write methods must have the same effect.
                match sector % 2 {
                    0 => device.write_sectors(sector, &bytes, flags).await?,
                    _ => device.write_bytes(sector, in_pages(&bytes), flags).await?,
                }
            }
            Self::Zeroes { sector, count, unmap, fua } => {
                let mut flags = ZeroFlags::empty();
                flags.set(ZeroFlags::MAY_UNMAP, unmap);
                flags.set(ZeroFlags::FUA, fua);
                device.write_zeroes(sector, count, flags).await?;
            }
            Self::Discard { sector, count } => device.discard(sector, count).await?,
            Self::Flush => device.flush().await?,
            Self::Reopen => device.close().await?,
            Self::Kill => {}
            Self::Compact => {
                device.compact(&|_, _| true).await?;
            }
            Self::MakeEmpty => device.make_empty().await?,
            Self::Resize(sectors) => {
                device.resize(sectors * SECTOR_SIZE, Preallocation::Off).await?;
            }
        }
        Ok(None)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fua = |fua| if fua { " fua" } else { "" };
        match *self {
            Self::Read { sector, count } => write!(f, "read {sector}+{count}"),
            Self::Write { sector, count, fua: durable } => {
                write!(f, "write {sector}+{count}{}", fua(durable))
            }
            Self::Zeroes { sector, count, unmap, fua: durable } => {
                let unmap = if unmap { " unmap" } else { "" };
                write!(f, "zeroes {sector}+{count}{unmap}{}", fua(durable))
            }
            Self::Discard { sector, count } => write!(f, "discard {sector}+{count}"),
            Self::Flush => f.write_str("flush"),
            Self::Reopen => f.write_str("reopen"),
            Self::Kill => f.write_str("kill"),
            Self::Compact => f.write_str("compact"),
            Self::MakeEmpty => f.write_str("make-empty"),
            Self::Resize(sectors) => write!(f, "resize {sectors}"),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    /// Parses a request as printed in a report: `write 5+3 fua`, `resize 831`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
        let range = || {
            let text = words.first().copied().unwrap_or_default();
            let (sector, count) = text.split_once('+').ok_or(format!("{text:?} is no range"))?;
            Ok::<_, String>((number(sector)?, number(count)?))
        };
        let fua = words.contains(&"fua");
        Ok(match name {
            "read" => range().map(|(sector, count)| Self::Read { sector, count })?,
            "write" => range().map(|(sector, count)| Self::Write { sector, count, fua })?,
            "discard" => range().map(|(sector, count)| Self::Discard { sector, count })?,
            "zeroes" => {
                let (sector, count) = range()?;
                Self::Zeroes { sector, count, unmap: words.contains(&"unmap"), fua }
            }
            "flush" => Self::Flush,
            "reopen" => Self::Reopen,
            "kill" => Self::Kill,
            "compact" => Self::Compact,
            "make-empty" => Self::MakeEmpty,
            "resize" => Self::Resize(number(words.first().copied().unwrap_or_default())?),
            _ => return Err(format!("{text:?} is no request")),
        })
    }
}

/// Parses the requests of a report's `OPS` line.
///
/// # Errors
/// Returns a message about the first invalid request.
pub fn parse(line: &str) -> Result<Vec<Op>, String> {
    line.split('|').map(str::parse).collect()
}

/// The target of random requests. They favour block boundaries, where most mistakes show.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// Disk size in sectors.
    pub sectors: u64,
    /// Sectors per block.
    pub unit: u64,
    /// The capabilities of the image.
    pub caps: DeviceCaps,
    /// Whether to include requests on the whole image: reopen, compact, resize, empty.
    pub maintenance: bool,
}

impl Ground {
    /// Returns a random non-empty range on the disk, as `(sector, count)`.
    pub fn range(&self, rng: &mut Rng) -> (u64, u64) {
        let block = rng.within(0..self.sectors.div_ceil(self.unit)) * self.unit;
        let half = (self.unit / 2).max(1);
        let (sector, count) = match rng.within(0..8) {
            // A few sectors within a block.
            0 | 1 => (block + rng.within(0..self.unit), rng.within(1..9)),
            // Its first or last sectors.
            2 => (block, rng.within(1..4)),
            3 => (block + self.unit - rng.within(1..4).min(self.unit), rng.within(1..4)),
            // One whole block, or several.
            4 => (block, self.unit),
            5 => (block, self.unit * rng.within(1..4)),
            // Across a block boundary.
            6 => (block + half, self.unit),
            _ => (block + rng.within(0..self.unit), rng.within(1..self.unit + 2)),
        };
        let sector = sector.min(self.sectors - 1);
        (sector, count.clamp(1, self.sectors - sector))
    }

    /// Returns a random request.
    pub fn op(&self, rng: &mut Rng) -> Op {
        let range = self.range(rng);
        self.op_at(rng, range)
    }

    fn op_at(&self, rng: &mut Rng, (sector, count): (u64, u64)) -> Op {
        match rng.within(0..32) {
            0..=4 => Op::Read { sector, count },
            5..=15 => Op::Write { sector, count, fua: rng.one_in(12) },
            16..=19 => Op::Zeroes { sector, count, unmap: rng.one_in(2), fua: rng.one_in(12) },
            20..=22 => Op::Discard { sector, count },
            23..=26 => Op::Flush,
            _ if !self.maintenance => Op::Write { sector, count, fua: false },
            27 | 28 => Op::Reopen,
            29 => Op::Compact,
            30 if rng.one_in(3) => Op::MakeEmpty,
            _ => Op::Resize(
                (self.sectors + rng.within(0..2 * self.unit)).saturating_sub(self.unit).max(1),
            ),
        }
    }

    /// Returns `count` requests that the image supports. Each fits the disk as the previous ones left it. About every
    /// third targets an earlier range again.
    pub fn ops(mut self, rng: &mut Rng, count: usize) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut ranges = Vec::new();
        while ops.len() < count {
            let range = if rng.one_in(3) && !ranges.is_empty() {
                ranges[rng.index(ranges.len())]
            } else {
                self.range(rng)
            };
            let op = self.op_at(rng, range);
            if !op.possible(self.caps, self.sectors) || !op.fits(self.sectors) {
                continue;
            }
            ranges.push(range);
            if let Op::Resize(sectors) = op {
                self.sectors = sectors;
            }
            ops.push(op);
        }
        ops
    }
}

/// Shortens a failing list within 400 tries, by removing halves, then quarters, down to single requests.
pub fn shrink<F>(ops: &[Op], mut fails: F) -> Vec<Op>
where
    F: FnMut(&[Op]) -> bool,
{
    let mut best = ops.to_vec();
    let mut chunk = best.len() / 2;
    let mut tries = 0;
    while chunk > 0 && tries < 400 {
        let mut at = 0;
        let mut shorter = false;
        while at < best.len() && tries < 400 {
            let mut candidate = best.clone();
            candidate.drain(at..(at + chunk).min(best.len()));
            tries += 1;
            if fails(&candidate) {
                best = candidate;
                shorter = true;
            } else {
                at += chunk;
            }
        }
        if !shorter || chunk > 1 {
            chunk /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shrinks_to_the_requests_that_matter() {
        let ops: Vec<Op> = (0..40).map(|sector| Op::Read { sector, count: 1 }).collect();
        let needed = [3, 17, 31];
        let has = |list: &[Op], n| list.contains(&Op::Read { sector: n, count: 1 });
        let short = shrink(&ops, |list| needed.iter().all(|n| has(list, *n)));
        assert_eq!(short.len(), 3);
    }

    #[test]
    fn a_report_can_be_read_back() {
        let caps = DeviceCaps::all();
        let ground = Ground { sectors: 1000, unit: 256, caps, maintenance: true };
        let ops = ground.ops(&mut Rng::new(3), 400);
        let line: Vec<String> = ops.iter().map(Op::to_string).collect();
        assert_eq!(parse(&line.join(" | ")), Ok(ops));
        assert!(parse("write 5").is_err() && parse("burn 1+1").is_err());
    }

    #[test]
    fn random_ranges_lie_on_the_disk() {
        let caps = DeviceCaps::all();
        let ground = Ground { sectors: 1000, unit: 256, caps, maintenance: true };
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let (sector, count) = ground.range(&mut rng);
            assert!(count > 0 && sector + count <= 1000);
        }
    }
}
