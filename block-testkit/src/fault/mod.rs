//! A storage that fails, delays and reorders requests by rule.

mod orphan;
mod rule;

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::crash::CrashStorage;
use super::exec::give_way;
use block_core::{Bytes, Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent, ZeroMode};
use block_core::{forward_storage, read_a_copy};
pub use orphan::Fate;
use orphan::{Flight, Request};
pub use rule::{Fault, Half, OpKind, Rule};

/// A storage over another storage, with rules that strike requests.
///
/// A request whose future is dropped before it **lands** (is performed below) meets its [`Fate`]. Late requests land
/// before any later overlapping one, as the trait promises.
#[derive(Debug)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    counts: HashMap<OpKind, u64>,
    injected: u64,
    dropped: u64,
    yields: u32,
    fate: Fate,
    orphans: Vec<Request>,
    /// The error of a flush that lost data.
    lost: Option<ErrorKind>,
}

impl FaultStorage {
    /// Creates a storage over `inner`, without rules.
    pub fn new(inner: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { inner, state: Mutex::default() })
    }

    /// Adds a rule. If several rules strike a request, the first one applies.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.state().rules.clear();
    }

    /// Makes every request yield `times` times before it lands, and again afterwards.
    pub fn give_way(&self, times: u32) {
        self.state().yields = times;
    }

    /// Sets the fate of requests dropped from now on.
    pub fn set_fate(&self, fate: Fate) {
        self.state().fate = fate;
    }

    /// Performs every late request.
    ///
    /// # Errors
    /// Returns the error of the storage below.
    pub async fn land_all(&self) -> Result<()> {
        let orphans = std::mem::take(&mut self.state().orphans);
        for orphan in orphans {
            orphan.perform(&*self.inner).await?;
        }
        Ok(())
    }

    /// Returns the number of requests of these kinds.
    pub fn count(&self, kinds: &[OpKind]) -> u64 {
        let state = self.state();
        kinds.iter().map(|kind| state.counts.get(kind).copied().unwrap_or(0)).sum()
    }

    /// Returns the number of faults injected.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// Returns the number of requests dropped before they landed.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and applies the rules. Returns the fault and the number of yields.
    fn strike(&self, op: OpKind, touched: &Range<u64>) -> (Option<Fault>, u32) {
        let mut state = self.state();
        *state.counts.entry(op).or_default() += 1;
        let fault = state.rules.iter_mut().find_map(|rule| rule.strike(op, touched));
        state.injected += u64::from(fault.is_some());
        (fault, state.yields)
    }

    /// Performs the late requests that overlap `range`.
    async fn land(&self, range: &Range<u64>) -> Result<()> {
        loop {
            let next = {
                let mut state = self.state();
                let index = state.orphans.iter().position(|orphan| orphan.overlaps(range));
                index.map(|index| state.orphans.remove(index))
            };
            match next {
                Some(orphan) => orphan.perform(&*self.inner).await?,
                None => return Ok(()),
            }
        }
    }

    fn error(&self, kind: ErrorKind, op: OpKind, range: &Range<u64>) -> Error {
        Error::new(kind, format!("injected: {op:?} fails")).at(range.start).in_image(self.uri())
    }

    /// Applies delays. Returns an error if the request fails without any effect.
    async fn before(&self, op: OpKind, fault: Option<Fault>, range: &Range<u64>) -> Result<()> {
        match fault {
            Some(Fault::Delay(times)) => give_way(times).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Fail(kind) | Fault::Forgotten(kind)) => {
                return Err(self.error(kind, op, range));
            }
            _ => {}
        }
        Ok(())
    }

    async fn change(&self, op: OpKind, request: Request) -> Result<()> {
        let range = request.range();
        let (fault, yields) = self.strike(op, &range);
        self.land(&range).await?;
        let mut flight = Flight::new(self, request);
        give_way(yields).await;
        if let Err(error) = self.before(op, fault, &range).await {
            flight.disarm();
            give_way(yields).await;
            return Err(error);
        }
        let Some(request) = flight.disarm() else {
            return Ok(());
        };
        match fault {
            Some(Fault::Torn(half, kind)) => {
                if let Some(half) = request.half(half == Half::Second) {
                    half.perform(&*self.inner).await?;
                }
                give_way(yields).await;
                Err(self.error(kind, op, &range))
            }
            Some(Fault::Landed(kind)) => {
                request.perform(&*self.inner).await?;
                give_way(yields).await;
                Err(self.error(kind, op, &range))
            }
            Some(Fault::Lost) => Ok(()),
            _ => {
                request.perform(&*self.inner).await?;
                give_way(yields).await;
                Ok(())
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for FaultStorage {
    forward_storage!(inner: uri caps limits begin_flush allocated_bytes id);

    async fn len(&self) -> Result<u64> {
        // A dropped change of length takes effect before the length is queried.
        let len = self.inner.len().await?;
        self.land(&(len.saturating_sub(1)..u64::MAX)).await?;
        self.inner.len().await
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        let (fault, yields) = self.strike(OpKind::Read, &range);
        self.land(&range).await?;
        give_way(yields).await;
        self.before(OpKind::Read, fault, &range).await?;
        match fault {
            Some(Fault::Torn(_, kind) | Fault::Landed(kind)) => {
                Err(self.error(kind, OpKind::Read, &range))
            }
            _ => self.inner.read_at(offset, buf).await,
        }
    }

    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        read_a_copy(self, offset, len).await
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let mut state = self.state();
        let quiet = state.yields == 0
            && state.orphans.is_empty()
            && !state.rules.iter().any(|rule| rule.ops.contains(&OpKind::Read));
        if !quiet {
            return None;
        }
        *state.counts.entry(OpKind::Read).or_default() += 1;
        drop(state);
        self.inner.try_read_at(offset, buf)
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.change(OpKind::Write, Request::Write { offset, data: buf.to_vec() }).await
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, &bytes).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        self.change(OpKind::Zeroes, Request::Zeroes { offset, len, mode }).await
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let range = offset..offset.saturating_add(len);
        let (fault, yields) = self.strike(OpKind::Allocate, &range);
        give_way(yields).await;
        self.before(OpKind::Allocate, fault, &range).await?;
        match fault {
            Some(Fault::Torn(_, kind) | Fault::Landed(kind)) => {
                self.inner.allocate(offset, len).await?;
                Err(self.error(kind, OpKind::Allocate, &range))
            }
            _ => self.inner.allocate(offset, len).await,
        }
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.change(OpKind::SetLen, Request::SetLen(len)).await
    }

    async fn flush(&self) -> Result<()> {
        let all = 0..u64::MAX;
        let (fault, yields) = self.strike(OpKind::Flush, &all);
        give_way(yields).await;
        if let Some(Fault::Forgotten(kind)) = fault {
            self.state().lost.get_or_insert(kind);
            if let Some(disk) = self.inner.as_any().downcast_ref::<CrashStorage>() {
                disk.fail_flush();
            }
        }
        let lost = self.state().lost;
        if let Some(kind) = lost {
            return Err(self.error(kind, OpKind::Flush, &all));
        }
        self.before(OpKind::Flush, fault, &all).await?;
        match fault {
            Some(Fault::Lost) => return Ok(()),
            Some(Fault::Torn(_, kind)) => return Err(self.error(kind, OpKind::Flush, &all)),
            _ => self.inner.flush().await?,
        }
        give_way(yields).await;
        match fault {
            Some(Fault::Landed(kind)) => Err(self.error(kind, OpKind::Flush, &all)),
            _ => Ok(()),
        }
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        self.land(&range).await?;
        self.inner.extents(range, out).await
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        if !self.inner.caps().contains(StorageCaps::COPY) {
            return Ok(false);
        }
        // A power cut, a fault or a dropped future affects a copy like a write.
        let mut data = vec![0; len as usize];
        source.read_at(source_offset, &mut data).await?;
        self.change(OpKind::Copy, Request::Write { offset, data }).await?;
        Ok(true)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{block_on, poll_times};
    use block_core::{Image, MemStorage};

    fn over(bytes: &[u8]) -> (Arc<MemStorage>, Arc<FaultStorage>) {
        let below = MemStorage::of("sim:x", Image::of(bytes));
        (Arc::clone(&below), FaultStorage::new(below))
    }

    #[test]
    fn the_nth_write_fails_once_and_counts() {
        let (below, storage) = over(&[0; 4096]);
        storage.add(Rule::once(&[OpKind::Write], Fault::Fail(ErrorKind::NoSpace)).after(1));
        block_on(storage.write_at(0, &[1; 512])).unwrap();
        let error = block_on(storage.write_at(512, &[2; 512])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        block_on(storage.write_at(1024, &[3; 512])).unwrap();
        let bytes = below.snapshot().to_bytes();
        assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 0, 3));
        assert_eq!((storage.count(OpKind::ALL), storage.injected()), (3, 1));
    }

    #[test]
    fn torn_and_landed_failures_change_what_they_say() {
        let (below, storage) = over(&[0; 4096]);
        storage.add(Rule::once(&[OpKind::Write], Fault::Torn(Half::Second, ErrorKind::Io)));
        storage.add(Rule::once(&[OpKind::Write], Fault::Landed(ErrorKind::Io)));
        assert!(block_on(storage.write_at(0, &[1; 1024])).is_err());
        assert!(block_on(storage.write_at(2048, &[2; 1024])).is_err());
        let bytes = below.snapshot().to_bytes();
        assert_eq!((bytes[0], bytes[512], bytes[2048], bytes[3071]), (0, 1, 2, 2));
    }

    #[test]
    fn a_dropped_write_meets_its_fate_and_a_late_one_lands_before_an_overlapping_request() {
        for (fate, before, after) in [(Fate::Never, 0, 0), (Fate::Now, 5, 5), (Fate::Late, 0, 5)] {
            let (below, storage) = over(&[0; 4096]);
            storage.give_way(1);
            storage.set_fate(fate);
            assert!(poll_times(storage.write_at(0, &[5; 1024]), 1).is_none());
            assert_eq!(below.snapshot().to_bytes()[0], before, "{fate:?}");
            block_on(storage.write_at(512, &[6; 512])).unwrap();
            let bytes = below.snapshot().to_bytes();
            assert_eq!((bytes[0], bytes[512], storage.dropped()), (after, 6, 1), "{fate:?}");
        }
    }
}
