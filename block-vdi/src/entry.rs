//! Block map entries.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

use block_core::engine::Slot;
use block_core::{Error, ErrorKind, Result};

use crate::format::{ENTRY_FREE, ENTRY_ZERO};

/// Returns the meaning of a stored entry.
pub(crate) fn decode(entry: u32) -> Slot {
    match entry {
        ENTRY_FREE => Slot::Free,
        ENTRY_ZERO => Slot::Zero,
        slot => Slot::Data(u64::from(slot)),
    }
}

/// Returns the entry to store.
///
/// # Errors
/// `Limit` for a slot number that does not fit in an entry.
pub(crate) fn encode(slot: Slot) -> Result<u32> {
    match slot {
        Slot::Free => Ok(ENTRY_FREE),
        Slot::Zero => Ok(ENTRY_ZERO),
        Slot::Data(slot) => {
            u32::try_from(slot).ok().filter(|entry| *entry < ENTRY_ZERO).ok_or_else(|| {
                Error::new(ErrorKind::Limit, format!("slot {slot} is more than an entry can name"))
            })
        }
    }
}

/// Returns how many of `entries` continue the pattern of the first: the same special value, or slots counting up.
pub(crate) fn run_len(entries: &[u32]) -> usize {
    let Some(first) = entries.first().copied() else { return 0 };
    let step = u32::from(first < ENTRY_ZERO);
    let mut expected = first;
    let mut len = 0usize;
    let (chunks, rest) = entries.as_chunks::<64>();
    for chunk in chunks {
        // No early exit inside a chunk, so that the compiler can compare many entries at a time.
        let mut difference = 0;
        let mut value = expected;
        for entry in chunk {
            difference |= entry ^ value;
            value = value.wrapping_add(step);
        }
        if difference != 0 {
            return len.saturating_add(matching(chunk, expected, step));
        }
        expected = value;
        len = len.saturating_add(chunk.len());
    }
    len.saturating_add(matching(rest, expected, step))
}

fn matching(entries: &[u32], first: u32, step: u32) -> usize {
    let mut expected = first;
    let same = entries.iter().take_while(|entry| {
        let same = **entry == expected;
        expected = expected.wrapping_add(step);
        same
    });
    same.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_pattern_ends() {
        let mut counting: Vec<u32> = (5..305).collect();
        assert_eq!(run_len(&counting), 300);
        for broken in [1, 63, 64, 65, 128, 299] {
            let mut entries = counting.clone();
            entries[broken] = 1_000_000;
            assert_eq!(run_len(&entries), broken);
        }
        counting.truncate(1);
        assert_eq!(run_len(&counting), 1);
        assert_eq!(run_len(&[ENTRY_FREE; 200]), 200);
        assert_eq!(run_len(&[ENTRY_ZERO, ENTRY_ZERO, ENTRY_FREE]), 2);
        assert_eq!(run_len(&[ENTRY_ZERO - 1, ENTRY_ZERO]), 2, "the mapper cuts runs at its limit");
    }

    #[test]
    fn entries_survive_the_round_trip() {
        for entry in [0, 1, ENTRY_ZERO - 1, ENTRY_ZERO, ENTRY_FREE] {
            assert_eq!(encode(decode(entry)).unwrap(), entry);
        }
        assert!(encode(Slot::Data(u64::from(ENTRY_ZERO))).is_err());
    }
}
