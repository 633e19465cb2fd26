//! The checksums used by image formats.

/// Parameters of a reflected 32-bit CRC.
const IEEE: u32 = 0xEDB8_8320;
const CASTAGNOLI: u32 = 0x82F6_3B78;

/// CRC-32 as in gzip, GPT and xz.
pub(crate) fn crc32(parts: &[&[u8]]) -> u32 {
    !crc(&IEEE_TABLE, u32::MAX, parts)
}

/// CRC-32 from `seed` without the final inversion, as in LVM2.
pub(crate) fn crc32_raw(seed: u32, parts: &[&[u8]]) -> u32 {
    crc(&IEEE_TABLE, seed, parts)
}

/// CRC-32C as in VHDX and btrfs.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    !crc(&CASTAGNOLI_TABLE, u32::MAX, parts)
}

/// Adler-32 as in zlib and EWF.
pub(crate) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = a.wrapping_add(u32::from(*byte)) % 65_521;
        b = b.wrapping_add(a) % 65_521;
    }
    (b << 16) | a
}

/// Fletcher-64 over 32-bit little-endian words, as in APFS: over all bytes after the checksum.
pub(crate) fn fletcher64(bytes: &[u8]) -> u64 {
    const MODULUS: u64 = 0xFFFF_FFFF;
    let (mut low, mut high) = (0u64, 0u64);
    for word in bytes.chunks_exact(4) {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        low = low.wrapping_add(u64::from(word)) % MODULUS;
        high = high.wrapping_add(low) % MODULUS;
    }
    let check_low = MODULUS.wrapping_sub(low.wrapping_add(high) % MODULUS);
    let check_high = MODULUS.wrapping_sub(low.wrapping_add(check_low) % MODULUS);
    (check_high << 32) | check_low
}

/// The ones' complement of the sum of all bytes, as in VHD. `parts` must leave out the checksum field.
pub(crate) fn inverted_sum(parts: &[&[u8]]) -> u32 {
    !sum(parts)
}

/// The plain sum of all bytes.
pub(crate) fn sum(parts: &[&[u8]]) -> u32 {
    parts.iter().copied().flatten().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

fn crc(table: &[u32; 256], seed: u32, parts: &[&[u8]]) -> u32 {
    parts.iter().copied().flatten().fold(seed, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        let entry = table.get(usize::from(low ^ byte)).copied().unwrap_or(0);
        (crc >> 8) ^ entry
    })
}

const IEEE_TABLE: [u32; 256] = table(IEEE);
const CASTAGNOLI_TABLE: [u32; 256] = table(CASTAGNOLI);

// The loop variables index the table. All of it is evaluated at compile time, where an overflow does not build.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut index = 0usize;
    while index < 256 {
        let mut entry = index as u32;
        let mut bit = 0;
        while bit < 8 {
            entry = if entry & 1 == 1 { (entry >> 1) ^ polynomial } else { entry >> 1 };
            bit += 1;
        }
        table[index] = entry;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_have_their_published_check_values() {
        let text = b"123456789";
        assert_eq!(crc32(&[text]), 0xCBF4_3926);
        assert_eq!(crc32(&[&text[..4], &text[4..]]), 0xCBF4_3926);
        assert_eq!(crc32c(&[text]), 0xE306_9283);
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(inverted_sum(&[&[1, 2], &[3]]), !6);
    }

    #[test]
    fn a_block_with_its_fletcher_checksum_sums_to_zero() {
        let body: Vec<u8> = (0..64u8).collect();
        let check = fletcher64(&body);
        let mut low = 0u64;
        let mut high = 0u64;
        let words = body.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap()));
        for word in words.chain([check as u32, (check >> 32) as u32]) {
            low = (low + u64::from(word)) % 0xFFFF_FFFF;
            high = (high + low) % 0xFFFF_FFFF;
        }
        assert_eq!((low, high), (0, 0));
    }
}
