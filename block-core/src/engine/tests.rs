//! The engine against a model: a map of 32-bit entries in memory, nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::read::LONG_WAY;
use super::{
    BlockMapper, Change, Effect, EntryLocation, Layout, Mapped, PagedTable, ResizePlan, Slot,
    SlotRun, check_layout,
};
use crate::filter::{FilteredStorage, Hook, Request};
use crate::{
    Access, BlockDevice, DeviceCaps, Disk, Error, ErrorKind, ImageInfo, MemStorage, Options,
    Preallocation, Result, Storage, WriteFlags, ZeroFlags,
};

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 40;
/// The last block is partial.
const SIZE: u64 = BLOCKS * BLOCK - 1536;

#[derive(Debug)]
struct TestMap {
    storage: Arc<dyn Storage>,
    table: PagedTable,
    lead: u64,
    /// The run that the mapper returns for every query, if set.
    lie: Option<SlotRun>,
}

impl TestMap {
    async fn create(storage: &Arc<MemStorage>) {
        storage.write_at(0, &[0xff; 4 * BLOCKS as usize]).await.unwrap();
        storage.set_len(BLOCK).await.unwrap();
    }

    fn open<S: Storage + 'static>(
        storage: &Arc<S>,
        lead: u64,
        parent: Option<Disk>,
    ) -> Arc<Mapped<Self>> {
        let storage: Arc<dyn Storage> = storage.clone();
        let table = PagedTable::new(Arc::clone(&storage), 0, BLOCKS, 1 << 20);
        let map = Arc::new(Self { storage, table, lead, lie: None });
        Mapped::open(map, Access::ReadWrite, parent).unwrap()
    }
}

fn decode(entry: u32) -> Slot {
    match entry {
        u32::MAX => Slot::Free,
        0xffff_fffe => Slot::Zero,
        slot => Slot::Data(slot.into()),
    }
}

#[async_trait]
impl BlockMapper for TestMap {
    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn layout(&self) -> Layout {
        Layout {
            virtual_size: SIZE,
            block_size: BLOCK,
            slots_start: BLOCK,
            stride: BLOCK + self.lead,
            lead: self.lead,
            slot_limit: BLOCKS,
            has_zero_slots: true,
            is_fixed: false,
        }
    }

    fn info(&self) -> ImageInfo {
        ImageInfo::new("test", SIZE, DeviceCaps::WRITE | DeviceCaps::COMPACT)
    }

    fn slot(&self, block: u64) -> Option<Slot> {
        self.table.get(block).map(decode)
    }

    async fn load(&self, block: u64) -> Result<Slot> {
        Ok(decode(self.table.load(block).await?))
    }

    async fn run(&self, block: u64, _: u64) -> Result<SlotRun> {
        let first = self.load(block).await?;
        Ok(self.lie.unwrap_or(SlotRun { first, blocks: 1 }))
    }

    fn entry_location(&self, block: u64) -> EntryLocation {
        EntryLocation { field: "entry", offset: self.table.place(block) }
    }

    async fn start_writing(&self, _: Effect) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, _: &[Change], _: u64) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, changes: &[Change]) -> Result<()> {
        let entries: Vec<(u64, u32)> = changes
            .iter()
            .map(|change| match change.slot {
                Slot::Free => (change.block, u32::MAX),
                Slot::Zero => (change.block, u32::MAX - 1),
                Slot::Data(slot) => (change.block, slot as u32),
            })
            .collect();
        self.table.write(&entries).await
    }

    async fn settle(&self, _: u64) -> Result<()> {
        Ok(())
    }

    async fn plan_resize(&self, _: u64, _: u64) -> Result<ResizePlan> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }

    async fn resize(&self, _: u64, _: ResizePlan, _: u64, _: Preallocation) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }

    async fn amend(&self, _: &Options) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }

    async fn close(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// A seeded stream of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }
}

async fn random_steps(seed: u64, lead: u64, parent: Option<(Disk, Vec<u8>)>) {
    let storage = MemStorage::new();
    TestMap::create(&storage).await;
    let (parent, mut model) = match parent {
        Some((disk, content)) => (Some(disk), content),
        None => (None, vec![0; SIZE as usize]),
    };
    let mut device = TestMap::open(&storage, lead, parent.clone());
    let mut dice = Dice(seed);
    for step in 0..400 {
        let disk = Disk::new(device.clone());
        let at = dice.roll(SIZE);
        let len = dice.roll((SIZE - at).min(3 * BLOCK)) + 1;
        let range = at as usize..(at + len) as usize;
        match dice.roll(12) {
            0..5 => {
                let bytes: Vec<u8> = (0..len).map(|_| dice.roll(256) as u8).collect();
                disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                model[range].copy_from_slice(&bytes);
            }
            5 | 6 => {
                let flags =
                    if dice.roll(2) == 0 { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() };
                disk.write_zeroes(at, len, flags).await.unwrap();
                model[range].fill(0);
            }
            7 => {
                disk.discard(at, len).await.unwrap();
                let mut now = vec![0; len as usize];
                disk.read_at(at, &mut now).await.unwrap();
                for (new, old) in now.iter().zip(&model[range.clone()]) {
                    assert!(new == old || *new == 0, "seed {seed} step {step}");
                }
                model[range].copy_from_slice(&now);
            }
            8 => disk.flush().await.unwrap(),
            9 => drop(device.compact(&|_, _| true).await.unwrap()),
            10 => {
                device.close().await.unwrap();
                device = TestMap::open(&storage, lead, parent.clone());
            }
            _ => {
                let mut at = 0;
                for extent in &disk.extents(0..SIZE).await.unwrap() {
                    assert_eq!(extent.start, at);
                    at = extent.end();
                    if extent.is_zero() {
                        assert!(model[extent.start as usize..at as usize].iter().all(|b| *b == 0));
                    }
                }
                assert_eq!(at, SIZE);
            }
        }
        let disk = Disk::new(device.clone());
        let mut all = vec![1; SIZE as usize];
        disk.read_at(0, &mut all).await.unwrap();
        let wrong = all.iter().zip(&model).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "seed {seed} step {step}");
    }
    device.close().await.unwrap();
    let stored = (0..BLOCKS).filter(|b| matches!(device.lookup(*b), Some(Slot::Data(_)))).count();
    let slots = (storage.len().await.unwrap() - BLOCK).div_ceil(BLOCK + lead);
    assert!(slots >= stored as u64 && slots <= BLOCKS, "seed {seed}: {stored} in {slots} slots");
}

#[tokio::test]
async fn a_base_image_agrees_with_a_model() {
    for seed in 1..=8 {
        random_steps(seed, 0, None).await;
        random_steps(seed, 512, None).await;
    }
}

#[tokio::test]
async fn a_child_agrees_with_a_model_over_its_parent() {
    for seed in 1..=8 {
        let below = MemStorage::new();
        TestMap::create(&below).await;
        let parent = TestMap::open(&below, 0, None);
        let disk = Disk::new(parent);
        let mut content = vec![0; SIZE as usize];
        for block in [0u64, 1, 5, 6, 7, 20, 39] {
            let bytes = [block as u8 + 1; 1024];
            let at = block * BLOCK + 512;
            disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
            content[at as usize..at as usize + 1024].copy_from_slice(&bytes);
        }
        random_steps(seed, 0, Some((disk, content))).await;
    }
}

#[tokio::test]
async fn scattered_small_writes_cost_what_they_carry() {
    let storage = MemStorage::new();
    TestMap::create(&storage).await;
    let before = storage.allocated_bytes().await.unwrap();
    let device = TestMap::open(&storage, 4096 * 15, None);
    for block in 0..BLOCKS - 1 {
        device.write_sectors(block * 8 + 3, &[7; 512], WriteFlags::empty()).await.unwrap();
    }
    device.flush().await.unwrap();
    let stored = storage.allocated_bytes().await.unwrap().unwrap() - before.unwrap();
    assert_eq!(stored, (BLOCKS - 1) * 4096);
}

async fn content(disk: &Disk) -> Vec<u8> {
    let mut all = vec![0; SIZE as usize];
    disk.read_at(0, &mut all).await.unwrap();
    all
}

/// Creates an image with a few random writes and zeros.
async fn scribbled(dice: &mut Dice, parent: Option<Disk>) -> (Arc<MemStorage>, Disk) {
    let storage = MemStorage::new();
    TestMap::create(&storage).await;
    let disk = Disk::new(TestMap::open(&storage, 0, parent));
    for _ in 0..8 {
        let at = dice.roll(SIZE);
        let len = dice.roll((SIZE - at).min(3 * BLOCK)) + 1;
        let fill = vec![dice.roll(256) as u8; len as usize];
        disk.write_at(at, &fill, WriteFlags::empty()).await.unwrap();
        let at = dice.roll(SIZE);
        let len = dice.roll((SIZE - at).min(3 * BLOCK)) + 1;
        disk.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await.unwrap();
    }
    disk.flush().await.unwrap();
    (storage, disk)
}

#[tokio::test]
async fn a_committed_child_leaves_its_content_in_the_parent() {
    for seed in 1..=20 {
        let mut dice = Dice(seed);
        let (_, grandparent) = scribbled(&mut dice, None).await;
        let (_, parent) = scribbled(&mut dice, Some(grandparent)).await;
        let (_, child) = scribbled(&mut dice, Some(parent.clone())).await;
        let before = content(&child).await;
        crate::chain::commit(&child, &|_, _| true).await.unwrap();
        assert!(content(&parent).await == before, "seed {seed}: the parent");
        assert!(content(&child).await == before, "seed {seed}: the child");
        child.device().make_empty().await.unwrap();
        assert!(content(&child).await == before, "seed {seed}: the emptied child");
    }
}

#[tokio::test]
async fn a_rebased_child_reads_as_before_over_its_new_parent() {
    for seed in 1..=20 {
        let mut dice = Dice(seed);
        let (_, old) = scribbled(&mut dice, None).await;
        let (_, new) = scribbled(&mut dice, None).await;
        let (storage, child) = scribbled(&mut dice, Some(old)).await;
        let before = content(&child).await;
        let new = if seed % 4 == 0 { None } else { Some(new) };
        crate::chain::rebase(&child, new.as_ref(), &|_, _| true).await.unwrap();
        child.close().await.unwrap();
        let child = Disk::new(TestMap::open(&storage, 0, new));
        assert!(content(&child).await == before, "seed {seed}");
    }
}

#[tokio::test]
async fn zeros_that_are_stored_are_moved_as_zeros() {
    let filled = async |byte: u8, parent: Option<Disk>| {
        let storage = MemStorage::new();
        TestMap::create(&storage).await;
        let disk = Disk::new(TestMap::open(&storage, 0, parent));
        disk.write_at(0, &[byte; BLOCK as usize], WriteFlags::empty()).await.unwrap();
        disk
    };
    let ones = filled(1, None).await;
    let child = filled(0, Some(ones.clone())).await;
    let moved = crate::chain::commit(&child, &|_, _| true).await.unwrap();
    assert_eq!((moved.data, moved.zeros), (0, BLOCK));

    let zeros = filled(0, None).await;
    let storage = MemStorage::new();
    TestMap::create(&storage).await;
    let child = Disk::new(TestMap::open(&storage, 0, Some(zeros)));
    let ones = filled(1, None).await;
    let moved = crate::chain::rebase(&child, Some(&ones), &|_, _| true).await.unwrap();
    assert_eq!((moved.data, moved.zeros), (0, BLOCK));
}

#[tokio::test]
async fn a_map_that_must_not_be_written_over_is_named_by_entry() {
    for (entries, block, found, wanted) in [
        ([3, 40, 4], 1, "40", "less than 40 for writing"),
        ([7, 2, 7], 2, "7", "a slot that holds no other block, for writing"),
    ] {
        let storage = MemStorage::new();
        TestMap::create(&storage).await;
        let bytes: Vec<u8> = entries.into_iter().flat_map(u32::to_le_bytes).collect();
        storage.write_at(0, &bytes).await.unwrap();
        let device = TestMap::open(&storage, 0, None);
        let error = device.write_sectors(0, &[1; 512], WriteFlags::empty()).await.unwrap_err();
        let field = error.field().unwrap();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(4 * block)));
        assert_eq!((field.name, &*field.found, &*field.wanted), ("entry", found, wanted));
    }
}

/// While set, no request completes without waiting.
#[derive(Debug, Default)]
struct Waits(AtomicBool);

#[async_trait]
impl Hook for Waits {
    async fn before(&self, _: &Request<'_>) -> Result<()> {
        Ok(())
    }

    fn before_nowait(&self, _: &Request<'_>) -> Option<Result<()>> {
        (!self.0.load(Ordering::Relaxed)).then_some(Ok(()))
    }
}

#[tokio::test]
async fn after_a_read_that_had_to_wait_the_next_ones_are_not_tried_at_once_for_a_while() {
    let memory = MemStorage::new();
    TestMap::create(&memory).await;
    let storage = FilteredStorage::with(memory, Waits::default());
    let device = TestMap::open(&storage, 0, None);
    device.write_sectors(0, &[7; BLOCK as usize], WriteFlags::empty()).await.unwrap();

    let mut buf = [0; BLOCK as usize];
    let mut try_read = || device.try_read_sectors(0, &mut buf).map(Result::unwrap).is_some();
    assert!(try_read());
    storage.0.store(true, Ordering::Relaxed);
    assert!(!try_read());
    storage.0.store(false, Ordering::Relaxed);
    let refused = (0..100).take_while(|_| !try_read()).count();
    assert_eq!(refused, LONG_WAY);
    assert!(try_read() && try_read());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Asserts that `what` reaches an impossible state: it panics with debug assertions, and returns an error otherwise.
fn meets_a_bug<T>(what: impl FnOnce() -> Result<T>, case: &str) {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)) {
        Err(stopped) => {
            let text = stopped.downcast::<String>().unwrap();
            assert!(text.starts_with("a mistake in this program: "), "{case}: {text}");
        }
        Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Internal, "{case}: {error:?}"),
        Ok(Ok(_)) => panic!("{case}: success"),
    }
}

#[test]
fn a_map_that_answers_nonsense_is_told_so_and_nothing_is_written() {
    let run = |first, blocks| SlotRun { first, blocks };
    for (lie, case) in [
        (run(Slot::Free, 0), "no blocks"),
        (run(Slot::Zero, BLOCKS + 1), "more blocks than there are"),
        (run(Slot::Data(u64::MAX), 1), "the last slot there can be"),
        (run(Slot::Data(u64::MAX / BLOCK), 1), "a slot past the largest offset"),
    ] {
        let storage = MemStorage::new();
        let make = || async {
            TestMap::create(&storage).await;
            let storage: Arc<dyn Storage> = storage.clone();
            let table = PagedTable::new(Arc::clone(&storage), 0, BLOCKS, 1 << 20);
            let map = TestMap { storage, table, lead: 0, lie: Some(lie) };
            Mapped::open(Arc::new(map), Access::ReadWrite, None).unwrap()
        };
        let device = block_on(make());
        let before = storage.to_bytes();
        meets_a_bug(|| block_on(device.map(0..SIZE)), case);
        if case != "a slot past the largest offset" {
            let bytes = [1; BLOCK as usize];
            let write = device.write_sectors(0, &bytes, WriteFlags::empty());
            meets_a_bug(|| block_on(write), case);
        }
        assert_eq!(storage.to_bytes(), before, "{case}");
    }
}

#[test]
fn a_request_of_half_a_sector_that_reaches_the_engine_is_a_bug_and_not_a_success() {
    let storage = MemStorage::new();
    block_on(TestMap::create(&storage));
    let device = TestMap::open(&storage, 0, None);
    let mut buf = [7; 700];
    let write = device.write_sectors(0, &[1; 700], WriteFlags::empty());
    meets_a_bug(|| block_on(write), "write");
    meets_a_bug(|| block_on(device.read_sectors(0, &mut buf)), "read");
    // The entry is in memory.
    meets_a_bug(|| device.try_read_sectors(0, &mut buf).unwrap(), "read at once");
}

#[test]
fn a_layout_that_could_overflow_is_refused() {
    let storage = MemStorage::new();
    block_on(TestMap::create(&storage));
    let sound = TestMap::open(&storage, 0, None).mapper().layout();
    let wrong = [
        Layout { stride: 1 << 41, ..sound },
        Layout { slot_limit: 1 << 52, ..sound },
        Layout { slots_start: u64::MAX, ..sound },
        Layout { virtual_size: 1 << 63, ..sound },
        Layout { block_size: 0, ..sound },
        Layout { lead: u64::MAX, ..sound },
    ];
    assert!(check_layout(&sound).is_ok());
    for layout in wrong {
        assert_eq!(check_layout(&layout).unwrap_err().kind(), ErrorKind::Corrupt, "{layout:?}");
    }
}
