//! Every interleaving of a few requests: no slot has two owners, none serves again too early, no pin moves.
//!
//! `MODEL_SCHEDULES` says how many interleavings each test tries (2,000).

mod storage;

use std::sync::Arc;

use async_trait::async_trait;
use block_core::{
    Access, BlockDevice, DeviceCaps, Error, ErrorKind, ImageInfo, Options, Place, Preallocation,
    Result, Storage, WriteFlags,
};
use block_core_model::engine::{
    BlockMapper, Change, Effect, EntryLocation, Layout, Mapped, PagedTable, ResizePlan, Slot,
    SlotRun,
};
use block_core_model::range_lock::RangeLock;
use shuttle::future::block_on;
use shuttle::thread;
use storage::{BLOCK, BLOCKS, SLOTS_START, Watched, stamp, stamped_for};

/// A map of 32-bit entries at the beginning of the storage: 0 is free, n + 1 is slot n.
#[derive(Debug)]
struct Map {
    storage: Arc<dyn Storage>,
    table: PagedTable,
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "not here"))
}

fn decode(entry: u32) -> Slot {
    entry.checked_sub(1).map_or(Slot::Free, |slot| Slot::Data(slot.into()))
}

#[async_trait]
impl BlockMapper for Map {
    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn layout(&self) -> Layout {
        Layout {
            virtual_size: BLOCKS * BLOCK,
            block_size: BLOCK,
            slots_start: SLOTS_START,
            stride: BLOCK,
            lead: 0,
            slot_limit: BLOCKS,
            has_zero_slots: false,
            is_fixed: false,
        }
    }

    fn info(&self) -> ImageInfo {
        ImageInfo::new("model", BLOCKS * BLOCK, DeviceCaps::WRITE)
    }

    fn slot(&self, block: u64) -> Option<Slot> {
        self.table.get(block).map(decode)
    }

    async fn load(&self, block: u64) -> Result<Slot> {
        Ok(decode(self.table.load(block).await?))
    }

    async fn run(&self, block: u64, _: u64) -> Result<SlotRun> {
        Ok(SlotRun { first: self.load(block).await?, blocks: 1 })
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
        let entry = |slot| if let Slot::Data(slot) = slot { slot as u32 + 1 } else { 0 };
        let entries: Vec<_> = changes.iter().map(|c| (c.block, entry(c.slot))).collect();
        self.table.write(&entries).await
    }

    async fn settle(&self, _: u64) -> Result<()> {
        Ok(())
    }

    async fn plan_resize(&self, _: u64, _: u64) -> Result<ResizePlan> {
        unsupported()
    }

    async fn resize(&self, _: u64, _: ResizePlan, _: u64, _: Preallocation) -> Result<()> {
        unsupported()
    }

    async fn amend(&self, _: &Options) -> Result<()> {
        unsupported()
    }

    async fn close(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

type Disk = Arc<Mapped<Map>>;

fn open(storage: &Arc<Watched>) -> Disk {
    let storage = Arc::clone(storage) as Arc<dyn Storage>;
    let table = PagedTable::new(Arc::clone(&storage), 0, BLOCKS, 1 << 20);
    Mapped::open(Arc::new(Map { storage, table }), Access::ReadWrite, None).unwrap()
}

fn write(disk: &Disk, block: u64, version: u8) {
    block_on(disk.write_sectors(block, &stamp(block, version), WriteFlags::empty())).unwrap();
}

fn discard(disk: &Disk, block: u64) {
    block_on(disk.discard(block, 1)).unwrap();
}

fn flush(disk: &Disk) {
    block_on(disk.flush()).unwrap();
}

fn read(disk: &Disk, block: u64) -> Vec<u8> {
    let mut bytes = vec![0xA5; BLOCK as usize];
    block_on(disk.read_sectors(block, &mut bytes)).unwrap();
    assert!(stamped_for(&bytes, block), "block {block} shows what was written to another one");
    bytes
}

/// Plays `threads` side by side on a disk where blocks 0 and 1 are stored, in every order that the
/// scheduler thinks of.
fn every_interleaving(threads: &'static [fn(&Disk)]) {
    let schedules = std::env::var("MODEL_SCHEDULES").ok().and_then(|n| n.parse().ok());
    let schedules = schedules.unwrap_or(2_000);
    let play = move || {
        let storage = Watched::new();
        let disk = open(&storage);
        write(&disk, 0, 1);
        write(&disk, 1, 1);
        flush(&disk);
        let tasks: Vec<_> = threads
            .iter()
            .map(|work| {
                let disk = Arc::clone(&disk);
                thread::spawn(move || work(&disk))
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        let shown: Vec<_> = (0..BLOCKS).map(|block| read(&disk, block)).collect();
        block_on(disk.close()).unwrap();
        drop(disk);
        storage.no_slot_has_two_owners();
        let disk = open(&storage);
        let again: Vec<_> = (0..BLOCKS).map(|block| read(&disk, block)).collect();
        assert!(shown == again, "what was shown at the end is not there after reopening");
    };
    let config = || {
        let mut config = shuttle::Config::new();
        // Futures of the engine are large, and so are the arrays in them.
        config.stack_size = 1 << 20;
        config
    };
    let random = shuttle::scheduler::RandomScheduler::new_from_seed(0x5EED, schedules / 2);
    shuttle::Runner::new(random, config()).run(play);
    // Few preemptions at chosen places: finds what needs an unlikely one.
    let pct = shuttle::scheduler::PctScheduler::new_from_seed(0x5EED, 3, schedules / 2);
    shuttle::Runner::new(pct, config()).run(play);
}

#[test]
fn two_writers_of_new_blocks_never_get_one_slot() {
    // Slot 0 is free when both ask: a hole, which is handed out first.
    every_interleaving(&[
        |disk| {
            discard(disk, 0);
            flush(disk);
            write(disk, 2, 2);
        },
        |disk| {
            flush(disk);
            write(disk, 3, 3);
            flush(disk);
        },
    ]);
}

#[test]
fn a_slot_serves_again_only_after_the_entry_that_gave_it_up_is_durable() {
    every_interleaving(&[
        |disk| {
            discard(disk, 0);
            write(disk, 2, 2);
        },
        |disk| {
            discard(disk, 1);
            flush(disk);
        },
        |disk| {
            flush(disk);
            write(disk, 3, 3);
        },
    ]);
}

#[test]
fn a_block_given_up_and_written_again_shows_the_last_of_it() {
    every_interleaving(&[
        |disk| {
            discard(disk, 0);
            write(disk, 0, 2);
            assert!(read(disk, 0) == stamp(0, 2));
        },
        |disk| {
            write(disk, 1, 3);
            flush(disk);
            assert!(read(disk, 1) == stamp(1, 3));
        },
        flush,
    ]);
}

#[test]
fn a_read_shows_its_own_block_though_its_slot_is_given_to_another() {
    every_interleaving(&[
        |disk| {
            // As it may be tried at once, and as it may have to wait.
            let mut bytes = vec![0xA5; BLOCK as usize];
            if let Some(done) = disk.try_read_sectors(0, &mut bytes) {
                done.unwrap();
                assert!(stamped_for(&bytes, 0), "tried at once");
            }
            read(disk, 0);
        },
        |disk| {
            let given = block_on(disk.read_bytes(0, 1)).unwrap();
            assert!(stamped_for(&given, 0), "given");
        },
        |disk| {
            discard(disk, 0);
            flush(disk);
            write(disk, 2, 2);
        },
    ]);
}

#[test]
fn a_pinned_place_stays_where_it_is_and_is_given_to_nobody() {
    every_interleaving(&[
        |disk| {
            let mapped = block_on(disk.map(0..2 * BLOCK)).unwrap();
            // A slow reader: everybody else has time for a lot.
            (0..40).for_each(|_| thread::yield_now());
            for run in &mapped.runs {
                let Place::Stored { storage, offset } = &run.place else { continue };
                for block in run.start / BLOCK..(run.start + run.len) / BLOCK {
                    let mut bytes = vec![0xA5; BLOCK as usize];
                    let at = offset + block * BLOCK - run.start;
                    block_on(storage.read_at(at, &mut bytes)).unwrap();
                    // Whoever overwrites it in place may have done so; nobody may have zeroed it.
                    assert!(bytes == stamp(block, 1), "block {block} moved under a pin");
                }
            }
        },
        |disk| {
            discard(disk, 0);
            flush(disk);
            write(disk, 2, 2);
        },
        |disk| {
            discard(disk, 1);
            write(disk, 3, 3);
        },
    ]);
}

#[test]
fn a_range_has_one_owner_or_sharers_and_nobody_waits_for_ever() {
    use std::sync::atomic::{AtomicI32, Ordering};
    let play = || {
        let lock = RangeLock::new();
        // What the lock protects: -1 while owned, else the number of sharers.
        let users = Arc::new(AtomicI32::new(0));
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let (lock, users) = (Arc::clone(&lock), Arc::clone(&users));
                thread::spawn(move || {
                    for round in 0..2 {
                        if (n + round) % 2 == 0 {
                            let guard = block_on(lock.lock_exclusive(n..n + 5));
                            assert_eq!(users.swap(-1, Ordering::SeqCst), 0, "somebody is inside");
                            thread::yield_now();
                            users.store(0, Ordering::SeqCst);
                            drop(guard);
                        } else {
                            // Given up half of the time while it may be in the queue.
                            let guard = lock.try_lock_shared(n..n + 5);
                            let guard = match guard {
                                Some(guard) => guard,
                                None => block_on(lock.lock_shared(n..n + 5)),
                            };
                            assert!(users.fetch_add(1, Ordering::SeqCst) >= 0, "it is owned");
                            thread::yield_now();
                            users.fetch_sub(1, Ordering::SeqCst);
                            drop(guard);
                        }
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        // Nothing is held any more.
        drop(block_on(lock.lock_exclusive(0..100)));
    };
    shuttle::check_random(play, 1_000);
    shuttle::check_pct(play, 1_000, 3);
}
