//! The bytes of a file in shared pages, so that a snapshot copies nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StorageExtent;

const PAGE: usize = 4096;
pub(crate) const PAGE64: u64 = PAGE as u64;

/// A page and the digest of its bytes.
struct Page {
    bytes: [u8; PAGE],
    /// 0 if not computed yet.
    digest: AtomicU64,
}

impl Page {
    fn zeros() -> Self {
        Self { bytes: [0; PAGE], digest: AtomicU64::new(0) }
    }

    /// Returns the bytes for modification and resets the digest.
    fn change(page: &mut Arc<Self>) -> &mut [u8; PAGE] {
        let page = Arc::make_mut(page);
        *page.digest.get_mut() = 0;
        &mut page.bytes
    }

    fn digest(&self) -> u64 {
        let known = self.digest.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let digest = digest_of(&self.bytes);
        self.digest.store(digest, Ordering::Relaxed);
        digest
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, digest: AtomicU64::new(self.digest.load(Ordering::Relaxed)) }
    }
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Page {}

/// Mixes the bits of a number, so that adjacent inputs give unrelated outputs.
fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns a nonzero digest of a page.
fn digest_of(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let digest =
        words.iter().map(|word| u64::from_le_bytes(*word)).fold(0, |sum, word| mix(sum ^ word));
    digest.max(1)
}

/// The bytes of a file in memory, sparse. Clones are cheap, because they share unmodified pages.
///
/// A length may be at most `i64::MAX` bytes, and a range may end there at most: [`MemStorage`](crate::MemStorage) checks
/// its callers' requests.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes, {} pages)", self.len, self.pages.len())
    }
}

/// Splits `range` at page boundaries into (page, first byte in it, end in it).
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let page = at / PAGE64;
        let start = (at % PAGE64) as usize;
        let end = PAGE.min(start + (range.end - at) as usize);
        at += (end - start) as u64;
        Some((page, start, end))
    })
}

impl Image {
    /// Creates a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut image = Self::default();
        image.write(0, bytes);
        image
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a 64-bit digest of the length and of the bytes outside `ignored`. The digest of a shared page is
    /// computed once.
    pub fn digest(&self, ignored: &[Range<u64>]) -> u64 {
        let mut zeros = None;
        self.pages.iter().fold(mix(self.len), |sum, (number, page)| {
            let start = number * PAGE64;
            let mut digest = page.digest();
            if ignored.iter().any(|range| range.start < start + PAGE64 && start < range.end) {
                let mut bytes = page.bytes;
                for range in ignored {
                    let place = |at: u64| (at.clamp(start, start + PAGE64) - start) as usize;
                    bytes[place(range.start)..place(range.end)].fill(0);
                }
                digest = digest_of(&bytes);
            }
            // A page of zeros reads the same as a hole.
            let hole = *zeros.get_or_insert_with(|| digest_of(&[0; PAGE]));
            if digest == hole { sum } else { sum ^ mix(digest ^ mix(*number)) }
        })
    }

    /// Reads into `buf` from `offset`. Bytes past the end are zeros.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let start = (at % PAGE64) as usize;
            let (target, tail) = rest.split_at_mut(rest.len().min(PAGE - start));
            match self.pages.get(&(at / PAGE64)) {
                Some(page) => target.copy_from_slice(&page.bytes[start..start + target.len()]),
                None => target.fill(0),
            }
            at = at.wrapping_add(target.len() as u64);
            rest = tail;
        }
    }

    /// Writes `bytes` at `offset`, extending the file if needed.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset.saturating_add(bytes.len() as u64);
        self.len = self.len.max(end);
        let mut done = 0;
        for (page, start, stop) in pieces(offset..end) {
            let source = &bytes[done..done + (stop - start)];
            let page = self.pages.entry(page).or_insert_with(|| Arc::new(Page::zeros()));
            Page::change(page)[start..stop].copy_from_slice(source);
            done += stop - start;
        }
    }

    /// Zeroes a range, extending the file if needed.
    pub fn zero(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.len = self.len.max(range.end);
            self.clear(range);
        }
    }

    /// Truncates or extends the file. New bytes read as zeros.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len..self.len.next_multiple_of(PAGE64));
        }
        self.len = len;
    }

    /// Returns all bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Returns the offset of the first byte in which two files differ.
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let empty = Arc::new(Page::zeros());
        for page in self.pages.keys().chain(other.pages.keys()) {
            let ours = self.pages.get(page).unwrap_or(&empty);
            let theirs = other.pages.get(page).unwrap_or(&empty);
            if Arc::ptr_eq(ours, theirs) {
                continue;
            }
            if let Some(at) = ours.bytes.iter().zip(theirs.bytes.iter()).position(|(a, b)| a != b) {
                return Some(page * PAGE64 + at as u64);
            }
        }
        (self.len != other.len).then(|| self.len.min(other.len))
    }

    /// Returns the number of bytes in stored pages.
    pub fn stored_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE64
    }

    /// Returns the number of stored pages after a write of `range`.
    pub(crate) fn pages_with(&self, range: Range<u64>) -> u64 {
        let new = pieces(range).filter(|(page, ..)| !self.pages.contains_key(page));
        self.pages.len() as u64 + new.count() as u64
    }

    fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<u64> = self
            .pages
            .range(range.start / PAGE64..range.end.div_ceil(PAGE64))
            .map(|(page, _)| *page)
            .collect();
        for page in touched {
            let start = range.start.max(page * PAGE64) - page * PAGE64;
            let end = range.end.min((page + 1) * PAGE64) - page * PAGE64;
            if (start, end) == (0, PAGE64) {
                self.pages.remove(&page);
            } else if let Some(page) = self.pages.get_mut(&page) {
                Page::change(page)[start as usize..end as usize].fill(0);
            }
        }
    }

    /// Appends the extents of `range` to `out`, in units of pages.
    pub fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) {
        let end = range.end.min(self.len);
        let mut at = range.start;
        let mut add = |start: u64, end: u64, data: bool| {
            if start >= end {
                return;
            }
            let len = end - start;
            match out.last_mut() {
                Some(last) if last.data == data && last.start + last.len == start => {
                    last.len += len;
                }
                _ => out.push(StorageExtent { start, len, data }),
            }
        };
        if at < end {
            for (page, _) in self.pages.range(at / PAGE64..end.div_ceil(PAGE64)) {
                let start = (page * PAGE64).max(at);
                let stop = ((page + 1) * PAGE64).min(end);
                add(at, start, false);
                add(start, stop, true);
                at = stop.max(at);
            }
        }
        add(at, end, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_does_not_see_later_changes_and_a_cut_tail_reads_as_zeros_again() {
        let mut image = Image::of(&[7; 10_000]);
        let before = image.clone();
        image.write(5000, &[1; 10]);
        assert_eq!(before.first_difference(&image), Some(5000));
        image.set_len(4100);
        image.set_len(9000);
        let mut buf = [9; 200];
        image.read(4050, &mut buf);
        assert_eq!((&buf[..50], &buf[50..]), (&[7; 50][..], &[0; 150][..]));
        assert_eq!(before.to_bytes(), [7; 10_000]);
    }

    #[test]
    fn files_have_one_digest_if_they_have_the_same_bytes_however_they_came_to_be() {
        let mut one = Image::of(&[7; 9000]);
        let mut other = Image::of(&[3; 9000]);
        assert_ne!(one.digest(&[]), other.digest(&[]));
        other.write(0, &[7; 9000]);
        assert_eq!(one.digest(&[]), other.digest(&[]));
        other.write(5000, &[1; 10]);
        assert_ne!(one.digest(&[]), other.digest(&[]));
        let ignored = std::slice::from_ref(&(4990..5010));
        assert_eq!(one.digest(ignored), other.digest(ignored));
        one.set_len(1 << 20);
        other.set_len(1 << 20);
        one.zero(0..9000);
        other.write(0, &[0; 9000]);
        assert_eq!(one.digest(&[]), other.digest(&[]));
        other.set_len(1 << 21);
        assert_ne!(one.digest(&[]), other.digest(&[]));
    }
}
