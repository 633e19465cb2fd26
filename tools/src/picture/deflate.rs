//! Compression of pictures with few colours, to a zlib stream with the fixed codes of RFC 1951.

/// Compresses `bytes`. Looks for repetitions only at the given distances (1 to 32768), which suffices for a picture of
/// equal cells.
pub(crate) fn zlib(bytes: &[u8], distances: &[usize]) -> Vec<u8> {
    let mut out = Bits { bytes: vec![0x78, 0x01], pending: 0, count: 0 };
    // The last block, with fixed codes.
    out.put(1, 1);
    out.put(1, 2);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let longest = distances
            .iter()
            .map(|distance| (repeated(bytes, at, *distance), *distance))
            .max_by_key(|(len, distance)| (*len, usize::MAX - distance));
        match longest {
            Some((len, distance)) if len >= SHORTEST => {
                out.length(len);
                out.distance(distance);
                at += len;
            }
            _ => {
                out.literal(u16::from(*byte));
                at += 1;
            }
        }
    }
    out.literal(END);
    let mut stream = out.finish();
    stream.extend(adler32(bytes).to_be_bytes());
    stream
}

const SHORTEST: usize = 3;
const LONGEST: usize = 258;
const END: u16 = 256;

/// Returns how many bytes from `at` on equal the bytes `distance` before them, at most [`LONGEST`].
fn repeated(bytes: &[u8], at: usize, distance: usize) -> usize {
    let Some(before) = at.checked_sub(distance) else { return 0 };
    let (Some(here), Some(there)) = (bytes.get(at..), bytes.get(before..)) else { return 0 };
    here.iter().zip(there).take(LONGEST).take_while(|(a, b)| a == b).count()
}

/// A stream of bits, which fill each byte from its lowest bit.
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        self.pending |= value << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Appends a Huffman code, highest bit first.
    fn code(&mut self, code: u16, bits: u32) {
        self.put(u32::from(code.reverse_bits()) >> (16 - bits), bits);
    }

    /// Appends a symbol of the alphabet of literals and lengths (RFC 1951 §3.2.6).
    fn literal(&mut self, symbol: u16) {
        match symbol {
            0..144 => self.code(0x30 + symbol, 8),
            144..256 => self.code(0x190 + symbol - 144, 9),
            256..280 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// Appends a length from 3 to 258 (RFC 1951 §3.2.5).
    fn length(&mut self, len: usize) {
        if len == LONGEST {
            return self.literal(285);
        }
        let (symbol, extra, bits) = split(len - SHORTEST, 2);
        self.literal(257 + symbol);
        self.put(extra, bits);
    }

    /// Appends a distance from 1 to 32768.
    fn distance(&mut self, distance: usize) {
        let (symbol, extra, bits) = split(distance - 1, 1);
        self.code(symbol, 5);
        self.put(extra, bits);
    }

    fn finish(mut self) -> Vec<u8> {
        self.put(0, 7);
        self.bytes
    }
}

/// Returns the symbol of a number, the value of its extra bits and their count. The symbol holds `kept` bits after the
/// leading one.
fn split(value: usize, kept: u32) -> (u16, u32, u32) {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    let group = 1 << kept;
    if value < group {
        return (value as u16, 0, 0);
    }
    let bits = value.ilog2() - kept;
    let symbol = (bits + 1) * group + ((value >> bits) - group);
    (symbol as u16, value & ((1 << bits) - 1), bits)
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut low, mut high) = (1u32, 0u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % MODULUS;
        high = (high + low) % MODULUS;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder of the fixed codes, written from the RFC's tables and not from the encoder.
    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut at = 16;
        let mut bit = || {
            let bit = stream[at / 8] >> (at % 8) & 1;
            at += 1;
            usize::from(bit)
        };
        let mut number = |bits: usize| (0..bits).map(|place| bit() << place).sum::<usize>();
        assert_eq!((number(1), number(2)), (1, 1));
        let mut out = Vec::new();
        loop {
            let mut code = (0..7).fold(0, |code, _| code << 1 | number(1));
            let symbol = match code {
                0..=0x17 => 256 + code,
                _ => {
                    code = code << 1 | number(1);
                    match code {
                        0x30..=0xbf => code - 0x30,
                        0xc0..=0xc7 => 280 + code - 0xc0,
                        _ => 144 + (code << 1 | number(1)) - 0x190,
                    }
                }
            };
            match symbol {
                0..256 => out.push(symbol as u8),
                256 => break,
                _ => {
                    let base = [
                        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59,
                        67, 83, 99, 115, 131, 163, 195, 227, 258,
                    ][symbol - 257];
                    let extra = match symbol {
                        265..285 => (symbol - 261) / 4,
                        _ => 0,
                    };
                    let len = base + number(extra);
                    let symbol = (0..5).fold(0, |code, _| code << 1 | number(1));
                    let base = [
                        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513,
                        769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
                    ][symbol];
                    let distance = base + number((symbol / 2).saturating_sub(1));
                    for _ in 0..len {
                        out.push(out[out.len() - distance]);
                    }
                }
            }
        }
        let end = at.div_ceil(8);
        assert_eq!(stream[end..], adler32(&out).to_be_bytes());
        out
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let noise = |len: u32| (0..len).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8);
        let mut mixed: Vec<u8> = noise(3000).collect();
        for len in [1, 2, 3, 4, 10, 11, 12, 257, 258, 259, 600] {
            mixed.extend(std::iter::repeat_n(7, len));
            mixed.extend(noise(40));
        }
        for distance in [1, 2, 8, 31, 1000, 3000] {
            let bytes = [&mixed[..], &mixed[..]].concat();
            assert_eq!(inflate(&zlib(&bytes, &[1, distance])), bytes, "{distance}");
        }
        assert_eq!(inflate(&zlib(&[], &[1])), Vec::<u8>::new());
    }

    #[test]
    fn equal_cells_take_little_room() {
        let bytes = [5, 5, 5, 9].repeat(25_000);
        assert!(zlib(&bytes, &[1, 4]).len() < 1000);
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
