//! One prober's answer about one file.

use super::evidence::{Effect, Evidence, Integrity, Location, Mirror};
use super::input::ProbeInput;
use serde::Serialize;
use std::borrow::Cow;

/// The sort of format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A disk-image container: a driver maps guest blocks to places in it.
    Container,
    /// A text or a bundle that names other files.
    Descriptor,
    /// A name for content that the raw driver serves, such as an optical disc image.
    Content,
    /// An archive or compressed stream around something else.
    Wrapper,
    /// A recognised file that is not a disk, such as a saved machine state.
    NotADisk,
    /// A raw disk: the file holds the disk's bytes and nothing else.
    Raw,
}

/// The answer of one prober: a format and the evidence for and against it. No evidence means "not mine".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The format's name, such as `vdi`.
    pub id: Cow<'static, str>,
    /// The sort of format.
    pub kind: Kind,
    /// A more precise description, such as `1.1 dynamic`. It is displayed, never compared.
    pub variant: Option<Cow<'static, str>>,
    /// All observations, in the order they were made.
    pub evidence: Vec<Evidence>,
    /// The more general format. If both match, this probe stays and the general one is dropped.
    pub refines: Option<&'static str>,
    /// The driver that opens this format, if its name differs from the format's.
    pub driver: Option<&'static str>,
    /// The highest score this format may reach, 0 to 100. It only ever lowers the score.
    pub ceiling: u8,
    /// Byte offset where the format's payload begins. File systems seen from there on belong to the guest.
    pub payload_from: Option<u64>,
    /// Where the format's own structures are.
    pub placement: Placement,
    /// Whether file systems and partition tables may appear beside or inside the format without contradicting it.
    pub carries_hints: bool,
    /// Formats carried in the same file: other names for the same content.
    pub carries: &'static [&'static str],
}

/// Where a format's own structures are in the file. When two formats claim one file, this decides how they relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere: no other format may claim the same file.
    #[default]
    Anywhere,
    /// At the start of the file, before the data. A trailer of another format after it makes a nested container.
    Header,
    /// At the end of the file, after a disk that begins at byte 0. Partition tables and file systems on that disk are
    /// expected.
    Trailer,
    /// Inside the disk: a format with a trailer may carry this one as its content.
    Content,
}

impl Probe {
    /// Returns the answer "not mine".
    pub fn none(id: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: id.into(),
            kind: Kind::Container,
            variant: None,
            evidence: Vec::new(),
            refines: None,
            driver: None,
            ceiling: 100,
            payload_from: None,
            placement: Placement::Anywhere,
            carries_hints: false,
            carries: &[],
        }
    }

    /// Starts an answer about `input`.
    ///
    /// ```
    /// use block_core::probe::{Probe, ProbeInput, score};
    ///
    /// fn probe(input: &ProbeInput) -> Probe {
    ///     Probe::of("toy", input)
    ///         .signature(0, b"TOYDISK\0")
    ///         .version((8, 4), "1", input.u32_le(8) == Some(1))
    ///         .structure("block size", (12, 4), "a power of two", input.u32_le(12).is_some_and(u32::is_power_of_two))
    ///         .done()
    /// }
    ///
    /// let good = b"TOYDISK\0\x01\0\0\0\x00\x10\0\0";
    /// assert_eq!(score(&probe(&ProbeInput::of_bytes(good))).value, 90);
    /// assert_eq!(score(&probe(&ProbeInput::of_bytes(b"something else"))).value, 0);
    /// ```
    pub fn of(id: impl Into<Cow<'static, str>>, input: &ProbeInput) -> ProbeBuilder<'_> {
        ProbeBuilder { input, probe: Self::none(id), signed: false }
    }

    /// Whether there is any evidence other than the file name and notes.
    pub fn claims(&self) -> bool {
        self.evidence.iter().any(|evidence| !matches!(evidence.effect, Effect::Name | Effect::Note))
    }
}

/// Collects the evidence of a [`Probe`]. Until a signature matches, only keywords and the file name are recorded. A
/// prober can therefore be one chain of calls.
#[derive(Debug)]
pub struct ProbeBuilder<'a> {
    input: &'a ProbeInput,
    probe: Probe,
    signed: bool,
}

impl ProbeBuilder<'_> {
    /// Sets the sort of format. The default is [`Kind::Container`].
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.probe.kind = kind;
        self
    }

    /// Sets a description more precise than the format's name.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<Cow<'static, str>>) -> Self {
        self.probe.variant = Some(variant.into());
        self
    }

    /// Names the more general format that this one is a special case of.
    #[must_use]
    pub fn refines(mut self, parent: &'static str) -> Self {
        self.probe.refines = Some(parent);
        self
    }

    /// Names the driver that opens this format, if its name differs from the format's.
    #[must_use]
    pub fn driver(mut self, driver: &'static str) -> Self {
        self.probe.driver = Some(driver);
        self
    }

    /// Caps the score. For layouts documented only second-hand, or with few fields to check.
    #[must_use]
    pub fn at_most(mut self, ceiling: u8) -> Self {
        self.probe.ceiling = self.probe.ceiling.min(ceiling);
        self
    }

    /// Declares that the payload begins at byte `offset`. File systems seen from there on belong to the guest.
    #[must_use]
    pub fn payload_from(mut self, offset: u64) -> Self {
        self.probe.payload_from = Some(offset);
        self
    }

    /// Looks for the magic `bytes` at `offset`.
    #[must_use]
    pub fn signature(self, offset: u64, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.magic(Location::start(offset, len), bytes, false)
    }

    /// Looks for a magic that is an ordinary word, or as short as those of archives. It needs a structure check beside
    /// it.
    #[must_use]
    pub fn word(self, offset: u64, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.magic(Location::start(offset, len), bytes, true)
    }

    /// Looks for the magic `bytes` beginning `from_end` bytes before the end of the file.
    #[must_use]
    pub fn signature_at_end(self, from_end: u64, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.magic(Location::end(from_end, len), bytes, false)
    }

    /// Sets where the format's own structures are. The default is [`Placement::Anywhere`].
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.probe.placement = placement;
        self
    }

    /// Declares that file systems and partition tables may appear beside or inside the format.
    #[must_use]
    pub fn carries_hints(mut self) -> Self {
        self.probe.carries_hints = true;
        self
    }

    /// Names the formats carried in the same file.
    #[must_use]
    pub fn carries(mut self, formats: &'static [&'static str]) -> Self {
        self.probe.carries = formats;
        self
    }

    fn magic(mut self, at: Location, bytes: &[u8], word: bool) -> Self {
        let offset = at.absolute(self.input.len());
        if offset.is_some_and(|offset| self.input.has(offset, bytes)) {
            self.signed = true;
            let effect =
                Effect::Signature { bytes: u8::try_from(bytes.len()).unwrap_or(u8::MAX), word };
            let expected = super::evidence::to_hex(bytes);
            self.probe.evidence.push(Evidence::new("magic", at, bytes, expected, effect));
        }
        self
    }

    /// Records a signature found by other means than comparing fixed bytes, such as a marker in a text.
    #[must_use]
    pub fn signed_if(
        mut self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        found: bool,
        word: bool,
    ) -> Self {
        if found {
            self.signed = true;
            let at = at.into();
            let effect = Effect::Signature { bytes: u8::try_from(at.len).unwrap_or(u8::MAX), word };
            self.push(code, at, expected, effect);
        }
        self
    }

    /// Whether a signature has matched.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Records the version field.
    #[must_use]
    pub fn version(
        self,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        known: bool,
    ) -> Self {
        self.record("version", at, expected, Effect::Version { known })
    }

    /// Records a field, or a relation between fields, that must hold.
    #[must_use]
    pub fn structure(
        self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        passed: bool,
    ) -> Self {
        self.record(code, at, expected, Effect::Structure { passed })
    }

    /// Records a checksum result. `None` means it could not be computed or did not need to be.
    #[must_use]
    pub fn integrity(
        self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        passed: Option<bool>,
    ) -> Self {
        let result = match passed {
            Some(true) => Integrity::Pass,
            Some(false) => Integrity::Fail,
            None => Integrity::Absent,
        };
        self.record(code, at, expected, Effect::Integrity(result))
    }

    /// Records how the second copy of a structure compares.
    #[must_use]
    pub fn duplicate(
        self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        copy: Mirror,
    ) -> Self {
        self.record(code, at, expected, Effect::Duplicate(copy))
    }

    /// Records a recoverable oddity if `present`.
    #[must_use]
    pub fn degraded(
        self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        present: bool,
    ) -> Self {
        if present { self.record(code, at, expected, Effect::Degraded) } else { self }
    }

    /// Records nonzero bytes where writers leave zeros. Bytes that were not read are not judged.
    #[must_use]
    pub fn slack(mut self, at: impl Into<Location>) -> Self {
        if !self.signed {
            return self;
        }
        let at = at.into();
        let Some(offset) = at.absolute(self.input.len()) else {
            return self;
        };
        let bytes = self.input.prefix(offset, usize::try_from(at.len).unwrap_or(usize::MAX));
        if let Some(first) = bytes.iter().position(|byte| *byte != 0) {
            let skip = u64::try_from(first).unwrap_or(u64::MAX);
            let offset = if at.from_end {
                at.offset.saturating_sub(skip)
            } else {
                at.offset.saturating_add(skip)
            };
            let rest = bytes.get(first..).unwrap_or_default();
            let len = at.len.saturating_sub(u32::try_from(first).unwrap_or(u32::MAX));
            let place = Location { offset, from_end: at.from_end, len };
            self.probe.evidence.push(Evidence::new("slack", place, rest, "zeros", Effect::Slack));
        }
        self
    }

    /// Records a keyword of a text format if `present`.
    #[must_use]
    pub fn text(
        mut self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        present: bool,
    ) -> Self {
        if present {
            self.push(code, at.into(), expected, Effect::Text);
        }
        self
    }

    /// Records a fact for display, neither for nor against the format.
    #[must_use]
    pub fn note(
        self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.record(code, at, expected, Effect::Note)
    }

    /// Records that the file name ends in one of `extensions`.
    #[must_use]
    pub fn name(mut self, extensions: &[&'static str]) -> Self {
        for extension in extensions {
            if self.input.has_extension(extension) {
                let evidence = Evidence::new(
                    "file name",
                    Location::start(0, 0),
                    &[],
                    format!(".{extension}"),
                    Effect::Name,
                );
                self.probe.evidence.push(evidence);
            }
        }
        self
    }

    /// Returns the answer.
    pub fn done(self) -> Probe {
        self.probe
    }

    fn record(
        mut self,
        code: &'static str,
        at: impl Into<Location>,
        expected: impl Into<Cow<'static, str>>,
        effect: Effect,
    ) -> Self {
        if self.signed {
            self.push(code, at.into(), expected, effect);
        }
        self
    }

    fn push(
        &mut self,
        code: &'static str,
        at: Location,
        expected: impl Into<Cow<'static, str>>,
        effect: Effect,
    ) {
        let len = usize::try_from(at.len).unwrap_or(usize::MAX).min(super::limits::FOUND);
        let found =
            at.absolute(self.input.len()).map_or(&[][..], |offset| self.input.prefix(offset, len));
        self.probe.evidence.push(Evidence::new(code, at, found, expected, effect));
    }
}
