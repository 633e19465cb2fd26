//! A fingerprint of a disk's content that can be taken piece by piece, in any order.

use std::sync::{Mutex, PoisonError};

/// Bytes hashed at a time. Units of zeros count for nothing, so holes need not be read.
const UNIT: usize = 512;

/// The sum, as one large number, of a hash of each unit that is not zero together with its place.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(Mutex<[u64; 4]>);

impl Fingerprint {
    /// Nothing but zeros.
    pub fn new() -> Self {
        Self::default()
    }

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
    pub fn value(&self) -> [u64; 4] {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            let sum = Fingerprint::new();
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
