//! Prevents writes from changing the detected format of a disk that was opened as raw or by its trailer alone.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::RwLock;

use super::{ProbeInput, ReadPlan};
use crate::forward_storage;
use crate::{Advice, Bytes, Error, ErrorKind, Registry, Result, Storage, ZeroMode};

/// A storage whose format was detected, not declared.
///
/// The guest chooses every byte of a raw disk. If it could write another format's header or trailer, the next program
/// to probe the file would open other files or a different disk. So the guard refuses any write, zeroing or new length
/// after which probing would select another driver. It watches every window that probing reads, not only the first
/// sector.
#[derive(Debug)]
pub(crate) struct GuardedStorage {
    inner: Arc<dyn Storage>,
    registry: Arc<Registry>,
    /// The driver that probing must keep selecting.
    driver: &'static str,
    /// The byte ranges that probing reads. Requests outside them share the lock; requests that touch one hold it
    /// exclusively.
    watched: RwLock<Vec<Range<u64>>>,
}

/// Most ranges that are watched. A single plan reads fewer.
const MOST_RANGES: usize = 1024;

/// The change that a request would make.
#[derive(Clone, Copy, Debug)]
enum Change<'a> {
    Write { offset: u64, bytes: &'a [u8] },
    Zero { offset: u64, len: u64 },
    Length(u64),
}

impl Change<'_> {
    /// Returns the byte range that changes.
    fn range(&self) -> Range<u64> {
        match *self {
            Self::Write { offset, bytes } => {
                let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                offset..offset.saturating_add(len)
            }
            Self::Zero { offset, len } => offset..offset.saturating_add(len),
            Self::Length(len) => len..len,
        }
    }

    fn len_after(&self, len: u64) -> u64 {
        match self {
            Self::Length(after) => *after,
            _ => len.max(self.range().end),
        }
    }

    /// Applies the change to `window`, which was read at `start`.
    fn apply(&self, start: u64, window: &mut [u8]) {
        let range = self.range();
        for (byte, at) in window.iter_mut().zip(start..) {
            if range.contains(&at) {
                *byte = match self {
                    Self::Write { offset, bytes } => at
                        .checked_sub(*offset)
                        .and_then(|at| bytes.get(usize::try_from(at).ok()?))
                        .copied()
                        .unwrap_or(0),
                    _ => 0,
                };
            }
        }
    }
}

impl GuardedStorage {
    /// Guards `inner`. Its probe read the windows of `input` and selected `driver`.
    pub(crate) fn new(
        inner: Arc<dyn Storage>,
        registry: Arc<Registry>,
        driver: &'static str,
        input: &ProbeInput,
    ) -> Self {
        Self { inner, registry, driver, watched: RwLock::new(ranges(input)) }
    }

    /// Whether the change alters anything that probing reads.
    fn touches(watched: &[Range<u64>], change: &Change<'_>, len: u64) -> bool {
        let range = change.range();
        change.len_after(len) != len
            || watched.iter().any(|window| range.start < window.end && window.start < range.end)
    }

    /// Returns the windows that probing would read after the change.
    async fn after(&self, change: &Change<'_>, len: u64) -> Result<ProbeInput> {
        let mut plan = ReadPlan::new(change.len_after(len), Some(self.inner.uri()));
        loop {
            let ask = |input: &ProbeInput, requests: &mut _| {
                self.registry.request_windows(input, requests)
            };
            let round = plan.next_round(ask);
            if round.is_empty() {
                return Ok(plan.finish());
            }
            for request in round {
                let mut window = vec![0; request.len];
                let stored = usize::try_from(len.saturating_sub(request.offset))
                    .unwrap_or(usize::MAX)
                    .min(request.len);
                if let Some(stored) = window.get_mut(..stored).filter(|stored| !stored.is_empty()) {
                    self.inner.read_at(request.offset, stored).await?;
                }
                change.apply(request.offset, &mut window);
                plan.supply(request.offset, window);
            }
        }
    }

    /// Refuses the change if probing would then select another driver. Otherwise also watches the windows that probing
    /// would read after the change.
    async fn admit(
        &self,
        watched: &mut Vec<Range<u64>>,
        change: &Change<'_>,
        len: u64,
    ) -> Result<()> {
        let input = self.after(change, len).await?;
        let report = self.registry.recognise(&input);
        let same = self
            .registry
            .driver_of(&report, self.inner.uri())
            .is_ok_and(|driver| driver.descriptor().name == self.driver);
        if !same && !input.is_empty() {
            let what = report.selected.clone().unwrap_or_else(|| "something ambiguous".to_owned());
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "the disk was detected as {}, and after this it would look like {what}",
                    self.driver
                ),
            )
            .at(change.range().start)
            .in_image(self.inner.uri())
            .with_code("raw-guard")
            .with_hint(Advice::NameFormat(self.driver)));
        }
        // Keep the old ranges: if the change fails half-way, the file may be in either state.
        for range in ranges(&input) {
            if !watched.contains(&range) {
                watched.push(range);
            }
        }
        if watched.len() > MOST_RANGES {
            *watched = ranges(&input);
        }
        Ok(())
    }
}

fn ranges(input: &ProbeInput) -> Vec<Range<u64>> {
    input.windows().into_iter().map(|(start, len)| start..start.saturating_add(len)).collect()
}

/// Performs a request under the guard. Checks `$change` first if it touches what probing reads.
macro_rules! guarded {
    ($self:ident, $change:expr, $request:expr) => {{
        let change = $change;
        let watched = $self.watched.read().await;
        if !Self::touches(&watched, &change, $self.inner.len().await?) {
            return $request.await;
        }
        drop(watched);
        let mut watched = $self.watched.write().await;
        let len = $self.inner.len().await?;
        $self.admit(&mut watched, &change, len).await?;
        $request.await
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for GuardedStorage {
    forward_storage!(inner: uri caps limits len allocated_bytes id extents);
    forward_storage!(inner: read_at read_bytes try_read_at allocate flush begin_flush);

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        guarded!(self, Change::Write { offset, bytes: buf }, self.inner.write_at(offset, buf))
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let change = Change::Write { offset, bytes: &bytes };
        guarded!(self, change, self.inner.write_bytes(offset, bytes.clone()))
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        guarded!(self, Change::Zero { offset, len }, self.inner.write_zeroes(offset, len, mode))
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        guarded!(self, Change::Length(len), self.inner.set_len(len))
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let watched = self.watched.read().await;
        // The guard does not see the bytes that the layer below copies, so it may copy only outside the watched ranges.
        if Self::touches(&watched, &Change::Zero { offset, len }, self.inner.len().await?) {
            return Ok(false);
        }
        self.inner.copy_from(offset, source, source_offset, len).await
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
}
