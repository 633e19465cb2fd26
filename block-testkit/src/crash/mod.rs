//! Power cuts: storages that record every write with its time, and the states that a cut may leave.

mod replay;
mod states;

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use block_core::read_a_copy;
use block_core::{
    Bytes, Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits, ZeroMode,
};
use block_core::{Image, MemStorage};
pub use replay::Replay;
pub use states::{CrashState, Enumeration, Level};

/// Several disks that lose power together, with a clock that orders their requests.
#[derive(Debug, Default)]
pub struct World {
    inner: Mutex<WorldState>,
}

#[derive(Debug, Default)]
struct WorldState {
    clock: u64,
    disks: Vec<Disk>,
}

#[derive(Debug, Clone)]
struct Disk {
    uri: String,
    initial: Image,
    events: Vec<Event>,
}

/// A request as the disk received it.
#[derive(Debug, Clone)]
struct Event {
    issued: u64,
    /// `None` until it is acknowledged.
    done: Option<u64>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Write {
        offset: u64,
        data: Arc<[u8]>,
    },
    Zero(Range<u64>),
    SetLen(u64),
    Flush,
    /// A failed flush: data it should have saved counts as clean from then on, saved or not.
    FailedFlush,
}

impl What {
    fn is_flush(&self) -> bool {
        matches!(self, Self::Flush | Self::FailedFlush)
    }
}

impl World {
    /// Creates a world without disks, at time 0.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a disk that durably holds `image`.
    pub fn disk(self: &Arc<Self>, uri: &str, image: Image) -> Arc<CrashStorage> {
        self.disk_over(uri, image, None)
    }

    /// Like [`disk`](Self::disk), over the storage `below`, which must hold the same bytes as `image`. `below` serves
    /// every request, and changes are recorded.
    pub fn disk_over(
        self: &Arc<Self>,
        uri: &str,
        image: Image,
        below: Option<Arc<dyn Storage>>,
    ) -> Arc<CrashStorage> {
        let mut inner = self.inner();
        let index = inner.disks.len();
        inner.disks.push(Disk { uri: uri.into(), initial: image.clone(), events: Vec::new() });
        Arc::new(CrashStorage {
            world: Arc::clone(self),
            index,
            live: MemStorage::of(uri, image),
            below,
        })
    }

    /// Advances the clock and returns the time: later than every earlier request and before every later one.
    pub fn tick(&self) -> u64 {
        let mut inner = self.inner();
        inner.clock += 1;
        inner.clock
    }

    /// Returns the number of requests that changed one of the first `disks` disks.
    pub fn written(&self, disks: usize) -> usize {
        let inner = self.inner();
        let events = inner.disks.iter().take(disks).flat_map(|disk| &disk.events);
        events.filter(|event| !event.what.is_flush()).count()
    }

    /// Returns the history so far, to be replayed with a power cut at any moment.
    pub fn replay(&self) -> Replay {
        Replay::new(self.inner().disks.clone())
    }

    fn inner(&self) -> MutexGuard<'_, WorldState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, disk: usize, what: What) -> usize {
        let mut inner = self.inner();
        inner.clock += 1;
        let issued = inner.clock;
        let events = &mut inner.disks[disk].events;
        events.push(Event { issued, done: None, what });
        events.len() - 1
    }

    fn done(&self, disk: usize, event: usize) {
        let mut inner = self.inner();
        inner.clock += 1;
        let now = inner.clock;
        inner.disks[disk].events[event].done = Some(now);
    }
}

/// A disk of a [`World`]. Requests never fail or wait, and all changes are recorded.
///
/// Put a [`FaultStorage`](super::FaultStorage) over it to inject faults as well.
#[derive(Debug)]
pub struct CrashStorage {
    world: Arc<World>,
    index: usize,
    live: Arc<MemStorage>,
    /// Serves the requests if present. `live` then only mirrors the bytes.
    below: Option<Arc<dyn Storage>>,
}

impl CrashStorage {
    /// Returns its bytes as if everything written were durable.
    pub fn snapshot(&self) -> Image {
        self.live.snapshot()
    }

    /// Records a failed flush, as when a real disk refuses a write. Some data written since the last good flush is
    /// saved. The rest never will be, not even by a later flush, but reads still show all of it.
    pub fn fail_flush(&self) {
        let event = self.world.issue(self.index, What::FailedFlush);
        self.world.done(self.index, event);
    }

    /// Mirrors a change in `live` if a storage below served it.
    fn remember(&self, change: impl FnOnce(&mut Image)) {
        if self.below.is_some() {
            self.live.change(change);
        }
    }

    fn server(&self) -> &dyn Storage {
        self.below.as_deref().unwrap_or(&*self.live)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for CrashStorage {
    fn uri(&self) -> &str {
        self.live.uri()
    }

    fn caps(&self) -> StorageCaps {
        self.server().caps() | StorageCaps::COPY
    }

    fn limits(&self) -> StorageLimits {
        self.server().limits()
    }

    async fn len(&self) -> Result<u64> {
        self.server().len().await
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.server().read_at(offset, buf).await
    }

    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        read_a_copy(self, offset, len).await
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        self.server().try_read_at(offset, buf)
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let event = self.world.issue(self.index, What::Write { offset, data: buf.into() });
        self.server().write_at(offset, buf).await?;
        self.remember(|image| image.write(offset, buf));
        self.world.done(self.index, event);
        Ok(())
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, &bytes).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        let range = offset..offset.saturating_add(len);
        let event = self.world.issue(self.index, What::Zero(range.clone()));
        self.server().write_zeroes(offset, len, mode).await?;
        self.remember(|image| image.zero(range));
        self.world.done(self.index, event);
        Ok(())
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.server().allocate(offset, len).await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        let event = self.world.issue(self.index, What::SetLen(len));
        self.server().set_len(len).await?;
        self.remember(|image| image.set_len(len));
        self.world.done(self.index, event);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        let event = self.world.issue(self.index, What::Flush);
        if let Some(below) = &self.below {
            below.flush().await?;
        }
        self.world.done(self.index, event);
        Ok(())
    }

    fn begin_flush(&self) {}

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        self.server().extents(range, out).await
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        self.server().allocated_bytes().await
    }

    /// A power cut treats the copy as a write of the source's data: any part of it may be present.
    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let mut bytes = vec![0; len as usize];
        source.read_at(source_offset, &mut bytes).await?;
        self.write_at(offset, &bytes).await?;
        Ok(true)
    }

    fn id(&self) -> Option<StorageId> {
        self.live.id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
