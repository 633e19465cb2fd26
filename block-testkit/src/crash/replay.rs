//! Replays a recorded history up to a moment, to find what is durable and what is in flight.

use super::states::{DiskAtCut, Enumeration, Level, Segment};
use super::{Disk, Event, What};
use crate::rng::mix;
use block_core::Image;

/// A recorded history. Moments are visited in ascending order, each visit continuing from the previous one.
#[derive(Debug)]
pub struct Replay {
    disks: Vec<Progress>,
    /// The last moment visited.
    now: u64,
}

#[derive(Debug)]
struct Progress {
    disk: Disk,
    durable: Image,
    /// Indices of events not yet durable, in the order they were issued.
    pending: Vec<usize>,
    /// Index of the first event not yet replayed.
    next: usize,
}

impl Replay {
    pub(super) fn new(disks: Vec<Disk>) -> Self {
        let disks = disks
            .into_iter()
            .map(|disk| Progress {
                durable: disk.initial.clone(),
                pending: Vec::new(),
                next: 0,
                disk,
            })
            .collect();
        Self { disks, now: 0 }
    }

    /// Returns the moments at which a cut can leave new states: after each request is issued, and after each flush is
    /// done.
    pub fn moments(&self) -> Vec<u64> {
        let mut moments: Vec<u64> = self
            .disks
            .iter()
            .flat_map(|progress| &progress.disk.events)
            .filter_map(|event| if event.what.is_flush() { event.done } else { Some(event.issued) })
            .collect();
        moments.sort_unstable();
        moments
    }

    /// Returns the number of requests recorded.
    pub fn len(&self) -> usize {
        self.disks.iter().map(|progress| progress.disk.events.len()).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the power at `moment` and returns all states it may leave. If there are more than `limit`, `seed` chooses a
    /// sample.
    ///
    /// # Panics
    /// If `moment` is earlier than a visited one. What was durable then is no longer known, so the states would be
    /// those of the later moment.
    pub fn cut(&mut self, moment: u64, level: Level, limit: usize, seed: u64) -> Enumeration {
        assert!(moment >= self.now, "moment {moment} was passed: {} was visited", self.now);
        self.now = moment;
        let disks = self.disks.iter_mut().map(|progress| progress.advance(moment, level)).collect();
        Enumeration::new(disks, level, limit, seed)
    }
}

impl Progress {
    fn advance(&mut self, moment: u64, level: Level) -> DiskAtCut {
        while let Some(event) = self.disk.events.get(self.next).filter(|e| e.issued <= moment) {
            if matches!(event.what, What::FailedFlush) {
                let issued = event.issued;
                self.save_flushed(issued);
                self.forget(issued);
            } else if !event.what.is_flush() {
                self.pending.push(self.next);
            }
            self.next += 1;
        }
        self.save_flushed(moment);
        self.at_cut(level)
    }

    /// Applies the flushes done by `moment`: each made durable all requests acknowledged before it was issued.
    fn save_flushed(&mut self, moment: u64) {
        let flushed = self
            .disk
            .events
            .iter()
            .take(self.next)
            .filter(|e| matches!(e.what, What::Flush) && e.done.is_some_and(|done| done <= moment))
            .map(|flush| flush.issued)
            .max()
            .unwrap_or(0);
        let events = &self.disk.events;
        let durable = &mut self.durable;
        self.pending.retain(|index| {
            let event = &events[*index];
            let covered = event.done.is_some_and(|done| done < flushed);
            if covered {
                apply(durable, event);
            }
            !covered
        });
    }

    /// Applies a failed flush issued at `issued`: each request acknowledged before it is now durable or lost for good.
    /// In a third of cases all are lost and in a third all are durable. Changes of length are kept: they are the file
    /// system's own metadata, not data that a disk refused.
    fn forget(&mut self, issued: u64) {
        let luck = mix(issued);
        let events = &self.disk.events;
        let durable = &mut self.durable;
        self.pending.retain(|index| {
            let event = &events[*index];
            let decided = event.done.is_some_and(|done| done < issued);
            let saved = match luck % 3 {
                _ if matches!(event.what, What::SetLen(_)) => true,
                0 => false,
                1 => true,
                _ => mix(luck ^ *index as u64).is_multiple_of(2),
            };
            if decided && saved {
                apply(durable, event);
            }
            !decided
        });
    }

    fn at_cut(&self, level: Level) -> DiskAtCut {
        let pending: Vec<&Event> = self.pending.iter().map(|i| &self.disk.events[*i]).collect();
        let mut lens = vec![self.durable.len()];
        let mut after = self.durable.clone();
        // The image after each further pending request. Segments take their versions from these.
        let mut steps = vec![self.durable.clone()];
        for event in &pending {
            apply(&mut after, event);
            steps.push(after.clone());
            if lens.last() != Some(&after.len()) {
                lens.push(after.len());
            }
        }
        let atom = level.atom();
        let touched: Vec<_> = pending
            .iter()
            .zip(steps.iter())
            .map(|(event, before)| {
                let range = touched(event, before.len());
                range.start / atom * atom..range.end.div_ceil(atom) * atom
            })
            .collect();
        let mut bounds: Vec<u64> = touched.iter().flat_map(|r| [r.start, r.end]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut segments = Vec::new();
        for pair in bounds.windows(2) {
            let range = pair[0]..pair[1];
            let by: Vec<usize> = touched
                .iter()
                .enumerate()
                .filter(|(_, t)| t.start <= range.start && range.end <= t.end)
                .map(|(index, _)| index)
                .collect();
            if by.is_empty() {
                continue;
            }
            for part in Segment::parts(range, atom) {
                segments.push(Segment::new(part, &by, &steps));
            }
        }
        DiskAtCut {
            uri: self.disk.uri.clone(),
            durable: self.durable.clone(),
            steps,
            segments,
            lens,
        }
    }
}

fn touched(event: &Event, len_before: u64) -> std::ops::Range<u64> {
    match &event.what {
        What::Write { offset, data } => *offset..*offset + data.len() as u64,
        What::Zero(range) => range.clone(),
        // A shrink zeroes the cut-off range. A growth exposes only zeros.
        What::SetLen(len) => *len.min(&len_before)..len_before,
        What::Flush | What::FailedFlush => 0..0,
    }
}

fn apply(image: &mut Image, event: &Event) {
    match &event.what {
        What::Write { offset, data } => image.write(*offset, data),
        What::Zero(range) => image.zero(range.clone()),
        What::SetLen(len) => image.set_len(*len),
        What::Flush | What::FailedFlush => {}
    }
}
