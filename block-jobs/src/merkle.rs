//! A hash of a disk's content as the root of a tree, in which zeros cost nothing however many there are.

/// Bytes in a leaf. The last one is filled up with zeros.
pub(crate) const LEAF: u64 = 64 << 10;

/// Levels above the leaves: enough for 2^63 bytes.
const LEVELS: usize = 48;

type Hash = [u8; 32];

/// The tree, built from leaves in order; leaves left out are zeros.
#[derive(Debug)]
pub(crate) struct Merkle {
    /// The root of a tree of zeros, by level.
    zeros: Vec<Hash>,
    /// Roots of finished trees, the largest first.
    stack: Vec<(usize, Hash)>,
    /// Leaves in the stack.
    next: u64,
}

/// The hash of a leaf.
pub(crate) fn leaf(bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes);
    let missing = LEAF.saturating_sub(bytes.len() as u64) as usize;
    hasher.update(&vec![0; missing]);
    *hasher.finalize().as_bytes()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}

impl Merkle {
    pub fn new() -> Self {
        let mut zeros = vec![leaf(&[])];
        for level in 0..LEVELS {
            let below = zeros.get(level).copied().unwrap_or_default();
            zeros.push(parent(&below, &below));
        }
        Self { zeros, stack: Vec::new(), next: 0 }
    }

    /// Adds leaf number `index`, which comes behind all that were added before.
    pub fn add(&mut self, index: u64, hash: Hash) {
        self.zeros_to(index);
        self.push(0, hash);
    }

    /// The root of the tree over a disk of `size` bytes, hashed with the size.
    pub fn finish(mut self, size: u64) -> Hash {
        let leaves = size.div_ceil(LEAF).max(1).next_power_of_two();
        self.zeros_to(leaves);
        let root = self.stack.first().map_or([0; 32], |(_, hash)| *hash);
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"block-img digest 1\0").update(&size.to_le_bytes()).update(&root);
        *hasher.finalize().as_bytes()
    }

    /// Fills up with zeros to leaf `end`, in trees as large as they can be.
    fn zeros_to(&mut self, end: u64) {
        while self.next < end {
            let room = (end - self.next).ilog2();
            let level = room.min(self.next.trailing_zeros()) as usize;
            let hash = self.zeros.get(level).copied().unwrap_or_default();
            self.push(level, hash);
        }
    }

    fn push(&mut self, level: usize, hash: Hash) {
        self.next += 1 << level;
        let (mut level, mut hash) = (level, hash);
        while let Some((below, left)) = self.stack.last().copied() {
            if below != level {
                break;
            }
            self.stack.pop();
            hash = parent(&left, &hash);
            level += 1;
        }
        self.stack.push((level, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
                parent(&plain(left), &plain(right))
            }
        }
    }

    #[test]
    fn leaves_left_out_are_zeros() {
        let mut leaves = vec![leaf(&[]); 16];
        leaves[3] = leaf(b"three");
        leaves[4] = leaf(b"four");
        leaves[11] = leaf(b"eleven");
        let size = 13 * LEAF - 5;
        let mut expected = blake3::Hasher::new();
        expected.update(b"block-img digest 1\0");
        expected.update(&size.to_le_bytes());
        expected.update(&plain(&leaves));

        let mut tree = Merkle::new();
        for index in [3, 4, 11] {
            tree.add(index, leaves[index as usize]);
        }
        assert_eq!(tree.finish(size), *expected.finalize().as_bytes());
    }

    #[test]
    fn a_leaf_is_filled_up_with_zeros() {
        let mut whole = vec![0; LEAF as usize];
        whole[0] = 9;
        assert_eq!(leaf(&whole), leaf(&[9]));
    }
}
