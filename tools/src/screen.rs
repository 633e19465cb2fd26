//! The abilities of the terminal at standard output.

use std::env;
use std::io;
use std::os::fd::AsFd;

use crate::console::Console;
use crate::picture::{Style, Terminal};

/// Returns the size and style for pictures. Without a terminal these are 80 columns without colour.
pub(crate) fn terminal(console: &Console) -> Terminal {
    let style = match (wants_colour(console), unicode()) {
        (_, false) => Style::Ascii,
        (false, true) => Style::Shades,
        (true, true) if is("COLORTERM", &["truecolor", "24bit"]) => Style::TrueColour,
        (true, true) => Style::Palette,
    };
    Terminal { width: width(), style }
}

/// Returns the columns of standard output: `COLUMNS`, else the terminal's width, else 80.
pub(crate) fn width() -> usize {
    width_of(io::stdout())
}

/// Returns the columns of standard error.
pub(crate) fn message_width() -> usize {
    width_of(io::stderr())
}

fn width_of(stream: impl AsFd) -> usize {
    let told = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(stream).ok().map(|size| size.ws_col.into());
    told.or_else(asked).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Whether the locale's encoding is UTF-8.
pub(crate) fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|locale| !locale.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Whether to colour a picture. `CLICOLOR_FORCE` colours it even without a terminal.
fn wants_colour(console: &Console) -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", &["0"]);
    console.colour() || (forced && !set("NO_COLOR"))
}

fn is(name: &str, values: &[&str]) -> bool {
    env::var(name).is_ok_and(|value| values.contains(&value.as_str()))
}
