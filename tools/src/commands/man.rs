//! `man`: manual pages, generated from the definitions of the options.

use std::fs;
use std::path::PathBuf;

use block_file::path::to_text;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::context::Context;
use crate::error::{Failure, Result, os_text};
use crate::host_path::path_argument;
use crate::target::write_whole;

#[derive(clap::Args, Debug)]
pub(crate) struct ManArgs {
    /// Folder for the pages of the program and of every command (default: the program's page goes to standard output)
    #[arg(value_name = "DIR", value_parser = path_argument)]
    folder: Option<PathBuf>,
}

impl ManArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let name = cx.console.program();
        let mut command = crate::cli::command_named(&cx.registry, name);
        command.build();
        let Some(folder) = &self.folder else {
            cx.console.bytes(&page(&command, name)?)?;
            return Ok(0);
        };
        fs::create_dir_all(folder).map_err(|error| {
            let why = os_text(&error);
            Failure::new(format!("Could not write '{}': {why}", to_text(folder)))
        })?;
        let main = (name.to_owned(), command.clone());
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let pages = visible.map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone()));
        for (title, command) in std::iter::once(main).chain(pages) {
            let path = folder.join(format!("{title}.1"));
            let content = page(&command.display_name(title.clone()), &title)?;
            let name = to_text(&path);
            write_whole(&cx.console, &name, &content, Vec::new())?;
            cx.console.line(name)?;
        }
        Ok(0)
    }
}

/// Returns a manual page.
fn page(command: &Command, title: &str) -> Result<Vec<u8>> {
    let is_program = command.get_subcommands().next().is_some();
    // A page's title has no blank in it, a typed command has.
    let man = Man::new(command.clone()).title(title.to_uppercase()).section("1").source(VERSION);
    let mut page = Vec::new();
    let written = (|| {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if is_program {
            man.render_subcommands_section(&mut page)?;
            man.render_extra_section(&mut page)?;
        }
        statuses(command).to_writer(&mut page)?;
        environment().to_writer(&mut page)
    })();
    written.map_err(|error: std::io::Error| Failure::from(error))?;
    Ok(page)
}

const VERSION: &str = concat!("block-img ", env!("CARGO_PKG_VERSION"));

/// Returns the section on the exit statuses of a command that scripts depend on.
fn statuses(command: &Command) -> Roff {
    let rows: &[(&str, &str)] = match command.get_name() {
        "check" => &[
            ("0", "The image is sound, or has been repaired."),
            ("1", "The check could not be done."),
            ("2", "The image is corrupt."),
            ("3", "The image has leaks, and nothing worse."),
            ("63", "The format has no check."),
        ],
        "compare" | "diff" => &[
            ("0", "The content is the same."),
            ("1", "It differs, or the arguments are wrong."),
            ("2", "An image could not be opened."),
            ("3", "An image's map could not be read."),
            ("4", "An image could not be read."),
        ],
        _ => &[("0", "Done."), ("1", "Failed; standard error says why.")],
    };
    let ends = [("128+N", "Ended by signal N; nothing unfinished is left behind.")];
    table("EXIT STATUS", rows.iter().copied().chain(ends))
}

fn environment() -> Roff {
    table(
        "ENVIRONMENT",
        [
            ("NO_COLOR", "Set and not empty: no colour."),
            ("CLICOLOR_FORCE", "Set and not 0: pictures are coloured without a terminal too."),
            ("COLUMNS", "The width of pictures; otherwise the terminal's."),
        ],
    )
}

fn table<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, meaning) in rows {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
    roff
}
