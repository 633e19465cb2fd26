//! A table of little-endian `u32` entries in a storage, read in pages and cached in bounded memory.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::RwLock as AsyncRwLock;
use zerocopy::IntoBytes;

use crate::range_lock::RangeLock;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{PoisonError, RwLock};
use crate::{Error, ErrorKind, Result, Storage, bug};

/// A table of `u32` entries at any offset of a storage.
///
/// Pages are loaded on demand and cached. When memory is short, a page that was not wanted recently is
/// evicted. Nothing is loaded in advance, so a table of 16 GiB costs no more than one of 16 KiB. Scans use
/// windows of their own and leave the cached pages alone. If all pages fit in memory, lookups take no lock.
///
/// Memory always matches the storage: [`write`](Self::write) updates it only after the storage has accepted
/// the entries.
pub struct PagedTable {
    storage: Arc<dyn Storage>,
    offset: u64,
    entries: u64,
    pages: Pages,
    windows: RwLock<Windows>,
    /// Locks pages while they are loaded. Other tasks that want the page wait, then find it in memory.
    loads: Arc<RangeLock>,
    /// Loads share this lock and a write owns it, so that no load caches entries being replaced.
    io: AsyncRwLock<()>,
}

/// Entries in a page: 16 KiB.
const PAGE: usize = 4096;
/// Pages per set, searched linearly.
const WAYS: usize = 8;
/// Entries in a window of a scan: 512 KiB.
const WINDOW: usize = 1 << 17;
/// Number of scans that can run concurrently without evicting each other's windows.
const WINDOWS: usize = 4;
/// Entries per sector.
const SECTOR_ENTRIES: u64 = 128;

/// Pages in memory.
enum Pages {
    /// All pages fit, indexed by page number.
    All(Box<[OnceLock<Values>]>),
    /// Some pages fit, each in the set of its number.
    Some(Box<[RwLock<Set>]>),
}

/// The entries of a page.
type Values = Box<[AtomicU32]>;

#[derive(Default)]
struct Set {
    pages: Vec<Page>,
    hand: usize,
}

struct Page {
    number: u64,
    wanted: AtomicBool,
    values: Values,
}

#[derive(Default)]
struct Windows {
    windows: Vec<Window>,
}

struct Window {
    first: u64,
    values: Vec<u32>,
}

impl PagedTable {
    /// 16 MiB, the default size of the page cache of a table.
    pub const DEFAULT_CACHE: u64 = 16 << 20;

    /// Maximum number of entries that [`peek`](Self::peek) shows from a page.
    const GLANCE: usize = 256;

    /// Number of entries that a scan reads. To read fewer, use [`load`](Self::load).
    pub const SCAN: u64 = WINDOW as u64;

    /// Creates a table of `entries` entries at byte `offset`, which caches at most `cache` bytes of pages but
    /// at least one set of eight. The caller has checked that the table lies inside the storage.
    pub fn new(storage: Arc<dyn Storage>, offset: u64, entries: u64, cache: u64) -> Self {
        let page_bytes = PAGE as u64 * 4;
        let wanted = entries.div_ceil(PAGE as u64);
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let room = cache / page_bytes;
        let pages = match wanted <= room.max(WAYS as u64) {
            true => Pages::All(std::iter::repeat_with(OnceLock::new).take(count(wanted)).collect()),
            false => {
                let sets = count(room.div_ceil(WAYS as u64)).max(1);
                Pages::Some(std::iter::repeat_with(RwLock::default).take(sets).collect())
            }
        };
        Self {
            storage,
            offset,
            entries,
            pages,
            windows: RwLock::default(),
            loads: RangeLock::new(),
            io: AsyncRwLock::new(()),
        }
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the offset of entry `index` in the storage, in bytes. For messages: an index far past the end
    /// of the table may return `u64::MAX`.
    pub fn place(&self, index: u64) -> u64 {
        self.checked_place(index).unwrap_or(u64::MAX)
    }

    fn checked_place(&self, index: u64) -> Option<u64> {
        self.offset.checked_add(index.checked_mul(4)?)
    }

    /// Returns the offset of entry `index` in the storage, for reading and writing.
    fn stored_at(&self, index: u64) -> Result<u64> {
        self.checked_place(index)
            .ok_or_else(|| bug("a table lies past the largest offset of a file"))
    }

    /// Returns the entry if its page is in memory.
    #[inline]
    pub fn get(&self, index: u64) -> Option<u32> {
        self.page(index, |rest| Some(read(rest.first()?))).flatten()
    }

    /// Returns the entry. If necessary, reads its page from the storage and caches it.
    ///
    /// # Errors
    /// `OutOfRange` for an index past the end of the table, and any error of reading.
    pub async fn load(&self, index: u64) -> Result<u32> {
        if let Some(value) = self.get(index) {
            return Ok(value);
        }
        self.in_range(index, 1)?;
        let number = index / PAGE as u64;
        let page = number..number + 1;
        let _turn = match self.loads.try_lock_exclusive(page.clone()) {
            Some(turn) => turn,
            None => {
                // Another task loads the page. All waiting tasks proceed together; if the load failed, they
                // try one by one.
                drop(self.loads.lock_shared(page.clone()).await);
                if let Some(value) = self.get(index) {
                    return Ok(value);
                }
                self.loads.lock_exclusive(page).await
            }
        };
        if let Some(value) = self.get(index) {
            return Ok(value);
        }
        let first = number * PAGE as u64;
        let len = at_most(self.entries - first, PAGE);
        let _reading = self.io.read().await;
        let mut values = vec![0; len];
        self.fetch(first, &mut values).await?;
        let value = values.get(within(index)).copied();
        self.keep(number, values.into_iter().map(AtomicU32::new).collect())?;
        value.ok_or_else(|| bug("an entry is not in its page"))
    }

    /// Calls `f` with at least one of the entries from `index` on, if they are contiguous in memory.
    /// Otherwise returns `None`; [`load`](Self::load) or [`scan`](Self::scan) then brings them in.
    pub fn peek<R>(&self, index: u64, f: impl FnOnce(&[u32]) -> R) -> Option<R> {
        if index >= self.entries {
            return None;
        }
        let mut f = Some(f);
        let mut call = |rest: &[u32]| match rest.is_empty() {
            true => None,
            false => f.take().map(|f| f(rest)),
        };
        // Windows first: a scan wants a long stretch.
        {
            let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
            for window in &windows.windows {
                let at = index.checked_sub(window.first).and_then(|at| usize::try_from(at).ok());
                let rest = at.and_then(|at| window.values.get(at..));
                if let Some(answer) = rest.and_then(&mut call) {
                    return Some(answer);
                }
            }
        }
        let mut copy = [0; Self::GLANCE];
        let len = self.page(index, |rest| copy_entries(rest, &mut copy))?;
        call(copy.get(..len)?)
    }

    /// Reads the [`SCAN`](Self::SCAN) entries from `index` on into a window. [`peek`](Self::peek) sees them
    /// there until a few more scans have passed. The cached pages do not change.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn scan(&self, index: u64) -> Result<()> {
        self.in_range(index, 1)?;
        let _reading = self.io.read().await;
        let reusable = {
            let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
            match windows.windows.len() < WINDOWS {
                true => Vec::new(),
                false => windows.take(),
            }
        };
        let mut values = reusable;
        self.read(index, &mut values).await?;
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        windows.windows.push(Window { first: index, values });
        if windows.windows.len() > WINDOWS {
            windows.take();
        }
        Ok(())
    }

    /// Reads up to [`SCAN`](Self::SCAN) entries from `index` on into `values`, directly from the storage and
    /// bypassing the cache.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn read(&self, index: u64, values: &mut Vec<u32>) -> Result<()> {
        self.in_range(index, 1)?;
        values.resize(at_most(self.entries - index, WINDOW), 0);
        self.fetch(index, values).await
    }

    /// Writes entries. Neighbours are written together, in whole sectors if the table is sector-aligned. If
    /// an index occurs more than once, its last value counts. Nothing is durable before the storage's next
    /// flush. After a failure, any of the entries may have been written.
    ///
    /// # Errors
    /// `OutOfRange` for an index past the end of the table, and any error of writing.
    pub async fn write(&self, changes: &[(u64, u32)]) -> Result<()> {
        let mut sorted = changes.to_vec();
        // A stable sort keeps the last of equal indexes last, and its value is the one written.
        sorted.sort_by_key(|(index, _)| *index);
        if let Some((last, _)) = sorted.last() {
            self.in_range(*last, 1)?;
        }
        let _writing = self.io.write().await;
        let mut rest = sorted.as_slice();
        while let Some((start, _)) = rest.first() {
            let (group, others) = rest
                .split_at_checked(group_len(rest))
                .ok_or_else(|| bug("more entries are to be written together than there are"))?;
            self.write_group(*start, group).await?;
            rest = others;
        }
        sorted.into_iter().try_for_each(|(index, value)| self.remember(index, value))
    }

    /// Writes changes that are close together, and the entries between them, in one request.
    async fn write_group(&self, start: u64, group: &[(u64, u32)]) -> Result<()> {
        let end = group.last().map_or(start, |(last, _)| last + 1);
        let (first, stop) = match self.offset.is_multiple_of(512) {
            true => (
                start - start % SECTOR_ENTRIES,
                end.next_multiple_of(SECTOR_ENTRIES).min(self.entries),
            ),
            false => (start, end),
        };
        // The changes of a group are less than a window apart, and rounding to whole sectors adds less than
        // two sectors.
        let mut values = vec![0; at_most(stop - first, 2 * WINDOW)];
        if !self.fill_from_memory(first, &mut values) {
            self.fetch(first, &mut values).await?;
        }
        for (index, value) in group {
            let at = usize::try_from(index - first).ok();
            let place = at.and_then(|at| values.get_mut(at));
            *place.ok_or_else(|| bug("a changed entry is not among those written"))? = *value;
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.storage.write_at(self.stored_at(first)?, &bytes).await
    }

    /// Fills `values` from cached pages. Returns `false` if not all of them are cached.
    fn fill_from_memory(&self, first: u64, values: &mut [u32]) -> bool {
        let mut filled = 0;
        while let Some(rest) = values.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let copied = self.page(first + filled as u64, |known| copy_entries(known, rest));
            let Some(n) = copied.filter(|n| *n > 0) else { return false };
            filled += n;
        }
        filled == values.len()
    }

    async fn fetch(&self, first: u64, values: &mut [u32]) -> Result<()> {
        // Reads directly into the result: a scan of a large map is bound by memory bandwidth.
        self.storage.read_at(self.stored_at(first)?, values.as_mut_bytes()).await?;
        for value in values.iter_mut() {
            *value = u32::from_le(*value);
        }
        Ok(())
    }

    /// Calls `f` with the entries of the page from `index` on, if the page is in memory.
    #[inline(always)]
    fn page<R>(&self, index: u64, f: impl FnOnce(&[AtomicU32]) -> R) -> Option<R> {
        let number = index / PAGE as u64;
        match &self.pages {
            Pages::All(pages) => {
                let values = pages.get(usize::try_from(number).ok()?)?.get()?;
                Some(f(values.get(within(index)..)?))
            }
            Pages::Some(sets) => {
                let set = set_of(sets, number)?.read().unwrap_or_else(PoisonError::into_inner);
                let page = set.pages.iter().find(|page| page.number == number)?;
                if !page.wanted.load(Ordering::Relaxed) {
                    page.wanted.store(true, Ordering::Relaxed);
                }
                Some(f(page.values.get(within(index)..)?))
            }
        }
    }

    /// Caches a page, visible to later lookups.
    fn keep(&self, number: u64, values: Values) -> Result<()> {
        let kept = match &self.pages {
            Pages::All(pages) => {
                let place = usize::try_from(number).ok().and_then(|number| pages.get(number));
                // The page is absent: the caller holds its load lock.
                place.is_some_and(|place| place.set(values).is_ok())
            }
            Pages::Some(sets) => set_of(sets, number).is_some_and(|set| {
                let page = Page { number, wanted: AtomicBool::new(true), values };
                set.write().unwrap_or_else(PoisonError::into_inner).keep(page)
            }),
        };
        match kept {
            true => Ok(()),
            false => Err(bug("a page of a table found no place in memory")),
        }
    }

    /// Updates an entry in the cached page and in the windows, after the storage has accepted it.
    fn remember(&self, index: u64, value: u32) -> Result<()> {
        let stored = self.page(index, |rest| {
            let place = rest.first();
            // Release: a reader that sees the entry also sees earlier writes.
            place.map(|place| place.store(value, Ordering::Release)).is_some()
        });
        if stored == Some(false) {
            return Err(bug("an entry is not in its page"));
        }
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        for window in &mut windows.windows {
            let at = index.checked_sub(window.first).and_then(|at| usize::try_from(at).ok());
            if let Some(place) = at.and_then(|at| window.values.get_mut(at)) {
                *place = value;
            }
        }
        Ok(())
    }

    fn in_range(&self, index: u64, count: u64) -> Result<()> {
        match index.checked_add(count) {
            Some(end) if end <= self.entries => Ok(()),
            _ => Err(self.behind(index)),
        }
    }

    fn behind(&self, index: u64) -> Error {
        let entries = self.entries;
        Error::new(
            ErrorKind::OutOfRange,
            format!("entry {index} lies behind a table of {entries} entries"),
        )
    }
}

impl fmt::Debug for PagedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedTable")
            .field("offset", &self.offset)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl Set {
    /// Inserts a page. Replaces its older copy, or evicts by the clock algorithm. Returns whether it found a
    /// place.
    fn keep(&mut self, page: Page) -> bool {
        if let Some(place) = self.pages.iter_mut().find(|old| old.number == page.number) {
            *place = page;
            return true;
        }
        if self.pages.len() < WAYS {
            self.pages.push(page);
            return true;
        }
        // Two rounds always find one: the first round clears every mark.
        for _ in 0..WAYS * 2 {
            self.hand = (self.hand + 1) % WAYS;
            if let Some(old) = self.pages.get_mut(self.hand)
                && !old.wanted.swap(false, Ordering::Relaxed)
            {
                *old = page;
                return true;
            }
        }
        false
    }
}

impl Windows {
    /// Removes the oldest window and returns its memory.
    fn take(&mut self) -> Vec<u32> {
        match self.windows.is_empty() {
            true => Vec::new(),
            false => self.windows.remove(0).values,
        }
    }
}

fn set_of(sets: &[RwLock<Set>], number: u64) -> Option<&RwLock<Set>> {
    sets.get(usize::try_from(number).ok()?.checked_rem(sets.len())?)
}

#[inline]
fn read(entry: &AtomicU32) -> u32 {
    entry.load(Ordering::Acquire)
}

/// Copies as many entries as there are and as fit. Returns their number.
fn copy_entries(entries: &[AtomicU32], to: &mut [u32]) -> usize {
    to.iter_mut().zip(entries).for_each(|(to, entry)| *to = read(entry));
    to.len().min(entries.len())
}

#[inline]
fn within(index: u64) -> usize {
    at_most(index % PAGE as u64, PAGE)
}

/// Returns the smaller of `number` and `limit`.
#[inline]
fn at_most(number: u64, limit: usize) -> usize {
    usize::try_from(number).unwrap_or(limit).min(limit)
}

/// Returns how many of the sorted changes go into one request: no gap longer than a sector, and at most a
/// window in total.
fn group_len(changes: &[(u64, u32)]) -> usize {
    let Some((start, _)) = changes.first() else { return 0 };
    let joined = changes.windows(2).take_while(|pair| match pair {
        [(before, _), (after, _)] => {
            after - before <= SECTOR_ENTRIES && after - start < WINDOW as u64
        }
        _ => false,
    });
    joined.count() + 1
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::filter::{FaultHook, FilteredStorage, Hook, Request, StatsStorage, fault};
    use crate::join::join_all;
    use crate::{BoxFuture, MemStorage, Options};

    /// A table at `offset` whose entry `i` is `7 * i`, inside filler bytes.
    fn storage(offset: u64, entries: u32) -> Arc<MemStorage> {
        let mut bytes = vec![0xEE; offset as usize];
        bytes.extend((0..entries).flat_map(|i| (7 * i).to_le_bytes()));
        bytes.extend([0xEE; 700]);
        MemStorage::from_bytes(&bytes)
    }

    #[tokio::test]
    async fn entries_are_in_memory_once_loaded_and_not_before() {
        let table = PagedTable::new(storage(420, 10_000), 420, 10_000, 1 << 20);
        assert_eq!(table.get(9_999), None);
        assert_eq!(table.load(9_999).await.unwrap(), 69_993);
        assert_eq!(table.get(9_998), Some(69_986));
        assert_eq!(table.get(0), None);
        assert_eq!(table.load(10_000).await.unwrap_err().kind(), ErrorKind::OutOfRange);
    }

    #[tokio::test]
    async fn many_who_want_a_page_read_it_once() {
        let below = StatsStorage::new(storage(512, 10_000));
        let table = PagedTable::new(below.clone(), 512, 10_000, 1 << 20);
        let values: Result<Vec<u32>> = load_together(&table, 5).await.into_iter().collect();
        assert_eq!(values.unwrap(), [0, 7, 14, 21, 28]);
        assert_eq!(below.stats().reads, 1);
    }

    #[tokio::test]
    async fn who_waits_for_a_page_that_does_not_come_reads_it() {
        let options = Options::of(&[], fault::OPTIONS).unwrap();
        let below = FilteredStorage::with(storage(512, 10_000), FaultHook::new(&options).unwrap());
        let below = StatsStorage::new(below);
        let table = PagedTable::new(below.clone(), 512, 10_000, 1 << 20);
        let values = load_together(&table, 5).await;
        assert!(values[0].is_err());
        assert_eq!(values[1..].iter().flatten().collect::<Vec<_>>(), [&7, &14, &21, &28]);
        assert_eq!(below.stats().reads, 2);
    }

    /// Loads the first `count` entries concurrently. All loads start before one of them reads.
    async fn load_together(table: &PagedTable, count: u64) -> Vec<Result<u32>> {
        let held = table.io.write().await;
        let mut all: Vec<BoxFuture<'_, Option<Result<u32>>>> = Vec::new();
        for index in 0..count {
            all.push(Box::pin(async move { Some(table.load(index).await) }));
        }
        all.push(Box::pin(async move {
            drop(held);
            None
        }));
        join_all(all).await.into_iter().flatten().collect()
    }

    #[tokio::test]
    async fn a_small_memory_holds_few_pages_and_still_answers_everything() {
        let entries = 200_000u32;
        let table = PagedTable::new(storage(512, entries), 512, u64::from(entries), 0);
        for round in 0..3u64 {
            for i in (0..u64::from(entries)).step_by(997) {
                let index = (i * 31 + round) % u64::from(entries);
                assert_eq!(u64::from(table.load(index).await.unwrap()), 7 * index);
            }
        }
        let Pages::Some(sets) = &table.pages else { panic!("it keeps every page") };
        let pages: usize = sets.iter().map(|set| set.read().unwrap().pages.len()).sum();
        assert_eq!((sets.len(), pages), (1, WAYS));
    }

    #[tokio::test]
    async fn a_scan_sees_everything_and_keeps_no_page() {
        let entries = 300_000u32;
        let table = PagedTable::new(storage(512, entries), 512, u64::from(entries), 1 << 20);
        let (mut at, mut rounds) = (0u64, 0);
        while at < u64::from(entries) {
            let seen = table.peek(at, |rest| {
                rest.iter().zip(at..).for_each(|(v, i)| assert_eq!(u64::from(*v), 7 * i));
                rest.len() as u64
            });
            match seen {
                Some(n) => at += n,
                None => table.scan(at).await.unwrap(),
            }
            rounds += 1;
        }
        assert_eq!(rounds, 6, "three windows, each asked for and then seen");
        assert_eq!(table.get(0), None);
    }

    #[tokio::test]
    async fn writes_reach_the_storage_and_all_memory_and_no_neighbour() {
        for offset in [420u64, 512, 1024] {
            let storage = storage(offset, 9_000);
            let before = storage.to_bytes().unwrap();
            let table = PagedTable::new(storage.clone(), offset, 9_000, 1 << 20);
            table.load(10).await.unwrap();
            table.scan(8_000).await.unwrap();
            let changes = [(8_999, 5), (10, 1), (11, 2), (10, 3), (4_095, 9), (4_096, 8)];
            table.write(&changes).await.unwrap();
            assert_eq!((table.get(10), table.get(11), table.get(12)), (Some(3), Some(2), Some(84)));
            assert_eq!(table.peek(8_999, |rest| rest.to_vec()), Some(vec![5]));
            let mut wanted = before;
            for (index, value) in [(10, 3u32), (11, 2), (4_095, 9), (4_096, 8), (8_999, 5)] {
                let at = offset as usize + index * 4;
                wanted[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            assert!(storage.to_bytes().unwrap() == wanted, "at {offset}");
            let behind = table.write(&[(9_000, 0)]).await.unwrap_err();
            assert_eq!(behind.kind(), ErrorKind::OutOfRange);
        }
    }

    #[tokio::test]
    async fn memory_shows_an_entry_only_once_the_storage_has_it() {
        let below = storage(512, 20_000);
        let faults = FilteredStorage::with(below.clone(), Stumbles::default());
        let table = PagedTable::new(faults.clone(), 512, 20_000, 1 << 20);
        table.load(10).await.unwrap();
        table.scan(9_000).await.unwrap();
        let shown = |index| (table.get(index), table.peek(index, |rest| rest[0]));
        let held = |index: usize| {
            let bytes = below.to_bytes().unwrap();
            let at = 512 + index * 4;
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        let changes = [(10, 1), (9_001, 2)];
        // The first entry is written, the second one fails. Neither becomes visible, which is harmless.
        faults.fails.store(2, Ordering::Relaxed);
        assert_eq!(table.write(&changes).await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(
            (shown(10), shown(9_001).1, held(9_001)),
            ((Some(70), Some(70)), Some(63_007), 63_007)
        );
        // While the writes are in flight, and when the future is dropped after the first one was written.
        faults.waits.store(true, Ordering::Relaxed);
        below.write_at(512 + 40, &70u32.to_le_bytes()).await.unwrap();
        {
            let mut write = std::pin::pin!(table.write(&changes));
            while held(10) != 1 {
                assert_eq!((shown(10), shown(9_001).1), ((Some(70), Some(70)), Some(63_007)));
                assert!(poll_once(&mut write).is_none(), "each request waits before it begins");
            }
        }
        assert_eq!((shown(10), shown(9_001).1), ((Some(70), Some(70)), Some(63_007)));
        faults.waits.store(false, Ordering::Relaxed);
        table.write(&changes).await.unwrap();
        assert_eq!((shown(10), shown(9_001).1), ((Some(1), Some(1)), Some(2)));
    }

    /// Fails one write, and makes other writes wait once before they start.
    #[derive(Debug, Default)]
    struct Stumbles {
        /// The write that fails, counted down to 1.
        fails: AtomicU64,
        waits: AtomicBool,
    }

    #[async_trait]
    impl Hook for Stumbles {
        async fn before(&self, request: &Request<'_>) -> Result<()> {
            if !matches!(request, Request::Write { .. }) {
                return Ok(());
            }
            if self.waits.load(Ordering::Relaxed) {
                let mut waited = false;
                std::future::poll_fn(|_| {
                    let ready = std::mem::replace(&mut waited, true);
                    if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                })
                .await;
            }
            let left = self.fails.load(Ordering::Relaxed);
            self.fails.store(left.saturating_sub(1), Ordering::Relaxed);
            if left == 1 { Err(Error::new(ErrorKind::Io, "it stumbles")) } else { Ok(()) }
        }
    }

    /// Polls a future once.
    fn poll_once<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn changes_close_to_each_other_go_together() {
        assert_eq!(group_len(&[(0, 0), (1, 0), (128, 0), (300, 0)]), 3);
        assert_eq!(group_len(&[(0, 0), (500, 0)]), 1);
        let many: Vec<_> = (0..WINDOW as u64 + 5).map(|i| (i, 0)).collect();
        assert_eq!(group_len(&many), WINDOW);
    }
}
