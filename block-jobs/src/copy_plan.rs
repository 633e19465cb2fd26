//! Cutting what is to be copied into pieces.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::PageBuffer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PIECE;
use super::convert::Conversion;
use super::error::{JobError, Result, Side, Step};
use super::job::Plan;
use super::progress::{Expected, JobProgress};
use super::rate::Rate;
use super::source::{Source, Walk};

/// A piece of the copy: what one thread reads, and whoever is free writes when its turn has come.
#[derive(Debug)]
pub(super) struct Piece {
    /// Pieces before it.
    pub number: u64,
    pub segments: Vec<Segment>,
    /// Given back when it is written.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Pieces under way beyond one for each thread: so far does one thread get ahead of another that is slow.
const AHEAD: usize = 64;

/// A run of bytes that are copied alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub part: usize,
    /// First byte in the part's disk.
    pub from: u64,
    /// First byte in the target.
    pub to: u64,
    pub len: u64,
    pub zero: bool,
}

/// Segments in a piece at most.
const MANY: usize = 64;

/// What is left to copy.
pub(super) struct CopyPlan {
    source: Source,
    walk: Walk,
    /// What is left of the extent in hand.
    left: Option<Segment>,
    skip_zeros: bool,
    zeros_as_data: bool,
    rate: Rate,
    /// One for each piece under way.
    places: Arc<Semaphore>,
    /// Pieces made.
    number: u64,
    expected: Expected,
}

#[async_trait]
impl Plan for CopyPlan {
    type Piece = Piece;

    /// As many segments as fit into a buffer: small extents do not each cost a turn.
    async fn next(&mut self) -> Result<Option<Piece>> {
        // Before it gets its number: the piece whose turn it is never waits for a place.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let mut segments = Vec::new();
        let mut room = PIECE;
        while segments.len() < MANY {
            self.advance().await?;
            let Some(left) = &mut self.left else { break };
            let buffered = !left.zero || self.zeros_as_data;
            let len = if buffered { left.len.min(PIECE - left.to % PIECE) } else { left.len };
            let takes = if buffered { room_for(len) } else { 0 };
            if takes > room {
                break;
            }
            room -= takes;
            let segment = Segment { len, ..*left };
            left.from += len;
            left.to += len;
            left.len -= len;
            if !segment.zero {
                self.rate.take(len).await;
            }
            segments.push(segment);
        }
        if segments.is_empty() {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        Ok(Some(Piece { number, segments, place }))
    }
}

impl CopyPlan {
    /// All of a copy.
    pub fn new(conversion: &Conversion, progress: Arc<dyn JobProgress>) -> Self {
        Self {
            walk: conversion.source.walk(),
            source: conversion.source.clone(),
            left: None,
            skip_zeros: conversion.options.target_is_zero && conversion.options.sparse > 0,
            zeros_as_data: conversion.options.sparse == 0 && conversion.options.base.is_none(),
            rate: Rate::new(conversion.options.rate),
            places: Arc::new(Semaphore::new(conversion.threads() + AHEAD)),
            number: 0,
            expected: Expected::new(progress, conversion.source.len()),
        }
    }

    /// Takes the next extent that is not skipped in hand, where none is. None is at the end.
    async fn advance(&mut self) -> Result<()> {
        while self.left.is_none_or(|left| left.len == 0) {
            self.left = None;
            let next = self.walk.next().await;
            let next = next
                .map_err(|error| JobError::new(Side::Source(self.walk.part()), Step::Map, error))?;
            let Some((index, extent)) = next else { return Ok(()) };
            let Some(part) = self.source.part(index) else { return Ok(()) };
            let to = part.start + (extent.start - part.range.start);
            let zero = !extent.is_data();
            if zero && self.skip_zeros {
                self.expected.skip(extent.len);
            } else {
                let (from, len) = (extent.start, extent.len);
                self.left = Some(Segment { part: index, from, to, len, zero });
            }
        }
        Ok(())
    }
}

/// Bytes of a buffer that a segment takes: each begins on a page.
pub(super) fn room_for(len: u64) -> u64 {
    len.next_multiple_of(PageBuffer::ALIGNMENT as u64)
}
