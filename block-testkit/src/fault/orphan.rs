//! Orphans: requests whose future was dropped before they were performed.

use std::ops::Range;
use std::sync::Arc;

use super::FaultStorage;
use crate::exec::poll_times;
use block_core::{Result, Storage, ZeroMode};

/// What happens to a request whose future is dropped before it was performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fate {
    /// It is never performed.
    #[default]
    Never,
    /// It is performed immediately.
    Now,
    /// It is performed just before the next overlapping request, or at [`FaultStorage::land_all`].
    Late,
}

impl Fate {
    /// All fates.
    pub const ALL: [Self; 3] = [Self::Never, Self::Now, Self::Late];
}

/// A request that changes the storage, with all data to perform it later.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Write { offset: u64, data: Vec<u8> },
    Zeroes { offset: u64, len: u64, mode: ZeroMode },
    SetLen(u64),
}

impl Request {
    /// Returns the byte range it touches.
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Self::Write { offset, data } => *offset..offset.saturating_add(data.len() as u64),
            Self::Zeroes { offset, len, .. } => *offset..offset.saturating_add(*len),
            Self::SetLen(len) => *len..u64::MAX,
        }
    }

    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        let own = self.range();
        own.start < range.end && range.start < own.end
    }

    pub(super) async fn perform(&self, storage: &dyn Storage) -> Result<()> {
        match self {
            Self::Write { offset, data } => storage.write_at(*offset, data).await,
            Self::Zeroes { offset, len, mode } => storage.write_zeroes(*offset, *len, *mode).await,
            Self::SetLen(len) => storage.set_len(*len).await,
        }
    }

    /// Returns one half of a torn request. `None` if the first half has no whole sector.
    pub(super) fn half(&self, second: bool) -> Option<Self> {
        let range = self.range();
        let middle = range.start + (range.end - range.start) / 2 / 512 * 512;
        let part = if second { middle..range.end } else { range.start..middle };
        if part.is_empty() || middle == range.start {
            return None;
        }
        match self {
            Self::Write { offset, data } => {
                let bytes = (part.start - offset) as usize..(part.end - offset) as usize;
                Some(Self::Write { offset: part.start, data: data.get(bytes)?.to_vec() })
            }
            Self::Zeroes { mode, .. } => {
                Some(Self::Zeroes { offset: part.start, len: part.end - part.start, mode: *mode })
            }
            Self::SetLen(_) => None,
        }
    }
}

/// A request in flight. If it is dropped before it is disarmed, the caller dropped its future.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    storage: &'a FaultStorage,
    request: Option<Request>,
}

impl<'a> Flight<'a> {
    pub(super) fn new(storage: &'a FaultStorage, request: Request) -> Self {
        Self { storage, request: Some(request) }
    }

    /// Marks the request as performed, or as failed without effect.
    pub(super) fn disarm(&mut self) -> Option<Request> {
        self.request.take()
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else {
            return;
        };
        let mut state = self.storage.state();
        state.dropped += 1;
        let fate = state.fate;
        drop(state);
        match fate {
            Fate::Never => {}
            Fate::Now => {
                let inner = Arc::clone(&self.storage.inner);
                let _ = poll_times(request.perform(&*inner), 1);
            }
            Fate::Late => self.storage.state().orphans.push(request),
        }
    }
}
