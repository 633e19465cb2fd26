//! An inspection in progress: bounded reads of one storage, and the findings so far.

use super::code::{Code, Severity};
use super::limits::InspectLimits;
use super::paths;
use crate::probe::{At, Evidence, ProbeInput};
use crate::{BoxFuture, ErrorKind, Result, Storage};

/// Examines the metadata of some formats.
#[derive(Clone, Copy, Debug)]
pub struct Inspector {
    /// The names of the formats.
    pub formats: &'static [&'static str],
    /// Reads what can do harm and records it.
    pub examine: for<'a, 'b> fn(&'a mut Examination<'b>) -> BoxFuture<'a, Result<()>>,
}

/// The state that examiners share. What was read is in [`Examination::input`], by absolute offset.
#[derive(Debug)]
pub struct Examination<'a> {
    storage: &'a dyn Storage,
    /// What was read of the file so far, by absolute offset.
    pub input: ProbeInput,
    /// How much may be read, and what is excessive.
    pub limits: InspectLimits,
    virtual_size: Option<u64>,
    format: String,
    found: Vec<Found>,
    reads: u32,
    bytes: u64,
    limits_hit: Vec<String>,
}

/// What was found in a file, and where. What it means for the use of the file is not said here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The stable name of it.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The format whose structure it is in.
    pub format: String,
    /// Where it is; `None` when it is about the whole file.
    pub at: Option<At>,
    /// The first bytes there in hexadecimal; empty when they are not there.
    pub hex: String,
    /// A name that the file gives, escaped.
    pub name: Option<String>,
    /// What was found and what was wanted: a clause, escaped.
    pub message: String,
}

impl<'a> Examination<'a> {
    /// Begins to examine `storage`, of which `input` was read.
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

    /// Says which format the next findings are about.
    pub fn of_format(&mut self, format: &str) {
        format.clone_into(&mut self.format);
    }

    /// Reads `len` bytes at `offset` into the input unless they are there. `false` when the file does not have them
    /// all, or a limit forbids it.
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
            // The file shrank while it was being read.
            Err(error) if error.kind() == ErrorKind::OutOfRange => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`need`](Self::need), but takes what the file has of the range; how many bytes that is.
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

    /// Records a finding at a place.
    pub fn find(&mut self, code: Code, at: impl Into<At>, message: impl Into<String>) {
        self.push(code, code.severity(), Some(at.into()), None, message.into());
    }

    /// Records a finding at a place if `present`.
    pub fn find_if(
        &mut self,
        present: bool,
        code: Code,
        at: impl Into<At>,
        message: impl Into<String>,
    ) {
        if present {
            self.find(code, at, message);
        }
    }

    /// Records a finding with another severity than the code's own.
    pub fn find_as(
        &mut self,
        code: Code,
        severity: Severity,
        at: impl Into<At>,
        message: impl Into<String>,
    ) {
        self.push(code, severity, Some(at.into()), None, message.into());
    }

    /// Records a finding about the whole file.
    pub fn find_overall(&mut self, code: Code, message: impl Into<String>) {
        self.push(code, code.severity(), None, None, message.into());
    }

    /// Records that the file names something: once for what it is, and once for each rule on names it breaks.
    pub fn reference(
        &mut self,
        code: Code,
        at: impl Into<At>,
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

    /// Records a table that is larger than `cap` bytes, or than the caller's limit, or runs past the end of the file by more than `slack` bytes.
    pub fn table(
        &mut self,
        what: &str,
        field: impl Into<At>,
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

    /// Records pairs of structures that share bytes. Empty ones share none.
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

    /// Notes the size of the disk, and finds it excessive if it is.
    pub fn disk_size(&mut self, at: impl Into<At>, size: Option<u64>) {
        let cap = self.limits.virtual_size;
        self.virtual_size = size;
        if size.is_none_or(|size| size > cap) {
            let size = size.map_or_else(|| "over 2^64".to_owned(), |size| size.to_string());
            let message = format!("the disk has {size} bytes, wanted at most {cap}");
            self.find(Code::SizeExcessive, at, message);
        }
    }

    /// Records a piece of evidence that speaks against the file.
    pub fn evidence(&mut self, code: Code, evidence: &Evidence, message: String) {
        let at = At { offset: evidence.offset, from_end: evidence.from_end, len: evidence.len };
        self.push(code, code.severity(), Some(at), None, message);
    }

    fn push(
        &mut self,
        code: Code,
        severity: Severity,
        at: Option<At>,
        name: Option<String>,
        message: String,
    ) {
        let same = |found: &Found| found.code == code && found.at == at && found.name == name;
        // A hostile file could make as many findings as it has bytes.
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
        // Words of the file reach the reader of a report only escaped, also those inside of a sentence.
        let message = match message.contains(char::is_control) {
            true => message.escape_debug().to_string(),
            false => message,
        };
        self.found.push(Found { code, severity, format, at, hex, name, message });
    }

    /// The storage that is examined.
    pub fn storage(&self) -> &'a dyn Storage {
        self.storage
    }

    /// The size of the disk in bytes, as an inspector noted it.
    pub fn virtual_size(&self) -> Option<u64> {
        self.virtual_size
    }

    /// Ends the examination: what was found, in the order of finding, and the limits that cut it short. A cut is a
    /// finding of its own.
    pub fn finish(mut self) -> (Vec<Found>, Vec<String>) {
        if !self.limits_hit.is_empty() {
            let message = format!("not everything was examined: {}", self.limits_hit.join(", "));
            self.find_overall(Code::Limit, message);
        }
        (self.found, self.limits_hit)
    }
}
