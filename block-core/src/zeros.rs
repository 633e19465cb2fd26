//! Detection of zeros at memory speed.

/// Returns whether all bytes are zero.
///
/// The compiler turns the loop into vector instructions. It stops at the first 128 bytes of data, or at the
/// first 4 KiB that begin with zeros but contain data.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| {
        let (lanes, rest) = page.as_chunks::<128>();
        let (first, others) = lanes.split_at(lanes.len().min(1));
        // Data usually shows in the first 128 bytes. The rest of the page then stays out of the cache.
        any_bit(first) == 0 && any_bit(others) == 0 && rest.iter().all(|byte| *byte == 0)
    })
}

/// Returns a value that is zero if and only if all bytes are zero.
fn any_bit(lanes: &[[u8; 128]]) -> u64 {
    let mut fold = [0u64; 16];
    for lane in lanes {
        let (words, _) = lane.as_chunks::<8>();
        for (sum, word) in fold.iter_mut().zip(words) {
            *sum |= u64::from_ne_bytes(*word);
        }
    }
    fold.iter().fold(0, |all, sum| all | sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_found() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, 127, 128, 4095, 4096, 8191, 9_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
