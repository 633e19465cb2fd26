//! The message and the exit status of a command that fails.

use std::error::Error as StdError;
use std::io;
use std::os::unix::fs::FileTypeExt;

use block_core::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::args::SpecError;
use crate::host_path::{display_name, file_path};
use crate::wording;

/// The failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub status: u8,
    /// Message to print. Empty if everything has been printed already.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// A second hint.
    pub also: Option<&'static str>,
    /// Code that the command `explain` describes.
    pub code: Option<&'static str>,
    /// Causes that the message ends with, the outermost first.
    pub causes: Vec<String>,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Returns a failure of status 1 with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            message: message.into(),
            hint: None,
            also: None,
            code: None,
            causes: Vec::new(),
        }
    }

    /// Returns a failure without a message, because everything has been printed already.
    pub fn silent(status: u8) -> Self {
        Self {
            status,
            message: String::new(),
            hint: None,
            also: None,
            code: None,
            causes: Vec::new(),
        }
    }

    /// Returns the failure `what: reason: cause: …`, with the error's own hint and code.
    pub fn because(what: impl std::fmt::Display, error: &Error) -> Self {
        let mut failure = Self::from(error);
        failure.message = format!("{what}: {}", failure.message);
        failure
    }

    /// Returns the failure to open an image, in the words that scripts match.
    pub fn open(name: &str, error: &Error) -> Self {
        let about_this = error.image().is_none_or(|image| display_name(image) == name);
        let mut failure = Self::from(error);
        let why = if about_this { reasons(error) } else { failure.message };
        let unnamed = !why.starts_with("Could not open '") && !why.starts_with("Failed to get ");
        // In `qemu-img` the format layer and the file layer each print this prefix, and scripts expect both.
        failure.message = if unnamed && is_about_the_file(error.kind()) {
            format!("Could not open '{name}': Could not open '{name}': {why}")
        } else {
            format!("Could not open '{name}': {why}")
        };
        failure
    }

    /// Splits the causes that the message ends with from the rest of it.
    pub fn parts(&self) -> (&str, Vec<&str>) {
        let mut message = self.message.as_str();
        let mut causes = Vec::new();
        for cause in self.causes.iter().rev() {
            let rest =
                message.strip_suffix(cause.as_str()).and_then(|rest| rest.strip_suffix(": "));
            let Some(rest) = rest else { break };
            message = rest;
            causes.insert(0, cause.as_str());
        }
        (message, causes)
    }

    /// Sets the exit status.
    pub fn status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// Sets the second hint.
    pub fn also(mut self, hint: &'static str) -> Self {
        self.also = Some(hint);
        self
    }

    /// Sets the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let message = match error.image() {
            Some(image) => format!("{image}: {}", reasons(error)),
            None => reasons(error),
        };
        Self {
            status: 1,
            message,
            hint: error.hint().map(wording::hint).or_else(|| what_to_do(error).map(str::to_owned)),
            also: None,
            code: error.code(),
            causes: causes(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<SpecError> for Failure {
    fn from(no_image: SpecError) -> Self {
        let failure = Self::new(no_image.message);
        match no_image.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<io::Error> for Failure {
    /// Converts a failure to write the output. A closed pipe is not reported.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(0),
            _ => Self::new(format!("Could not write the output: {}", os_text(&error))),
        }
    }
}

/// Hint for a full disk.
pub(crate) const NO_ROOM: &str =
    "make room, or name a target on another disk; 'measure' tells how much it takes";

/// Returns a hint for an error of the operating system.
fn what_to_do(error: &Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::PermissionDenied {
        return Some(who_may(error));
    }
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(system) = source.downcast_ref::<io::Error>() {
            return match system.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(NO_ROOM),
                io::ErrorKind::FileTooLarge => {
                    Some("the file system or a limit (ulimit -f) forbids a file of this size")
                }
                io::ErrorKind::ReadOnlyFilesystem => Some("name a target on another file system"),
                _ => None,
            };
        }
        cause = source.source();
    }
    None
}

/// Returns a hint for a missing permission. The file's mode may be the reason, or something that binds root too.
fn who_may(error: &Error) -> &'static str {
    let system = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let number = system.and_then(io::Error::raw_os_error);
    let there = error.image().map(|image| std::fs::metadata(file_path(image)));
    match there {
        Some(Ok(there)) if there.file_type().is_block_device() && geteuid().is_root() => {
            "the device may be set read-only: 'blockdev --getro' tells, and 'blockdev --setrw' ends it"
        }
        _ if number == Some(Errno::PERM.raw_os_error()) => {
            "the file may be immutable: 'lsattr' tells, and 'chattr -i' ends it"
        }
        _ if geteuid().is_root() => {
            "root may not either: the file system it lies on, or a security module, forbids it"
        }
        Some(Err(why)) if why.kind() == io::ErrorKind::NotFound => {
            "its folder may not be written: 'ls -ld' tells who may"
        }
        _ => "'ls -l' tells who may; ask for it, or run as somebody who may",
    }
}

fn is_about_the_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// Returns the error without its image, followed by its causes, each once.
pub(crate) fn reasons(error: &Error) -> String {
    let mut text = String::new();
    if let Some(offset) = error.offset() {
        text.push_str(&format!("at {offset:#x}: "));
    }
    match from_system(error) {
        // The system's text says more than the message.
        Some(system) => text.push_str(&os_text(system)),
        None => text.push_str(error.message()),
    }
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text
}

/// Returns the causes of an error, the outermost first, each once.
fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    if from_system(error).is_some() {
        return causes;
    }
    let mut said = error.message().to_owned();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = match (source.downcast_ref::<Error>(), source.downcast_ref::<io::Error>()) {
            (Some(error), _) => error.to_string(),
            (_, Some(system)) => os_text(system),
            _ => source.to_string(),
        };
        if !said.ends_with(&text) {
            causes.push(text.clone());
            said = text;
        }
        cause = source.source();
    }
    causes
}

/// Returns the operating system's error if the message only names its kind.
fn from_system(error: &Error) -> Option<&io::Error> {
    let system = error.source()?.downcast_ref::<io::Error>()?;
    let plain = Error::from(io::Error::from(system.kind()));
    (plain.message() == error.message()).then_some(system)
}

/// Returns the operating system's message without the error number that Rust appends.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_reported_in_the_words_scripts_match() {
        let error = Error::from(io::Error::from_raw_os_error(2)).in_image("x");
        let failure = Failure::open("x", &error);
        assert_eq!(
            failure.message,
            "Could not open 'x': Could not open 'x': No such file or directory"
        );
    }

    #[test]
    fn each_cause_is_said_once() {
        let inner = Error::new(ErrorKind::Corrupt, "the map is cut").at(0x200).in_image("base");
        let outer = Error::new(ErrorKind::Corrupt, "the parent is broken").because(inner);
        assert_eq!(
            Failure::open("top", &outer).message,
            "Could not open 'top': the parent is broken: base: at 0x200: the map is cut"
        );
        assert_eq!(
            Failure::open("top", &outer).parts(),
            ("Could not open 'top': the parent is broken", vec!["base: at 0x200: the map is cut"])
        );
    }
}
