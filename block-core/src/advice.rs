//! Advice for fixing an error, as values that a program can word for its own users.

use std::borrow::Cow;
use std::fmt;

/// What the user can do about an [`Error`](crate::Error) or about a finding of a check.
///
/// The variants name no command line: a program with one words them as its own options. The
/// [`Display`](fmt::Display) text is for programs without one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Check the image: the report lists its defects.
    Check,
    /// Repair the image completely. Until then, it can only be read.
    Repair,
    /// Repair leaks or compact the image, to free space that no block uses.
    Reclaim,
    /// Name this format instead of having it detected. The disk may then hold any data.
    NameFormat(&'static str),
    /// List the available formats, or have the format detected.
    ListFormats,
    /// Name the parent's file.
    NameParent,
    /// Name the file that the image needs, a folder to search, or a machine that has it.
    FindReference,
    /// Share the image with a program that writes it. Reads may then be stale.
    ReadShared,
    /// Create the image with another value for this option.
    CreateOption(&'static str),
    /// Change this option of the image.
    Amend(&'static str),
    /// Free text.
    Words(Cow<'static, str>),
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check => f.write_str("check the image: the report lists what is wrong with it"),
            Self::Repair => f.write_str("the image can be read; repair it before writing"),
            Self::Reclaim => {
                f.write_str("repair leaks, or compact the image, to get the space back")
            }
            Self::NameFormat(name) => {
                write!(f, "name the format {name} to say that the disk may hold anything")
            }
            Self::ListFormats => f.write_str("name a format that is registered, or none"),
            Self::NameParent => f.write_str("name the file that is the parent"),
            Self::FindReference => f.write_str("name the file, or a folder to look in"),
            Self::ReadShared => f.write_str("read it shared, where what is read may be stale"),
            Self::CreateOption(name) => write!(f, "another {name} reaches further"),
            Self::Amend(name) => write!(f, "give it one by amending {name}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl From<&'static str> for Advice {
    fn from(words: &'static str) -> Self {
        Self::Words(words.into())
    }
}

impl From<String> for Advice {
    fn from(words: String) -> Self {
        Self::Words(words.into())
    }
}
