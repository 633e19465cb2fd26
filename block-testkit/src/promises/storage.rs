//! Promise: a storage holds what was written to it, and supports what its capabilities declare.

use std::ops::Range;
use std::sync::Arc;

use super::Effort;
use crate::exec::block_on;
use crate::report::Tally;
use crate::rng::Rng;
use crate::stamp::in_pages;
use block_core::{ErrorKind, Storage, StorageCaps, ZeroMode};

/// Largest size of a storage in these tests, in bytes.
const MOST: u64 = 300_000;

/// Compares a storage with a vector of bytes under random requests: reads (inline and asynchronous), writes, zeroes,
/// new lengths, allocation, flushes, extents. Also sends requests past the end and past the largest file size.
///
/// `make` returns a new, empty storage on every call.
///
/// # Errors
/// Describes the violation, with the seed.
pub fn storage_requests(
    make: &dyn Fn() -> Arc<dyn Storage>,
    effort: &Effort,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut rng = Rng::new(effort.seed ^ 0xB17E);
    for _ in 0..effort.histories {
        let seed = rng.roll();
        let seen = super::caught(|| block_on(history(&*make(), Rng::new(seed), effort.requests)));
        tally.add(&seen.map_err(|what| format!("seed {seed:#x}: {what}"))?);
    }
    Ok(tally)
}

async fn history(storage: &dyn Storage, mut rng: Rng, requests: usize) -> Result<Tally, String> {
    let mut model = Vec::new();
    let mut tally = Tally { runs: 1, ..Tally::default() };
    past_all_bounds(storage).await?;
    for n in 0..requests * 4 {
        tally.requests += 1;
        one(storage, &mut model, &mut rng, n as u8 | 1)
            .await
            .map_err(|what| format!("request {n}: {what}"))?;
        let len = storage.len().await.map_err(|error| format!("len: {error:?}"))?;
        if len != model.len() as u64 {
            return Err(format!("request {n}: the length is {len}, wanted {}", model.len()));
        }
    }
    let mut all = vec![0xA5; model.len()];
    storage.read_at(0, &mut all).await.map_err(|error| format!("reading all: {error:?}"))?;
    if let Some(at) = all.iter().zip(&model).position(|(a, b)| a != b) {
        return Err(format!("byte {at:#x} is {:#x}, wanted {:#x}", all[at], model[at]));
    }
    extents(storage, &model).await?;
    Ok(tally)
}

/// Sends one request to the storage and the model. A write fills its range with `value`.
async fn one(
    storage: &dyn Storage,
    model: &mut Vec<u8>,
    rng: &mut Rng,
    value: u8,
) -> Result<(), String> {
    let len = model.len() as u64;
    let resizable = storage.caps().contains(StorageCaps::RESIZE);
    let start = rng.within(0..MOST);
    let count = if rng.one_in(3) { rng.within(1..20_000) } else { rng.within(1..700) };
    let range = start..start + count;
    let inside = range.end <= len;
    let bytes = vec![value; count as usize];
    match rng.within(0..16) {
        0..=4 => read(storage, model, range).await,
        5..=9 => {
            let (what, answer) = if rng.one_in(2) {
                ("write_at", storage.write_at(start, &bytes).await)
            } else {
                ("write_bytes", storage.write_bytes(start, in_pages(&bytes)).await)
            };
            if agrees(what, inside || resizable, answer)? {
                put(model, range, value);
            }
            Ok(())
        }
        10..=12 => {
            let mode = if rng.one_in(2) { ZeroMode::Allocate } else { ZeroMode::Deallocate };
            let answer = storage.write_zeroes(start, count, mode).await;
            if agrees("write_zeroes", inside || resizable, answer)? {
                put(model, range, 0);
            }
            Ok(())
        }
        13 if resizable => {
            agrees("set_len", true, storage.set_len(start).await)?;
            model.resize(start as usize, 0);
            Ok(())
        }
        14 => match storage.allocate(start, count).await {
            // Content and length must not change. The comparison after this verifies it.
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            Err(error) if !inside && error.kind() == ErrorKind::OutOfRange => Ok(()),
            Err(error) => Err(format!("allocate: {error:?}")),
        },
        _ => storage.flush().await.map_err(|error| format!("flush: {error:?}")),
    }
}

/// Returns whether the request was done. One that must fail has to fail with `OutOfRange`.
fn agrees(what: &str, wanted: bool, answer: block_core::Result<()>) -> Result<bool, String> {
    match (wanted, answer) {
        (true, Ok(())) => Ok(true),
        (false, Err(error)) if error.kind() == ErrorKind::OutOfRange => Ok(false),
        (true, Err(error)) => Err(format!("{what}: {error:?}")),
        (false, Ok(())) => Err(format!("{what} past the end succeeds without RESIZE")),
        (false, Err(error)) => {
            Err(format!("{what} past the end: wanted OutOfRange, got {error:?}"))
        }
    }
}

fn put(model: &mut Vec<u8>, range: Range<u64>, value: u8) {
    if (model.len() as u64) < range.end {
        model.resize(range.end as usize, 0);
    }
    model[range.start as usize..range.end as usize].fill(value);
}

/// Checks that a read returns the bytes, or fails with `OutOfRange` instead of returning zeros. An inline read returns
/// the same, or would block.
async fn read(storage: &dyn Storage, model: &[u8], range: Range<u64>) -> Result<(), String> {
    let wanted = model.get(range.start as usize..range.end as usize);
    let mut at_once = vec![0xA5; (range.end - range.start) as usize];
    let mut bytes = at_once.clone();
    let quick = storage.try_read_at(range.start, &mut at_once);
    let answer = storage.read_at(range.start, &mut bytes).await;
    let (given, owned) = match storage.read_bytes(range.start, bytes.len()).await {
        Ok(given) => (given.to_vec(), Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    for (what, answer, bytes) in [
        ("read_at", Some(answer), &bytes),
        ("read_bytes", Some(owned), &given),
        ("try_read_at", quick, &at_once),
    ] {
        match (answer, wanted) {
            (None, _) => {}
            (Some(Ok(())), Some(wanted)) if bytes == wanted => {}
            (Some(Ok(())), Some(_)) => {
                return Err(format!("{what} of {range:?} shows other bytes"));
            }
            (Some(Err(error)), None) if error.kind() == ErrorKind::OutOfRange => {}
            (Some(answer), wanted) => {
                let wanted = wanted.map_or("OutOfRange", |_| "the bytes");
                return Err(format!("{what} of {range:?}: wanted {wanted}, got {answer:?}"));
            }
        }
    }
    Ok(())
}

/// Checks that extents tile the storage and that a hole reads as zeros.
async fn extents(storage: &dyn Storage, model: &[u8]) -> Result<(), String> {
    let mut found = Vec::new();
    let answer = storage.extents(0..u64::MAX, &mut found).await;
    answer.map_err(|error| format!("extents: {error:?}"))?;
    let mut at = 0;
    for extent in &found {
        if extent.start != at || extent.len == 0 {
            return Err(format!("{extent:?} where one that begins at {at:#x} was wanted"));
        }
        at += extent.len;
        let bytes = model.get(extent.start as usize..at as usize).unwrap_or(&[1]);
        if !extent.data && bytes.iter().any(|byte| *byte != 0) {
            return Err(format!("{extent:?} is no hole, or reaches past the end"));
        }
    }
    if at != model.len() as u64 {
        return Err(format!("the extents end at {at:#x}, the storage at {:#x}", model.len()));
    }
    let sparse = storage.caps().contains(StorageCaps::SPARSE);
    if !sparse && found.iter().any(|extent| !extent.data) {
        return Err("a hole is told, and SPARSE is not declared".into());
    }
    Ok(())
}

/// Checks that reads fail past the end of an empty storage, and past the range of an `i64`.
async fn past_all_bounds(storage: &dyn Storage) -> Result<(), String> {
    for offset in [0, 1, 1 << 40, i64::MAX as u64 - 1] {
        match storage.read_at(offset, &mut [0; 1]).await {
            Err(error) if error.kind() == ErrorKind::OutOfRange => {}
            other => return Err(format!("a read at {offset:#x} of nothing gives {other:?}")),
        }
    }
    // These must not allocate memory.
    for len in [1 << 45, isize::MAX as usize / 2] {
        match storage.read_bytes(0, len).await {
            Err(error) if error.kind() == ErrorKind::OutOfRange => {}
            other => return Err(format!("reading {len:#x} bytes of nothing gives {other:?}")),
        }
    }
    storage.read_at(0, &mut []).await.map_err(|error| format!("reading no bytes: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultStorage;
    use block_core::MemStorage;
    use block_core::filter::{LogStorage, OverlayStorage, StatsStorage};

    type Make = Box<dyn Fn() -> Arc<dyn Storage>>;

    #[test]
    fn storages_in_memory_and_filters_over_them_hold_what_was_written() {
        let memory = || MemStorage::new() as Arc<dyn Storage>;
        let kinds: [(&str, Make); 5] = [
            ("memory", Box::new(memory)),
            ("stats", Box::new(move || StatsStorage::new(memory()))),
            ("log", Box::new(move || LogStorage::keeping(memory()))),
            ("faults", Box::new(move || FaultStorage::new(memory()))),
            ("overlay", Box::new(move || block_on(OverlayStorage::new(memory())).unwrap())),
        ];
        for (name, make) in kinds {
            let seen = storage_requests(&*make, &Effort::default());
            let seen = seen.unwrap_or_else(|what| panic!("{name}: {what}"));
            assert!(seen.requests > 1000, "{seen}");
        }
    }
}
