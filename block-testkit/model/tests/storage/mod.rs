//! A storage that lets the scheduler choose at every request, and watches which slots are written.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use block_core::{
    Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent, StorageId, StorageLimits,
    ZeroMode,
};
use shuttle::thread;

/// Blocks of the disk, which is also how many slots there are.
pub const BLOCKS: u64 = 4;
/// Bytes in a block, and in a slot: one sector, so that every request is about whole blocks.
pub const BLOCK: u64 = 512;
/// Where slot 0 begins; the table lies before it.
pub const SLOTS_START: u64 = 512;

/// What a test writes to `block`.
pub fn stamp(block: u64, version: u8) -> Vec<u8> {
    let mut bytes = vec![version; BLOCK as usize];
    bytes[..8].copy_from_slice(&(block + 1).to_le_bytes());
    bytes
}

/// Whether the bytes are zeros, or were written to `block`.
pub fn stamped_for(bytes: &[u8], block: u64) -> bool {
    bytes.iter().all(|byte| *byte == 0) || owner(bytes) == Some(block)
}

/// The block that the bytes were written to; `None`: zeros.
fn owner(bytes: &[u8]) -> Option<u64> {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(first).checked_sub(1)
}

/// A storage in memory.
#[derive(Debug)]
pub struct Watched(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Counts the writes to the table.
    writes: u64,
    /// The entries a power cut may leave for each block: the durable one first, then those written since, with
    /// the numbers of their writes.
    entries: BTreeMap<u64, Vec<(u64, u32)>>,
}

impl Watched {
    pub fn new() -> Arc<Self> {
        let state = State { bytes: vec![0; SLOTS_START as usize], ..State::default() };
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Whether the table names each slot once.
    pub fn no_slot_has_two_owners(&self) {
        let state = self.state();
        let mut named: Vec<u32> = (0..BLOCKS as usize)
            .map(|block| state.entry(block))
            .filter(|entry| *entry != 0)
            .collect();
        let all = named.len();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len(), all, "a slot has two owners");
    }

    fn change(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let end = offset as usize + bytes.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        if offset >= SLOTS_START {
            for (at, bytes) in (offset..).step_by(BLOCK as usize).zip(bytes.chunks(BLOCK as usize))
            {
                state.nobody_else_may_need((at - SLOTS_START) / BLOCK, owner(bytes));
            }
        }
        state.bytes[offset as usize..end].copy_from_slice(bytes);
        if offset < SLOTS_START {
            state.writes += 1;
            for block in offset / 4..(end as u64).div_ceil(4).min(BLOCKS) {
                let written = (state.writes, state.entry(block as usize));
                state.entries.entry(block).or_insert_with(|| vec![(0, 0)]).push(written);
            }
        }
    }
}

impl State {
    fn entry(&self, block: usize) -> u32 {
        let mut entry = [0; 4];
        entry.copy_from_slice(&self.bytes[block * 4..block * 4 + 4]);
        u32::from_le_bytes(entry)
    }

    /// A slot is about to be written for `owner` (nobody: it is zeroed): after a power cut, no other block's
    /// entry may lead there.
    fn nobody_else_may_need(&self, slot: u64, owner: Option<u64>) {
        for (block, entries) in &self.entries {
            let needed = entries.iter().any(|(_, entry)| *entry == slot as u32 + 1);
            assert!(
                !needed || owner == Some(*block),
                "slot {slot} is written for {owner:?}, and the entry of block {block} on disk may lead there"
            );
        }
    }
}

#[async_trait]
impl Storage for Watched {
    fn uri(&self) -> &str {
        "model:"
    }

    fn caps(&self) -> StorageCaps {
        StorageCaps::WRITE | StorageCaps::RESIZE
    }

    fn limits(&self) -> StorageLimits {
        StorageLimits::default()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        thread::yield_now();
        self.try_read_at(offset, buf).unwrap_or(Ok(()))
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        if offset >= SLOTS_START {
            // A slow reader: between the look at the map and the bytes, everybody else has time for a lot.
            (0..20).for_each(|_| thread::yield_now());
        }
        let state = self.state();
        let bytes = state.bytes.get(offset as usize..offset as usize + buf.len());
        Some(match bytes {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::new(ErrorKind::OutOfRange, "past the end").at(offset)),
        })
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        thread::yield_now();
        self.change(offset, buf);
        thread::yield_now();
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<()> {
        thread::yield_now();
        self.change(offset, &vec![0; len as usize]);
        thread::yield_now();
        Ok(())
    }

    async fn allocate(&self, _: u64, _: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        thread::yield_now();
        self.state().bytes.resize(len as usize, 0);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        // What had been written when it began is durable when it ends.
        let upto = self.state().writes;
        thread::yield_now();
        for entries in self.state().entries.values_mut() {
            let last = entries.iter().rposition(|(write, _)| *write <= upto);
            entries.drain(..last.unwrap_or(0));
        }
        Ok(())
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let end = range.end.min(self.state().bytes.len() as u64);
        if range.start < end {
            out.push(StorageExtent { start: range.start, len: end - range.start, data: true });
        }
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn copy_from(&self, _: u64, _: &dyn Storage, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn id(&self) -> Option<StorageId> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
