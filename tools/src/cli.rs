//! The command line: its grammar, its usage errors, and the dispatch to a command.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use block_core::Registry;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::console::Console;
use crate::context::Context;
use crate::escape::{Escaped, steers};

/// Version of `qemu-img` whose command line this program follows.
const FOLLOWS: &str = "10.0.2";

#[derive(Parser, Debug)]
#[command(
    name = "block-img",
    about = "Inspect, create, check, convert and compare disk images",
    infer_long_args = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    subcommand_required = true,
    args_override_self = true
)]
struct Cli {
    /// Print the version and what is built in
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Trace specification of QEMU (accepted, without effect)
    #[arg(short = 'T', long, value_name = "SPEC", hide = true)]
    trace: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command line `args`, which begins with the program's name, with the drivers of `registry`.
///
/// Results go to standard output, messages to standard error. The exit codes are those of `qemu-img`. After an
/// interrupt the code is 128 plus the signal's number. The process ignores SIGXFSZ from this call on.
pub fn run(registry: Registry, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A write past `ulimit -f` must fail with an error, so that the command can clean up and report it. If this call
    // fails, SIGXFSZ kills the program, as it does by default.
    let _ = block_file::signal::ignore_file_size_limit();
    // From here on, arguments are text. `to_text` encodes a name that is not UTF-8 reversibly.
    let mut args: Vec<String> = args.into_iter().map(block_file::path::to_text).collect();
    let program = args
        .first()
        .and_then(|name| Path::new(name).file_name()?.to_str())
        .map_or("block-img".to_owned(), |name| Escaped(name).to_string());
    if args.is_empty() {
        args.push(program.clone());
    }
    let console = Console::new(program);
    let command = command_named(&registry, console.program());
    let subcommand = args
        .iter()
        .skip(1)
        .find(|word| command.find_subcommand(word).is_some())
        .map_or(String::new(), |word| format!("{word} "));
    let parsed = command.try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m));
    let cx = Context { registry: Arc::new(registry), console };
    let result = match parsed {
        Ok(cli) => cli.command.run(&cx),
        Err(error) => return usage(&cx, &subcommand, one_line(error)),
    };
    let result = result.and_then(|status| Ok(cx.console.flush().map(|()| status)?));
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            cx.console.fail(&failure);
            ExitCode::from(failure.status)
        }
    }
}

/// Returns the grammar of the command line, from which completions and manual pages are generated.
pub fn command(registry: &Registry) -> clap::Command {
    command_named(registry, "block-img")
}

/// Returns the grammar for the name that the program was called by.
pub(crate) fn command_named(registry: &Registry, program: &str) -> clap::Command {
    let names: Vec<_> = registry.drivers().iter().map(|driver| driver.descriptor().name).collect();
    let protocols: Vec<_> = registry.protocols().iter().map(|p| p.scheme()).collect();
    let ours = env!("CARGO_PKG_VERSION");
    // Scripts that call `qemu-img` decide by its version, so that version comes first.
    let version = match program {
        "qemu-img" => format!("{FOLLOWS} (block-img {ours})"),
        _ => format!("{ours} (follows qemu-img {FOLLOWS})"),
    };
    Cli::command()
        .bin_name(program.to_owned())
        .version(format!(
            "version {version}\nformats: {}\nprotocols: {}",
            names.join(" "),
            protocols.join(" "),
        ))
        .after_help(format!("Supported formats: {}", names.join(" ")))
        .display_name(program.to_owned())
}

/// Escapes the user's words in an error, so that they cannot add lines to its text.
fn one_line(mut error: clap::Error) -> clap::Error {
    let said: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if text.contains(steers) => {
                Some((kind, Escaped(text).to_string()))
            }
            _ => None,
        })
        .collect();
    for (kind, text) in said {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

/// Prints help or a usage error, and returns the exit code.
fn usage(cx: &Context, subcommand: &str, error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let text = if cx.console.colour() {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        };
        let _ = cx.console.own_text(text);
        let _ = cx.console.flush();
        return ExitCode::SUCCESS;
    }
    let invalid =
        match (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidSubcommand)) {
            (Some(ContextValue::String(text)), _) | (_, Some(ContextValue::String(text))) => {
                text.as_str()
            }
            _ => "",
        };
    let rendered = error.render().to_string();
    let mut lines = rendered.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with('-') => {
            format!("unrecognized option '{}'", invalid.split('=').next().unwrap_or(invalid))
        }
        ErrorKind::UnknownArgument => format!("Unexpected argument: {invalid}"),
        ErrorKind::InvalidSubcommand => format!("Command not found: {invalid}"),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "Not enough arguments".to_owned()
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<&str> =
                lines.clone().filter(|line| line.starts_with("  ")).map(str::trim).collect();
            format!("Not enough arguments: missing {}", missing.join(" "))
        }
        // The message of the value's parser is enough.
        ErrorKind::ValueValidation => match first.rsplit_once("': ").or(first.split_once(": ")) {
            Some((_, why)) if why.starts_with(char::is_uppercase) || why.starts_with("--") => {
                why.to_owned()
            }
            _ => first,
        },
        _ => first,
    };
    cx.console.say(message);
    let tips = rendered.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    for line in tips.filter(|line| !line.starts_with("to pass ")) {
        cx.console.note(format_args!("hint: {line}"));
    }
    cx.console
        .note(format_args!("Try '{} {subcommand}--help' for more info", cx.console.program()));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        command(&Registry::new()).debug_assert();
    }
}
