//! What the terminal behind standard output can show.

use std::env;
use std::io;
use std::os::fd::AsFd;

use crate::console::Console;
use crate::picture::{Style, Terminal};

/// The terminal as pictures need it. Where there is none: 80 columns without colour.
pub(crate) fn terminal(console: &Console) -> Terminal {
    let style = match (wants_colour(console), unicode()) {
        (_, false) => Style::Ascii,
        (false, true) => Style::Shades,
        (true, true) if is("COLORTERM", &["truecolor", "24bit"]) => Style::TrueColour,
        (true, true) => Style::Palette,
    };
    Terminal { width: width(), style }
}

/// Columns of standard output: `COLUMNS`, what the terminal says, or 80.
pub(crate) fn width() -> usize {
    width_of(io::stdout())
}

/// Columns of standard error.
pub(crate) fn message_width() -> usize {
    width_of(io::stderr())
}

fn width_of(stream: impl AsFd) -> usize {
    let told = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(stream).ok().map(|size| size.ws_col.into());
    told.or_else(asked).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Whether the locale has more than ASCII.
pub(crate) fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|locale| !locale.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A picture may be coloured without a terminal where `CLICOLOR_FORCE` asks for it.
fn wants_colour(console: &Console) -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", &["0"]);
    console.colour() || (forced && !set("NO_COLOR"))
}

fn is(name: &str, values: &[&str]) -> bool {
    env::var(name).is_ok_and(|value| values.contains(&value.as_str()))
}
