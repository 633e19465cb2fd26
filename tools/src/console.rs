//! Standard output and standard error as commands use them.
//!
//! All text leaves the program here. File names and text from images are escaped on the way, so that each call of
//! [`Console::line`], [`Console::say`] and [`Console::note`] writes one line.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::error::Failure;
use crate::escape::Escaped;
use crate::json;

/// The destination of a command's results and messages.
#[derive(Debug)]
pub(crate) struct Console {
    program: String,
    out: RefCell<BufWriter<Stdout>>,
}

impl Console {
    /// Creates the console of a program called `program`.
    pub fn new(program: String) -> Self {
        Self { program, out: RefCell::new(BufWriter::new(io::stdout())) }
    }

    /// Returns the base name that the program was called by.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Writes one line of a result, escaped.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        writeln!(self.out.borrow_mut(), "{}", Escaped(text))
    }

    /// Writes the program's own text unescaped, with colours and line ends: help, pictures, tables. It must hold no
    /// file name and no text from an image.
    pub fn own_text(&self, text: impl Display) -> io::Result<()> {
        write!(self.out.borrow_mut(), "{text}")
    }

    /// Writes bytes of a result: a disk, a picture file, a script.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.out.borrow_mut().write_all(bytes)
    }

    /// Writes a result as JSON, indented by four spaces.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        json::write(&mut *out, value)?;
        out.write_all(b"\n")
    }

    /// Writes buffered results to standard output.
    pub fn flush(&self) -> io::Result<()> {
        self.out.borrow_mut().flush()
    }

    /// Writes one line of a message, escaped, after the program's name.
    pub fn say(&self, message: impl Display) {
        self.note(format_args!("{}: {message}", self.program));
    }

    /// Writes one line of a message, escaped.
    pub fn note(&self, message: impl Display) {
        self.message(format_args!("{}\n", Escaped(message)));
    }

    /// Writes to standard error unbuffered, after flushing all results so far.
    fn message(&self, text: impl Display) {
        let _ = self.flush();
        let _ = io::stderr().write_all(text.to_string().as_bytes());
    }

    /// Prints why a command failed.
    pub fn fail(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.for_people() {
            self.fail_for_people(failure);
        } else {
            self.say(&failure.message);
        }
        if let Some(hint) = &failure.hint {
            self.note(hint_line(hint));
        }
        if let Some(hint) = failure.also {
            self.note(hint_line(hint));
        }
        if let Some(code) = failure.code {
            self.note(format_args!("code: {code} (see '{} explain {code}')", self.program));
        }
    }

    /// Whether standard error is a terminal and the program was not called as `qemu-img`.
    fn for_people(&self) -> bool {
        self.program != "qemu-img" && io::stderr().is_terminal()
    }

    /// Prints the message and each of its causes on a line of its own.
    fn fail_for_people(&self, failure: &Failure) {
        let (red, plain) = if may_colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let (message, causes) = failure.parts();
        self.message(format_args!("{red}error:{plain} {}\n", Escaped(message)));
        for cause in causes {
            self.note(format_args!("caused by: {cause}"));
        }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether to print colours: standard output is a terminal and the environment does not refuse them.
    pub fn colour(&self) -> bool {
        self.is_terminal() && may_colour()
    }
}

/// Whether `NO_COLOR` is unset or empty and the terminal is not `dumb`.
fn may_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb
}

/// Prefixes a hint, except for the question that scripts match as a line of its own.
fn hint_line(hint: &str) -> String {
    if hint.starts_with("Is another process using the image") {
        hint.to_owned()
    } else {
        format!("hint: {hint}")
    }
}
