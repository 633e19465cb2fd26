//! The states that a power cut may leave: all of them, or a sample.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use crate::rng::Rng;
use block_core::Image;

/// An assumption about unflushed writes at a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// All of them are lost.
    LastFlush,
    /// The first n of them are on disk, for any n.
    Prefix,
    /// Any subset of them is on disk, each write whole, applied in the order of issue.
    Subset,
    /// Each atom of this many bytes independently holds its old content or that of any unflushed write. The file has
    /// any length it had since the last flush.
    Atoms(u64),
    /// Like `Atoms`, but space added to the file since the last flush holds garbage where nothing was written. A block
    /// device does this, a file system does not.
    Garbage(u64),
}

impl Level {
    /// Atoms of one sector: writes are reordered, torn or lost in any combination.
    pub const DEFAULT: Self = Self::Atoms(512);

    pub(super) fn atom(self) -> u64 {
        match self {
            Self::Atoms(bytes) | Self::Garbage(bytes) => bytes.max(1),
            _ => 512,
        }
    }
}

/// A disk at the moment of the cut.
#[derive(Debug)]
pub(super) struct DiskAtCut {
    pub(super) uri: String,
    pub(super) durable: Image,
    /// The image after the first n pending requests, starting with n = 0.
    pub(super) steps: Vec<Image>,
    pub(super) segments: Vec<Segment>,
    /// Possible lengths of the file in bytes.
    pub(super) lens: Vec<u64>,
}

/// Adjacent atoms touched by the same pending requests.
#[derive(Debug)]
pub(super) struct Segment {
    range: Range<u64>,
    /// Possible contents of the range. The first is the durable one.
    versions: Vec<Vec<u8>>,
}

/// Most atoms in a segment that is split into atoms. A longer one is data of one write: testing all of it, none of it
/// and a random mix is enough.
const METADATA_ATOMS: u64 = 4;

impl Segment {
    /// Splits a short range into its atoms, and leaves a long one whole.
    pub(super) fn parts(range: Range<u64>, atom: u64) -> Vec<Range<u64>> {
        if (range.end - range.start) / atom > METADATA_ATOMS {
            return vec![range];
        }
        (range.start..range.end).step_by(atom as usize).map(|at| at..at + atom).collect()
    }

    pub(super) fn new(range: Range<u64>, by: &[usize], steps: &[Image]) -> Self {
        let mut versions: Vec<Vec<u8>> = Vec::new();
        for step in std::iter::once(0).chain(by.iter().map(|index| index + 1)) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            steps[step].read(range.start, &mut bytes);
            if !versions.contains(&bytes) {
                versions.push(bytes);
            }
        }
        Self { range, versions }
    }

    /// Returns the number of versions, plus one if they can be mixed.
    fn choices(&self, atom: u64) -> u64 {
        let mixable = self.range.end - self.range.start > atom && self.versions.len() > 1;
        self.versions.len() as u64 + u64::from(mixable)
    }
}

/// One state that the power cut may leave.
#[derive(Debug, Clone)]
pub struct CrashState {
    /// The disks with their URIs.
    pub disks: Vec<(String, Image)>,
    /// The choices that make this state and reproduce it.
    pub choice: Choice,
    partial: bool,
}

impl CrashState {
    /// Whether some of the data in flight is on disk, and some is not.
    pub fn is_partial(&self) -> bool {
        self.partial
    }
}

/// The choices that make a crash state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Choice(Vec<u64>);

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&text.join("."))
    }
}

/// The states of one cut.
#[derive(Debug)]
pub struct Enumeration {
    disks: Vec<DiskAtCut>,
    level: Level,
    /// Number of choices at each position: for each disk its length, then its segments.
    radix: Vec<u64>,
    choices: Vec<Choice>,
    /// Whether these are all possible states. Mixes within one long write count as one state.
    pub exhaustive: bool,
    next: usize,
}

impl Enumeration {
    pub(super) fn new(disks: Vec<DiskAtCut>, level: Level, limit: usize, seed: u64) -> Self {
        let mut radix = Vec::new();
        for disk in &disks {
            match level {
                Level::LastFlush => radix.push(1),
                Level::Prefix => radix.push(disk.steps.len() as u64),
                Level::Subset => radix.extend(disk.steps.iter().skip(1).map(|_| 2)),
                Level::Atoms(_) | Level::Garbage(_) => {
                    radix.push(disk.lens.len() as u64);
                    radix.extend(disk.segments.iter().map(|s| s.choices(level.atom())));
                }
            }
        }
        let total = radix.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        let exhaustive = total.is_some_and(|total| total <= limit as u64);
        let choices = match (exhaustive, total) {
            (true, Some(total)) => (0..total).map(|n| number(n, &radix)).collect(),
            _ => sample(&radix, limit, seed),
        };
        Self { disks, level, radix, choices, exhaustive, next: 0 }
    }

    /// Returns the number of states.
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether there are no states. Every cut leaves at least one.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// Returns the state of one choice.
    fn state(&self, choice: &Choice) -> CrashState {
        let mut digits = choice.0.iter().copied();
        let mut rng = Rng::new(
            choice
                .0
                .iter()
                .fold(self.radix.len() as u64, |seed, digit| crate::rng::mix(seed ^ digit)),
        );
        let disks = self
            .disks
            .iter()
            .map(|disk| (disk.uri.clone(), self.disk(disk, &mut digits, &mut rng)))
            .collect();
        let newest = choice.0.iter().zip(&self.radix).filter(|(digit, n)| **digit + 1 == **n);
        let all = newest.count() == self.radix.len();
        let partial = !all && choice.0.iter().any(|digit| *digit != 0);
        CrashState { disks, choice: choice.clone(), partial }
    }

    fn disk(
        &self,
        disk: &DiskAtCut,
        digits: &mut impl Iterator<Item = u64>,
        rng: &mut Rng,
    ) -> Image {
        let mut digit = || digits.next().unwrap_or(0) as usize;
        match self.level {
            Level::LastFlush => {
                digit();
                disk.durable.clone()
            }
            Level::Prefix => disk.steps[digit()].clone(),
            Level::Subset => disk.subset(&mut digit),
            Level::Atoms(atom) => disk.atoms(&mut digit, atom, rng, false),
            Level::Garbage(atom) => disk.atoms(&mut digit, atom, rng, true),
        }
    }
}

impl Iterator for Enumeration {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        let choice = self.choices.get(self.next)?;
        let state = self.state(choice);
        self.next += 1;
        Some(state)
    }
}

impl DiskAtCut {
    /// Applies each pending request whole or not at all. The difference between two steps is the change of one request.
    fn subset(&self, digit: &mut impl FnMut() -> usize) -> Image {
        let mut image = self.durable.clone();
        for (index, pair) in self.steps.windows(2).enumerate() {
            if digit() == 0 {
                continue;
            }
            for segment in &self.segments {
                let len = (segment.range.end - segment.range.start) as usize;
                let (mut before, mut after) = (vec![0; len], vec![0; len]);
                pair[0].read(segment.range.start, &mut before);
                pair[1].read(segment.range.start, &mut after);
                if before != after {
                    image.write(segment.range.start, &after);
                }
            }
            image.set_len(self.steps[index + 1].len());
        }
        image
    }

    fn atoms(
        &self,
        digit: &mut impl FnMut() -> usize,
        atom: u64,
        rng: &mut Rng,
        garbage: bool,
    ) -> Image {
        let len = self.lens[digit()];
        let mut image = self.durable.clone();
        if garbage && len > image.len() {
            let mut page = [0; 4096];
            page.chunks_exact_mut(8)
                .for_each(|word| word.copy_from_slice(&rng.roll().to_le_bytes()));
            let mut at = image.len();
            while at < len {
                // Makes every page different for the cost of a copy.
                page.rotate_left(8);
                let part = (page.len() as u64).min(len - at);
                image.write(at, &page[..part as usize]);
                at += part;
            }
        }
        for segment in &self.segments {
            let chosen = digit();
            if let Some(bytes) = segment.versions.get(chosen) {
                // The durable content is already there. Writing it would overwrite garbage.
                if chosen > 0 {
                    image.write(segment.range.start, bytes);
                }
                continue;
            }
            for at in (0..segment.range.end - segment.range.start).step_by(atom as usize) {
                let bytes = &segment.versions[rng.index(segment.versions.len())];
                let end = (at + atom).min(bytes.len() as u64);
                image.write(segment.range.start + at, &bytes[at as usize..end as usize]);
            }
        }
        image.set_len(len);
        image
    }
}

/// Returns the digits of `n` in a mixed radix.
fn number(mut n: u64, radix: &[u64]) -> Choice {
    Choice(
        radix
            .iter()
            .map(|base| {
                let digit = n % base;
                n /= base;
                digit
            })
            .collect(),
    )
}

/// Returns up to `limit` distinct choices: all old, all new, each change alone, each change missing, then random ones.
fn sample(radix: &[u64], limit: usize, seed: u64) -> Vec<Choice> {
    let mut seen = HashSet::new();
    let mut choices = Vec::new();
    let mut add = |digits: Vec<u64>, choices: &mut Vec<Choice>| {
        let choice = Choice(digits);
        if choices.len() < limit && seen.insert(choice.clone()) {
            choices.push(choice);
        }
    };
    let old = vec![0; radix.len()];
    let new: Vec<u64> = radix.iter().map(|n| n - 1).collect();
    add(old.clone(), &mut choices);
    add(new.clone(), &mut choices);
    for (index, base) in radix.iter().enumerate() {
        for digit in 0..*base {
            for start in [&old, &new] {
                let mut digits = start.clone();
                digits[index] = digit;
                add(digits, &mut choices);
            }
        }
        if choices.len() * 2 > limit {
            break;
        }
    }
    let mut rng = Rng::new(seed);
    // Half of the rest are sparse (few changes from one end), half are arbitrary.
    for _ in 0..limit * 4 {
        if choices.len() >= limit {
            break;
        }
        let mut digits = match rng.within(0..4) {
            0 => old.clone(),
            1 => new.clone(),
            _ => radix.iter().map(|base| rng.within(0..*base)).collect(),
        };
        for _ in 0..2 {
            let index = rng.index(radix.len());
            digits[index] = rng.within(0..radix[index]);
        }
        add(digits, &mut choices);
    }
    choices
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crash::World;
    use crate::exec::block_on;
    use block_core::Storage;

    fn bytes_of(states: Enumeration) -> HashSet<Vec<u8>> {
        states.map(|state| state.disks[0].1.to_bytes()).collect()
    }

    /// Two durable sectors "a", then "b" over both, then "c" over the second.
    fn history() -> Arc<World> {
        let world = World::new();
        let disk = world.disk("sim:x", Image::default());
        block_on(async {
            disk.write_at(0, &[b'a'; 1024]).await.unwrap();
            disk.flush().await.unwrap();
            disk.write_at(0, &[b'b'; 1024]).await.unwrap();
            disk.write_at(512, &[b'c'; 512]).await.unwrap();
        });
        world
    }

    fn two(first: u8, second: u8) -> Vec<u8> {
        [[first; 512], [second; 512]].concat()
    }

    #[test]
    fn every_atom_holds_its_old_content_or_that_of_any_unflushed_write() {
        let mut replay = history().replay();
        let end = *replay.moments().last().unwrap();
        let all = replay.cut(end, Level::DEFAULT, 100, 0);
        assert!(all.exhaustive);
        let wanted: HashSet<Vec<u8>> = [b'a', b'b']
            .into_iter()
            .flat_map(|first| [b'a', b'b', b'c'].map(|second| two(first, second)))
            .collect();
        assert_eq!(bytes_of(all), wanted);
    }

    #[test]
    fn weaker_levels_leave_fewer_states() {
        let end = *history().replay().moments().last().unwrap();
        let cut = |level| bytes_of(history().replay().cut(end, level, 100, 0));
        assert_eq!(cut(Level::LastFlush), HashSet::from([two(b'a', b'a')]));
        let prefix = HashSet::from([two(b'a', b'a'), two(b'b', b'b'), two(b'b', b'c')]);
        assert_eq!(cut(Level::Prefix), prefix);
        assert!(cut(Level::Subset).contains(&two(b'a', b'c')));
        assert!(!cut(Level::Subset).contains(&two(b'b', b'a')));
    }

    #[test]
    fn what_a_flush_covered_is_there_in_every_state_and_the_length_is_independent_of_data() {
        let world = World::new();
        let disk = world.disk("sim:x", Image::of(&[1; 512]));
        block_on(disk.write_at(512, &[2; 512])).unwrap();
        let mut replay = world.replay();
        let cut = replay.cut(world.tick(), Level::DEFAULT, 100, 0);
        let longer_without_data = [vec![1; 512], vec![0; 512]].concat();
        assert_eq!(
            bytes_of(cut),
            HashSet::from([
                vec![1; 512],
                longer_without_data,
                [vec![1; 512], vec![2; 512]].concat()
            ])
        );
        block_on(disk.flush()).unwrap();
        let cut = world.replay().cut(world.tick(), Level::DEFAULT, 100, 0);
        assert_eq!(cut.len(), 1);
    }

    #[test]
    fn a_sample_keeps_to_its_limit_and_repeats_no_state() {
        let choices = sample(&[2; 40], 500, 3);
        assert_eq!(choices.len(), 500);
        assert_eq!(choices.iter().collect::<HashSet<_>>().len(), 500);
    }
}
