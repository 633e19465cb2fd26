//! An inspection in progress: bounded reads of one storage and the findings so far.

use super::code::{Code, Severity};
use super::limits::InspectLimits;
use super::paths;
use crate::probe::{Evidence, Location, ProbeInput};
use crate::{BoxFuture, ErrorKind, Result, Storage};

/// A function that examines the metadata of some formats.
#[derive(Clone, Copy, Debug)]
pub struct Inspector {
    /// The names of the formats.
    pub formats: &'static [&'static str],
    /// Reads the metadata and records findings.
    pub examine: for<'a, 'b> fn(&'a mut Examination<'b>) -> BoxFuture<'a, Result<()>>,
}

/// The state that inspectors share. [`Examination::input`] holds what was read, by absolute offset.
#[derive(Debug)]
pub struct Examination<'a> {
    storage: &'a dyn Storage,
    /// The bytes read so far, by absolute offset.
    pub input: ProbeInput,
    /// Read limits and thresholds for excessive values.
    pub limits: InspectLimits,
    virtual_size: Option<u64>,
    format: String,
    found: Vec<Found>,
    reads: u32,
    bytes: u64,
    limits_hit: Vec<String>,
}

/// A finding and its location. It does not say what that means for using the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The finding's stable name.
    pub code: Code,
    /// The finding's severity.
    pub severity: Severity,
    /// The format of the structure concerned.
    pub format: String,
    /// The location, or `None` if the finding concerns the whole file.
    pub at: Option<Location>,
    /// The first bytes at the location in hexadecimal. Empty if they are absent.
    pub hex: String,
    /// A name found in the file, escaped.
    pub name: Option<String>,
    /// A clause saying what was found and what was expected, escaped.
    pub message: String,
}

impl<'a> Examination<'a> {
    /// Starts an examination of `storage`. `input` holds what was already read.
    pub fn new(storage: &'a dyn Storage, input: ProbeInput, limits: InspectLimits) -> Self {
        Self {
            storage,
            input,
            limits,
            virtual_size: None,
            format: String::new(),
            found: Vec::new(),
            reads: 0,
            bytes: 0,
            limits_hit: Vec::new(),
        }
    }

    /// Sets the format for the findings that follow.
    pub fn of_format(&mut self, format: &str) {
        format.clone_into(&mut self.format);
    }

    /// Reads `len` bytes at `offset` into the input unless already there. Returns `false` if the file does not hold
    /// them all or a limit forbids the read.
    pub async fn need(&mut self, offset: u64, len: u64) -> Result<bool> {
        let Ok(size) = usize::try_from(len) else {
            return Ok(false);
        };
        if self.input.bytes(offset, size).is_some() {
            return Ok(true);
        }
        if self.input.is_past_end(offset, len) {
            return Ok(false);
        }
        let bytes = self.bytes.saturating_add(len);
        if bytes > self.limits.read_bytes || self.reads >= self.limits.reads {
            self.limit("inspect reads");
            return Ok(false);
        }
        self.bytes = bytes;
        self.reads = self.reads.saturating_add(1);
        let mut window = vec![0; size];
        match self.storage.read_at(offset, &mut window).await {
            Ok(()) => {
                self.input.add_window(offset, window);
                Ok(true)
            }
            // The file shrank during the read.
            Err(error) if error.kind() == ErrorKind::OutOfRange => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Like [`need`](Self::need), but truncates the range to the file. Returns the number of bytes available.
    pub async fn need_some(&mut self, offset: u64, len: u64) -> Result<u64> {
        let len = len.min(self.input.len().saturating_sub(offset));
        Ok(if len > 0 && self.need(offset, len).await? { len } else { 0 })
    }

    /// Records that a limit cut the examination short.
    pub fn limit(&mut self, what: &str) {
        if !self.limits_hit.iter().any(|known| known == what) {
            self.limits_hit.push(what.to_owned());
        }
    }

    /// Records a finding at a location.
    pub fn find(&mut self, code: Code, at: impl Into<Location>, message: impl Into<String>) {
        self.push(code, code.severity(), Some(at.into()), None, message.into());
    }

    /// Records a finding at a location if `present`.
    pub fn find_if(
        &mut self,
        present: bool,
        code: Code,
        at: impl Into<Location>,
        message: impl Into<String>,
    ) {
        if present {
            self.find(code, at, message);
        }
    }

    /// Records a finding with a severity other than the code's default.
    pub fn find_as(
        &mut self,
        code: Code,
        severity: Severity,
        at: impl Into<Location>,
        message: impl Into<String>,
    ) {
        self.push(code, severity, Some(at.into()), None, message.into());
    }

    /// Records a finding about the whole file.
    pub fn find_overall(&mut self, code: Code, message: impl Into<String>) {
        self.push(code, code.severity(), None, None, message.into());
    }

    /// Records that the file contains a name: one finding for `code`, one if it is the file's own name, and one for
    /// each name rule it breaks.
    pub fn reference(
        &mut self,
        code: Code,
        at: impl Into<Location>,
        name: &[u8],
        message: impl Into<String>,
    ) {
        let at = at.into();
        let escaped = paths::escaped(name);
        self.push(code, code.severity(), Some(at), Some(escaped.clone()), message.into());
        if paths::is_same_file(name, self.storage.uri()) {
            let message = "the name is that of the file itself".to_owned();
            self.push(Code::Loop, Code::Loop.severity(), Some(at), Some(escaped.clone()), message);
        }
        for (broken, why) in paths::broken_rules(name) {
            self.push(broken, broken.severity(), Some(at), Some(escaped.clone()), why.to_owned());
        }
    }

    /// Records a finding if a table exceeds `cap` bytes or the caller's limit, and one if it ends more than `slack`
    /// bytes past the end of the file.
    pub fn table(
        &mut self,
        what: &str,
        field: impl Into<Location>,
        place: (Option<u64>, Option<u64>),
        cap: u64,
        slack: u64,
    ) {
        let field = field.into();
        let len = place.1.unwrap_or(u64::MAX);
        let cap = cap.min(self.limits.table_bytes);
        if len > cap {
            let message = format!("the {what} takes {len} bytes, wanted at most {cap}");
            self.find(Code::TableExcessive, field, message);
        }
        let end = place.0.and_then(|offset| offset.checked_add(len));
        let room = self.input.len().saturating_add(slack);
        if end.is_none_or(|end| end > room) {
            let message = format!(
                "the {what} ends at {}, past the end of the file at {:#x}",
                end.map_or_else(|| "no number of 64 bits".to_owned(), |end| format!("{end:#x}")),
                self.input.len()
            );
            self.find(Code::OutOfBounds, field, message);
        }
    }

    /// Records a finding for each pair of structures that share bytes. Empty structures share none.
    pub fn overlaps(&mut self, parts: &[(&str, u64, u64)]) {
        for (index, (a, a_start, a_len)) in parts.iter().enumerate() {
            for (b, b_start, b_len) in parts.iter().skip(index.saturating_add(1)) {
                let (a_end, b_end) =
                    (a_start.saturating_add(*a_len), b_start.saturating_add(*b_len));
                if *a_len > 0 && *b_len > 0 && *a_start < b_end && *b_start < a_end {
                    let at = (*a_start.max(b_start), 0u32);
                    self.find(Code::Overlap, at, format!("the {a} and the {b} share bytes"));
                }
            }
        }
    }

    /// Sets the disk's size in bytes, and records a finding if it is excessive.
    pub fn disk_size(&mut self, at: impl Into<Location>, size: Option<u64>) {
        let cap = self.limits.virtual_size;
        self.virtual_size = size;
        if size.is_none_or(|size| size > cap) {
            let size = size.map_or_else(|| "over 2^64".to_owned(), |size| size.to_string());
            let message = format!("the disk has {size} bytes, wanted at most {cap}");
            self.find(Code::SizeExcessive, at, message);
        }
    }

    /// Records evidence against the file as a finding.
    pub fn evidence(&mut self, code: Code, evidence: &Evidence, message: String) {
        let at =
            Location { offset: evidence.offset, from_end: evidence.from_end, len: evidence.len };
        self.push(code, code.severity(), Some(at), None, message);
    }

    fn push(
        &mut self,
        code: Code,
        severity: Severity,
        at: Option<Location>,
        name: Option<String>,
        message: String,
    ) {
        let same = |found: &Found| found.code == code && found.at == at && found.name == name;
        // A hostile file could cause one finding for each of its bytes.
        if self.found.len() >= 1000 {
            self.limit("findings");
            return;
        }
        if self.found.iter().any(same) {
            return;
        }
        let hex = at.map_or_else(String::new, |at| {
            let len = usize::try_from(at.len).unwrap_or(0).min(16);
            let bytes = at
                .absolute(self.input.len())
                .map_or(&[][..], |offset| self.input.prefix(offset, len));
            crate::probe::to_hex(bytes)
        });
        let format = self.format.clone();
        // Text from the file appears in a report only escaped, including inside a message.
        let message = if message.contains(char::is_control) {
            message.escape_debug().to_string()
        } else {
            message
        };
        self.found.push(Found { code, severity, format, at, hex, name, message });
    }

    /// Returns the examined storage.
    pub fn storage(&self) -> &'a dyn Storage {
        self.storage
    }

    /// Returns the disk's size in bytes as set by an inspector.
    pub fn virtual_size(&self) -> Option<u64> {
        self.virtual_size
    }

    /// Ends the examination. Returns the findings in the order they were made, and the limits that cut it short. If
    /// there are any, one more finding says so.
    pub fn finish(mut self) -> (Vec<Found>, Vec<String>) {
        if !self.limits_hit.is_empty() {
            let message = format!("not everything was examined: {}", self.limits_hit.join(", "));
            self.find_overall(Code::Limit, message);
        }
        (self.found, self.limits_hit)
    }
}
