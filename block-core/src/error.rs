//! The error type of the crate: kind, action, location and cause.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::Advice;

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an error. Programs match on the kind; people read the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The thing already exists and must not be replaced.
    AlreadyExists,
    /// The operating system does not allow it.
    PermissionDenied,
    /// The image was opened read-only.
    ReadOnly,
    /// Another process or handle uses the image in a conflicting way.
    Busy,
    /// The caller gave an invalid option, size or name.
    InvalidInput,
    /// Part of the request is outside the disk or the file.
    OutOfRange,
    /// No driver recognises the image, or the requested driver does not recognise it as its own.
    Unrecognised,
    /// More than one format claims the image.
    Ambiguous,
    /// The image's metadata contradicts itself or the file.
    Corrupt,
    /// The image is valid but needs a feature that is not implemented.
    Unsupported,
    /// The image names a file that the caller did not allow to be opened.
    Denied,
    /// A limit on memory, depth or work was reached.
    Limit,
    /// The device is full.
    NoSpace,
    /// The caller stopped the operation.
    Interrupted,
    /// The layer below failed in another way.
    Io,
    /// A bug: the program reached a state that it rules out. The request fails before that can do harm.
    Internal,
}

impl ErrorKind {
    /// Returns the machine-readable name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PermissionDenied => "permission-denied",
            Self::ReadOnly => "read-only",
            Self::Busy => "busy",
            Self::InvalidInput => "invalid-input",
            Self::OutOfRange => "out-of-range",
            Self::Unrecognised => "unrecognised",
            Self::Ambiguous => "ambiguous",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Limit => "limit",
            Self::NoSpace => "no-space",
            Self::Interrupted => "interrupted",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// Returns the Linux error number to report to a guest or an NBD client.
    pub fn errno(self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Interrupted => 4,
            Self::PermissionDenied | Self::Denied | Self::ReadOnly => 1,
            Self::Limit => 12,
            Self::Busy => 16,
            Self::AlreadyExists => 17,
            Self::InvalidInput | Self::OutOfRange | Self::Unrecognised | Self::Ambiguous => 22,
            Self::NoSpace => 28,
            Self::Unsupported => 95,
            Self::Corrupt | Self::Io | Self::Internal => 5,
        }
    }
}

/// A failed operation.
///
/// The message says what was found and what was wanted. [`offset`](Self::offset) and [`field`](Self::field)
/// say where. The cause is available through [`source`](StdError::source) and is not repeated in the message.
/// To print an error with its causes, walk the chain of sources.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    image: Option<String>,
    offset: Option<u64>,
    field: Option<Field>,
    code: Option<&'static str>,
    hint: Option<Advice>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Returns the error for a state that the surrounding code rules out. `what` is a clause that describes the
/// state.
///
/// An impossible state never ends in success: a write that may be lost is not acknowledged. A build with
/// debug assertions panics here, so that tests and fuzzers find the bug at its origin. Other builds fail the
/// request with [`ErrorKind::Internal`] and continue.
#[cold]
#[inline(never)]
#[track_caller]
pub fn bug(what: &'static str) -> Error {
    debug_assert!(false, "a mistake in this program: {what}");
    Error::new(ErrorKind::Internal, format!("a mistake in this program: {what}"))
        .with_hint("please report it, with what was done before; the request was not carried out")
}

/// A field of an on-disk structure with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the format's specification.
    pub name: &'static str,
    /// The value in the image.
    pub found: String,
    /// The valid values.
    pub wanted: String,
}

impl Error {
    /// Creates an error of `kind`. `message` is a clause without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            image: None,
            offset: None,
            field: None,
            code: None,
            hint: None,
            source: None,
        }))
    }

    /// Creates an error for a field with an invalid value. The message consists of name, found value and
    /// wanted values.
    pub fn field_mismatch(
        kind: ErrorKind,
        name: &'static str,
        found: impl fmt::Display,
        wanted: impl fmt::Display,
    ) -> Self {
        let (found, wanted) = (found.to_string(), wanted.to_string());
        let mut error = Self::new(kind, format!("{name} is {found}, wanted {wanted}"));
        error.0.field = Some(Field { name, found, wanted });
        error
    }

    /// Sets the byte offset where the error happened: in the file, or on the disk for guest requests.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Names the image. A name that an inner layer has already set is kept.
    #[must_use]
    pub fn in_image(mut self, image: impl Into<String>) -> Self {
        self.0.image.get_or_insert_with(|| image.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets a stable code that documentation can explain.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Sets the advice for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Advice>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message without offset and image.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the byte offset where the error happened, if it has one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Returns the image or storage concerned.
    pub fn image(&self) -> Option<&str> {
        self.0.image.as_deref()
    }

    /// Returns the on-disk field concerned.
    pub fn field(&self) -> Option<&Field> {
        self.0.field.as_ref()
    }

    /// Returns the stable code, if the error has one.
    pub fn code(&self) -> Option<&'static str> {
        self.0.code
    }

    /// Returns the advice for the user.
    pub fn hint(&self) -> Option<&Advice> {
        self.0.hint.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(image) = &self.0.image {
            write!(f, "{image}: ")?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, "at {offset:#x}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self}", self.0.kind.name())?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<std::io::Error> for Error {
    /// Maps the kind of an operating system error, and keeps that error as the cause.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, message) = match error.kind() {
            Io::NotFound => (ErrorKind::NotFound, "no such file"),
            Io::PermissionDenied => (ErrorKind::PermissionDenied, "not permitted"),
            Io::AlreadyExists => (ErrorKind::AlreadyExists, "exists already"),
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
                (ErrorKind::NoSpace, "no room left")
            }
            Io::UnexpectedEof => (ErrorKind::OutOfRange, "the file ends too early"),
            Io::ReadOnlyFilesystem => (ErrorKind::ReadOnly, "the file system is read-only"),
            Io::Unsupported => (ErrorKind::Unsupported, "not supported by the operating system"),
            Io::InvalidInput => (ErrorKind::InvalidInput, "refused by the operating system"),
            _ => (ErrorKind::Io, "input or output failed"),
        };
        Self::new(kind, message).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_place_and_message_but_not_its_cause() {
        let error = Error::field_mismatch(ErrorKind::Corrupt, "block_size", 3, "a power of two")
            .at(0x178)
            .in_image("a.vdi")
            .because(std::io::Error::other("deep"));
        assert_eq!(error.to_string(), "a.vdi: at 0x178: block_size is 3, wanted a power of two");
        assert_eq!(error.source().unwrap().to_string(), "deep");
        assert_eq!(error.field().unwrap().found, "3");
    }

    #[test]
    fn a_mistake_in_the_program_stops_a_test_and_is_an_error_elsewhere() {
        let outcome = std::panic::catch_unwind(|| bug("two and two are five"));
        if cfg!(debug_assertions) {
            let text = outcome.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(*text, "a mistake in this program: two and two are five");
        } else {
            let error = outcome.unwrap();
            assert_eq!((error.kind(), error.kind().errno()), (ErrorKind::Internal, 5));
            assert_eq!(error.kind().name(), "internal");
            assert_eq!(error.message(), "a mistake in this program: two and two are five");
        }
    }

    #[test]
    fn the_innermost_image_name_stays() {
        let error = Error::new(ErrorKind::Io, "x").in_image("inner").in_image("outer");
        assert_eq!(error.image(), Some("inner"));
    }
}
