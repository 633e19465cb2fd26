//! The windows of a file that probers examine.

/// The length of a file, some windows of its bytes, and optionally its name.
///
/// A byte that was not read, or is past the end of the file, is *absent*. No accessor substitutes a zero for it.
#[derive(Clone, Debug, Default)]
pub struct ProbeInput {
    len: u64,
    name: Option<String>,
    windows: Vec<Window>,
    limits_hit: Vec<String>,
}

#[derive(Clone, Debug)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl ProbeInput {
    /// Creates an input of `len` bytes with no windows.
    pub fn empty(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// Creates an input that holds a whole file. [`Registry::probe_bytes`](crate::Registry::probe_bytes) holds only the
    /// windows that a probe of the file would read.
    pub fn of_bytes(file: &[u8]) -> Self {
        let mut input = Self::empty(u64::try_from(file.len()).unwrap_or(u64::MAX));
        input.add_window(0, file.to_vec());
        input
    }

    /// Sets the file name. Only its last component matters.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds a window. Bytes past the end of the file are dropped.
    pub fn add_window(&mut self, offset: u64, mut bytes: Vec<u8>) {
        let room = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes.truncate(room);
        if !bytes.is_empty() {
            self.windows.push(Window { offset, bytes });
        }
    }

    /// Returns this input as if `bytes` had been written at `offset`. Only bytes inside existing windows change. A
    /// write past the end makes the file longer, and the old tail windows keep their offsets.
    #[must_use]
    pub fn overlaid(&self, offset: u64, bytes: &[u8]) -> Self {
        let mut after = self.clone();
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        after.len = after.len.max(end);
        for window in &mut after.windows {
            let (from, skip) = if offset >= window.offset {
                (offset.saturating_sub(window.offset), 0)
            } else {
                (0, window.offset.saturating_sub(offset))
            };
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let target = window.bytes.get_mut(from..).unwrap_or_default();
            let source = bytes.get(skip..).unwrap_or_default();
            for (to, from) in target.iter_mut().zip(source) {
                *to = *from;
            }
        }
        after
    }

    /// Returns the length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the file name, if any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the file name ends in `.extension`, in any case.
    pub fn has_extension(&self, extension: &str) -> bool {
        let name = self.name.as_deref().unwrap_or_default();
        let Some(at) = name.len().checked_sub(extension.len()) else {
            return false;
        };
        match (name.get(..at), name.get(at..)) {
            (Some(stem), Some(end)) => stem.ends_with('.') && end.eq_ignore_ascii_case(extension),
            _ => false,
        }
    }

    /// Returns `len` bytes at `offset` if one window holds them all.
    pub fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.windows.iter().find_map(|window| {
            let from = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
            window.bytes.get(from..from.checked_add(len)?)
        })
    }

    /// Returns up to `len` bytes that were read at `offset`, possibly none.
    pub fn prefix(&self, offset: u64, len: usize) -> &[u8] {
        self.windows
            .iter()
            .filter_map(|window| {
                let from = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
                let rest = window.bytes.get(from..)?;
                rest.get(..len.min(rest.len()))
            })
            .max_by_key(|found| found.len())
            .unwrap_or_default()
    }

    /// Returns `len` bytes that start `from_end` bytes before the end of the file.
    pub fn tail(&self, from_end: u64, len: usize) -> Option<&[u8]> {
        self.bytes(self.len.checked_sub(from_end)?, len)
    }

    /// Whether the file has `expected` at `offset`.
    pub fn has(&self, offset: u64, expected: &[u8]) -> bool {
        self.bytes(offset, expected.len()) == Some(expected)
    }

    /// Whether the range extends past the end of the file, where no read can succeed.
    pub fn is_past_end(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_none_or(|end| end > self.len)
    }

    /// Returns the `N` bytes at `offset`.
    pub fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        self.bytes(offset, N)?.try_into().ok()
    }

    /// Returns the byte at `offset`.
    pub fn u8(&self, offset: u64) -> Option<u8> {
        self.array::<1>(offset).map(|[byte]| byte)
    }

    /// Returns the little-endian 16-bit number at `offset`.
    pub fn u16_le(&self, offset: u64) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    /// Returns the big-endian 16-bit number at `offset`.
    pub fn u16_be(&self, offset: u64) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }

    /// Returns the little-endian 32-bit number at `offset`.
    pub fn u32_le(&self, offset: u64) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// Returns the big-endian 32-bit number at `offset`.
    pub fn u32_be(&self, offset: u64) -> Option<u32> {
        self.array(offset).map(u32::from_be_bytes)
    }

    /// Returns the little-endian 64-bit number at `offset`.
    pub fn u64_le(&self, offset: u64) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// Returns the big-endian 64-bit number at `offset`.
    pub fn u64_be(&self, offset: u64) -> Option<u64> {
        self.array(offset).map(u64::from_be_bytes)
    }

    /// Returns the windows as `(offset, length)` in bytes, sorted.
    pub fn windows(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self
            .windows
            .iter()
            .map(|window| (window.offset, u64::try_from(window.bytes.len()).unwrap_or(u64::MAX)))
            .collect();
        all.sort_unstable();
        all
    }

    /// Returns the names of the limits that stopped the plan from reading more. Usually empty.
    pub fn limits_hit(&self) -> &[String] {
        &self.limits_hit
    }

    pub(super) fn note_limit(&mut self, limit: &str) {
        if !self.limits_hit.iter().any(|known| known == limit) {
            self.limits_hit.push(limit.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProbeInput;

    #[test]
    fn bytes_past_the_end_are_absent() {
        let input = ProbeInput::of_bytes(&[1, 2, 3, 4]);
        assert_eq!(input.u32_le(0), Some(0x0403_0201));
        assert_eq!(input.u32_le(1), None);
        assert_eq!(input.bytes(4, 1), None);
        assert_eq!(input.tail(2, 2), Some(&[3, 4][..]));
        assert_eq!(input.tail(5, 1), None);
        assert!(input.is_past_end(u64::MAX, 2));
    }

    #[test]
    fn an_extension_is_the_end_of_the_name_after_a_dot() {
        let input = ProbeInput::empty(0).with_name("disk.VDI");
        assert!(input.has_extension("vdi"));
        assert!(!ProbeInput::empty(0).with_name("vdi").has_extension("vdi"));
        assert!(!ProbeInput::empty(0).with_name("éa").has_extension("vdi"));
    }

    #[test]
    fn an_overlay_changes_every_window_it_touches() {
        let mut input = ProbeInput::empty(100);
        input.add_window(0, vec![0; 10]);
        input.add_window(5, vec![0; 10]);
        let after = input.overlaid(8, &[1, 2, 3]);
        assert_eq!(after.bytes(0, 10), Some(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2][..]));
        assert_eq!(after.bytes(8, 4), Some(&[1, 2, 3, 0][..]));
        assert_eq!(input.overlaid(98, &[0; 4]).len(), 102);
    }
}
