//! Which slots are in use: one bit each, for as many slots as the file and the map can have.

/// A set of slots below a fixed bound.
#[derive(Debug)]
pub(crate) struct SlotBits {
    words: Vec<u64>,
    len: u64,
    end: u64,
}

impl SlotBits {
    /// The empty set of slots below `bound`. Memory is taken as members come in.
    pub(crate) fn new(bound: u64) -> Self {
        let words = usize::try_from(bound.div_ceil(64)).unwrap_or(0);
        Self { words: vec![0; words], len: 0, end: 0 }
    }

    /// Adds a slot; `false` when it is a member already, or out of bounds.
    pub(crate) fn insert(&mut self, slot: u64) -> bool {
        let (word, bit) = place(slot);
        let Some(bits) = self.words.get_mut(word).filter(|bits| **bits & bit == 0) else {
            return false;
        };
        *bits |= bit;
        self.len = self.len.saturating_add(1);
        self.end = self.end.max(slot.saturating_add(1));
        true
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Behind the highest member.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The lowest slot from `from` on that is no member.
    pub(crate) fn first_unused(&self, from: u64) -> u64 {
        let mut slot = from;
        loop {
            let (word, bit) = place(slot);
            match self.words.get(word) {
                Some(bits) if *bits == u64::MAX => {
                    slot = (slot / 64).saturating_add(1).saturating_mul(64);
                }
                Some(bits) if bits & bit != 0 => slot = slot.saturating_add(1),
                _ => return slot,
            }
        }
    }

    /// The lowest member from `from` on.
    pub(crate) fn first_used(&self, from: u64) -> Option<u64> {
        let mut slot = from;
        while slot < self.end {
            let (word, bit) = place(slot);
            match self.words.get(word) {
                Some(0) => slot = (slot / 64).saturating_add(1).saturating_mul(64),
                Some(bits) if bits & bit != 0 => return Some(slot),
                _ => slot = slot.saturating_add(1),
            }
        }
        None
    }
}

fn place(slot: u64) -> (usize, u64) {
    (usize::try_from(slot / 64).unwrap_or(usize::MAX), 1u64 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_gaps_are_found() {
        let mut bits = SlotBits::new(300);
        (0..130).chain(200..201).for_each(|slot| assert!(bits.insert(slot)));
        assert!(!bits.insert(7), "twice");
        assert!(!bits.insert(100_000), "out of bounds");
        assert_eq!((bits.len(), bits.end()), (131, 201));
        assert_eq!((bits.first_unused(0), bits.first_used(130)), (130, Some(200)));
        assert_eq!((bits.first_unused(200), bits.first_used(201)), (201, None));
    }
}
