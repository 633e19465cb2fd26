//! Sets of slot numbers.

use std::ops::Range;

/// A set of slot numbers with one bit each. Memory is proportional to the highest number.
#[derive(Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
    len: u64,
    /// No member is in a word before this index.
    first_word: usize,
}

fn place(slot: u64) -> (usize, u64) {
    // A slot lies in the file, so its number is far below `usize::MAX` on 64 bits. On other targets, growing
    // the vector fails first.
    (usize::try_from(slot / 64).unwrap_or(usize::MAX), 1 << (slot % 64))
}

impl SlotSet {
    /// Returns whether a slot is a member.
    pub fn contains(&self, slot: u64) -> bool {
        let (word, bit) = place(slot);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds a slot, which must lie in the file, because memory is allocated up to its number.
    pub fn insert(&mut self, slot: u64) {
        let (word, bit) = place(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word).filter(|bits| **bits & bit == 0) {
            *bits |= bit;
            self.len += 1;
            self.first_word = self.first_word.min(word);
        }
    }

    /// Adds `slots` up to the first one that is already a member. Returns that slot, or `None` if all were
    /// new.
    pub fn insert_new(&mut self, slots: Range<u64>) -> Option<u64> {
        for slot in slots {
            let before = self.len;
            self.insert(slot);
            if self.len == before {
                return Some(slot);
            }
        }
        None
    }

    /// Removes a slot.
    pub fn remove(&mut self, slot: u64) {
        let (word, bit) = place(slot);
        if let Some(bits) = self.words.get_mut(word).filter(|bits| **bits & bit != 0) {
            *bits &= !bit;
            self.len -= 1;
        }
    }

    /// Returns the number of members.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns the lowest member.
    pub fn first(&mut self) -> Option<u64> {
        let word = self.words.iter().skip(self.first_word).position(|bits| *bits != 0);
        self.first_word += word?;
        let bits = self.words.get(self.first_word)?;
        Some(self.first_word as u64 * 64 + u64::from(bits.trailing_zeros()))
    }

    /// Removes and returns the lowest member that is not below `lowest`.
    pub fn take_first(&mut self, lowest: u64) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let mut found = self.first()?;
        if found < lowest {
            let end = self.words.len() as u64 * 64;
            found = (lowest..end).find(|slot| self.contains(*slot))?;
        }
        self.remove(found);
        Some(found)
    }

    /// Returns one past the highest member.
    pub fn end(&self) -> u64 {
        match self.words.iter().enumerate().rfind(|(_, bits)| **bits != 0) {
            Some((word, bits)) => (word as u64 + 1) * 64 - u64::from(bits.leading_zeros()),
            None => 0,
        }
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the lowest slot from `from` on that is not a member.
    pub fn first_unused(&self, from: u64) -> u64 {
        let mut slot = from;
        loop {
            match self.bits_from(slot) {
                // Past the highest word there are no members.
                None => return slot,
                Some(bits) if bits == u64::MAX >> (slot % 64) => {
                    slot = (slot / 64 + 1) * 64;
                }
                Some(bits) => return slot + u64::from(bits.trailing_ones()),
            }
        }
    }

    /// Returns the lowest member from `from` on.
    pub fn first_used(&self, from: u64) -> Option<u64> {
        let mut slot = from;
        loop {
            match self.bits_from(slot)? {
                0 => slot = (slot / 64 + 1) * 64,
                bits => return Some(slot + u64::from(bits.trailing_zeros())),
            }
        }
    }

    /// Returns the bits of one word from a slot on, lowest first.
    fn bits_from(&self, slot: u64) -> Option<u64> {
        self.words.get(place(slot).0).map(|bits| bits >> (slot % 64))
    }

    /// Returns the numbers below the highest member that are not in the set.
    pub(super) fn complement(mut self) -> Self {
        let end = self.end();
        let (last, bit) = place(end);
        self.words.truncate(last + 1);
        for word in &mut self.words {
            *word = !*word;
        }
        if let Some(word) = self.words.get_mut(last) {
            *word &= bit - 1;
        }
        let len = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words: self.words, len, first_word: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_gaps_are_found() {
        let mut set = SlotSet::default();
        (0..130).chain(200..201).for_each(|slot| set.insert(slot));
        set.insert(7);
        assert_eq!((set.len(), set.end()), (131, 201));
        assert_eq!((set.first_unused(0), set.first_used(130)), (130, Some(200)));
        assert_eq!((set.first_unused(200), set.first_used(201)), (201, None));
        assert_eq!((set.first_used(63), set.first_unused(1000)), (Some(63), 1000));
        set.insert(255);
        assert_eq!((set.first_unused(255), set.first_used(201)), (256, Some(255)));
    }
}
