//! A fingerprint of a disk's content that can be taken piece by piece, in any order.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use block_core::Disk;

use super::error::Result;
use super::progress::JobProgress;
use super::read::read_data;
use super::{is_direct, pieces_at_a_time};

/// Bytes hashed at a time. Units of zeros count for nothing, so holes need not be read.
const UNIT: usize = 512;

/// A fingerprint of content and its place. Two ranges of equal content have equal fingerprints, and any difference is
/// found with near certainty.
///
/// It is the sum, as one large number, of a hash of each 512 bytes that are not zero together with their offset. So it
/// is not made to withstand an attacker, who could choose content of equal sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint([u64; 4]);

/// Returns the fingerprint of `range` of a disk, read by so many threads; `None` takes 2, or 8 where the disk bypasses
/// the page cache.
///
/// # Errors
/// [`Side::Source`](super::Side::Source) 0 is the disk.
pub async fn fingerprint(
    disk: &Disk,
    range: Range<u64>,
    threads: Option<usize>,
    progress: Arc<dyn JobProgress>,
) -> Result<Fingerprint> {
    let sum = Arc::new(Sum::default());
    let threads = threads.unwrap_or_else(|| pieces_at_a_time(is_direct(disk)));
    let seen = Arc::clone(&sum);
    let see = move |offset: u64, bytes: &[u8]| seen.add(offset, bytes);
    read_data(disk, range, threads, progress, see).await?;
    Ok(sum.value())
}

/// A fingerprint that is being taken.
#[derive(Debug, Default)]
pub(super) struct Sum(Mutex<[u64; 4]>);

impl Sum {
    /// Adds `bytes`, which begin at `offset`, a multiple of 512. No byte may be added twice, and a
    /// part of a unit counts as the whole: the rest is zeros.
    pub fn add(&self, offset: u64, bytes: &[u8]) {
        let mut sum = [0; 4];
        for (index, unit) in bytes.chunks(UNIT).enumerate() {
            let end = unit.iter().rposition(|byte| *byte != 0);
            let Some(content) = end.and_then(|end| unit.get(..=end)) else { continue };
            let place = offset.wrapping_add((index * UNIT) as u64);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&place.to_le_bytes());
            hasher.update(content);
            let hash = hasher.finalize();
            let (words, _) = hash.as_bytes().as_chunks::<8>();
            let mut term = [0; 4];
            for (to, word) in term.iter_mut().zip(words) {
                *to = u64::from_le_bytes(*word);
            }
            add(&mut sum, &term);
        }
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &sum);
    }

    /// The sum so far.
    pub fn value(&self) -> Fingerprint {
        Fingerprint(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn add(sum: &mut [u64; 4], term: &[u64; 4]) {
    let mut carry = false;
    for (to, word) in sum.iter_mut().zip(term) {
        let (value, first) = to.overflowing_add(*word);
        let (value, second) = value.overflowing_add(u64::from(carry));
        *to = value;
        carry = first || second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_zeros_do_not_matter_but_place_and_content_do() {
        let (a, b) = ([1u8; UNIT], [2u8; UNIT]);
        let print = |pieces: &[(u64, &[u8])]| {
            let sum = Sum::default();
            for (offset, bytes) in pieces {
                sum.add(*offset, bytes);
            }
            sum.value()
        };
        let whole = print(&[(0, &a), (1024, &b)]);
        assert_eq!(whole, print(&[(1024, &b), (512, &[0; UNIT]), (0, &a)]));
        assert_ne!(whole, print(&[(0, &b), (1024, &a)]));
        assert_ne!(whole, print(&[(0, &a)]));
        let mut changed = b;
        changed[511] = 3;
        assert_ne!(whole, print(&[(0, &a), (1024, &changed)]));
    }
}
