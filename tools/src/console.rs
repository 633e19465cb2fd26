//! Standard output and standard error as commands use them.
//!
//! This is the one place where text leaves the program. Names and what images say pass through it escaped, so that
//! each call of [`Console::line`], [`Console::say`] and [`Console::note`] writes one line.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::error::Failure;
use crate::escape::Escaped;
use crate::json;

/// Where a command's results and messages go.
#[derive(Debug)]
pub(crate) struct Console {
    program: String,
    out: RefCell<BufWriter<Stdout>>,
}

impl Console {
    /// For a program called `program`.
    pub fn new(program: String) -> Self {
        Self { program, out: RefCell::new(BufWriter::new(io::stdout())) }
    }

    /// The base name the program was called by.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Writes one line of a result, escaped.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        writeln!(self.out.borrow_mut(), "{}", Escaped(text))
    }

    /// Writes text of the program's own, with its colours and line ends: help, pictures, tables. No name and nothing
    /// that an image says may be in it.
    pub fn own_text(&self, text: impl Display) -> io::Result<()> {
        write!(self.out.borrow_mut(), "{text}")
    }

    /// Writes bytes of a result: a disk, a picture file, a script.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.out.borrow_mut().write_all(bytes)
    }

    /// A result in JSON, indented by four.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        json::write(&mut *out, value)?;
        out.write_all(b"\n")
    }

    /// Hands what was written to the reader.
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

    /// Writes to standard error at once, after all results so far.
    fn message(&self, text: impl Display) {
        let _ = self.flush();
        let _ = io::stderr().write_all(text.to_string().as_bytes());
    }

    /// Says why a command failed.
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

    /// Whether messages are read on a terminal, by somebody who did not call this `qemu-img`.
    fn for_people(&self) -> bool {
        self.program != "qemu-img" && io::stderr().is_terminal()
    }

    /// The message and each of its causes on a line of its own.
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

    /// Whether colour is wanted: a terminal, and `NO_COLOR` is unset or empty.
    pub fn colour(&self) -> bool {
        self.is_terminal() && may_colour()
    }
}

/// Whether the user has nothing against colour, and the terminal knows it.
fn may_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb
}

/// A question scripts know as a line of its own stays one.
fn hint_line(hint: &str) -> String {
    match hint.starts_with("Is another process using the image") {
        true => hint.to_owned(),
        false => format!("hint: {hint}"),
    }
}
