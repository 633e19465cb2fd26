//! The codes of errors and check findings: their meaning and remedy.

use crate::Advice;

/// A stable name for one kind of error or finding, with an explanation for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// The name as used in messages and reports, such as `image-locked`.
    pub code: &'static str,
    /// Meaning, as a clause without a full stop.
    pub meaning: &'static str,
    /// Remedy in whole sentences, as far as it needs no program's options.
    pub remedy: &'static str,
    /// Advice that a program words in its own options.
    pub advice: &'static [Advice],
}

impl ErrorCode {
    /// Creates the explanation of `code`.
    pub const fn new(code: &'static str, meaning: &'static str, remedy: &'static str) -> Self {
        Self { code, meaning, remedy, advice: &[] }
    }

    /// Sets the advice.
    #[must_use]
    pub const fn advice(mut self, advice: &'static [Advice]) -> Self {
        self.advice = advice;
        self
    }
}

/// The codes of this crate.
pub(crate) const CORE: &[ErrorCode] = &[
    ErrorCode::new(
        "driver-unknown",
        "no driver is registered under the name that was given",
        "Where none is named, the format is detected from the file itself.",
    )
    .advice(&[Advice::ListFormats]),
    ErrorCode::new(
        "image-needs-repair",
        "the image can be read, and writing to it could damage data",
        "See what is wrong, and repair it before writing.",
    )
    .advice(&[Advice::Check, Advice::Repair]),
    ErrorCode::new(
        "raw-guard",
        "the format was guessed to be raw, and the write would make the file look like another format",
        "A guest that writes an image header to its disk could otherwise choose what the next program opens.",
    )
    .advice(&[Advice::NameFormat("raw")]),
    ErrorCode::new(
        "parent-not-found",
        "none of the files that may be opened is the parent that the image needs",
        "A child knows its parent by an identity, and not by its name.",
    )
    .advice(&[Advice::FindReference]),
    ErrorCode::new(
        "reference-not-found",
        "no file that may be opened has the name that the image needs",
        "Files that an image names are opened only where the caller allows it.",
    )
    .advice(&[Advice::FindReference]),
    ErrorCode::new(
        "parent-ambiguous",
        "several files can be the parent of the image, and nothing tells which one is meant",
        "Copies of an image have its UUID. The one whose modification UUID is the one that the child recorded is taken; here none is known to have it, or several have. Put the others into another folder, or name the right one.",
    )
    .advice(&[Advice::NameParent]),
    ErrorCode::new(
        "parent-stale",
        "the parent is not known to hold what the child recorded, and it would be written into",
        "The parent was written to after the child was made, an interrupted commit wrote into it, or the file is a copy of it. Find out which; then name it.",
    )
    .advice(&[Advice::NameParent]),
    ErrorCode::new(
        "parent-mismatch",
        "the file that was named as the parent is another image",
        "Its UUID is not the one that the child recorded. Name the right file, or use the option 'verify_parent=off' of the child where it is the parent all the same.",
    ),
];
