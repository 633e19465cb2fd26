//! The subcommands, one file each.

mod amend;
mod bench;
mod bitmap;
mod chain;
mod check;
mod commit;
mod compact;
mod compare;
mod completions;
mod convert;
mod create;
mod dd;
mod diff;
mod digest;
mod explain;
mod formats;
mod info;
mod inspect;
mod lanes;
mod latency;
mod man;
mod map;
mod measure;
mod options;
mod output;
mod picture;
mod probe;
mod rebase;
mod resize;
mod snapshot;
mod stream;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};

use crate::context::Context;
use crate::error::Result;

/// Defines the commands: the description, the arguments and the word of each.
///
/// Unlike `derive(Subcommand)`, it defines the options of a command only when that command is run or its help is shown.
/// Defining all of them takes most of the program's startup time.
macro_rules! commands {
    ($(#[doc = $about:literal] $name:ident($args:ty) = $word:literal $(, $hidden:ident)?;)*) => {
        /// A command with its arguments.
        #[derive(Debug)]
        pub(crate) enum Command {
            $(#[doc = $about] $name($args),)*
        }

        impl Command {
            /// Runs the command and returns its exit status.
            pub fn run(self, cx: &Context) -> Result<u8> {
                match self {
                    $(Self::$name(args) => args.run(cx),)*
                }
            }
        }

        impl Subcommand for Command {
            fn augment_subcommands(command: clap::Command) -> clap::Command {
                command
                    $(.subcommand(
                        clap::Command::new($word)
                            .about($about.trim())
                            $(.$hidden(true))?
                            // Repeated, because shared groups of options bring a description of their own.
                            .defer(|command| {
                                <$args as Args>::augment_args(command).about($about.trim())
                            }),
                    ))*
            }

            fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
                Self::augment_subcommands(command)
            }

            fn has_subcommand(word: &str) -> bool {
                [$($word),*].contains(&word)
            }
        }

        impl FromArgMatches for Command {
            fn from_arg_matches(matches: &ArgMatches) -> clap::error::Result<Self> {
                Self::from_arg_matches_mut(&mut matches.clone())
            }

            fn from_arg_matches_mut(matches: &mut ArgMatches) -> clap::error::Result<Self> {
                let called = matches.remove_subcommand();
                match called.as_ref().map(|(word, _)| word.as_str()) {
                    $(Some($word) => {
                        let (_, mut matches) = called.unwrap_or_default();
                        Ok(Self::$name(<$args>::from_arg_matches_mut(&mut matches)?))
                    })*
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> clap::error::Result<()> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

commands! {
    /// Show what an image is, its sizes and its parents
    Info(info::InfoArgs) = "info";
    /// Create an image
    Create(create::CreateArgs) = "create";
    /// Copy images into one of another format
    Convert(convert::ConvertArgs) = "convert";
    /// Check an image for consistency, and repair it
    Check(check::CheckArgs) = "check";
    /// List which ranges of a disk are stored, and where
    Map(map::MapArgs) = "map";
    /// Compare the content of two images
    Compare(compare::CompareArgs) = "compare";
    /// Change the size of a disk
    Resize(resize::ResizeArgs) = "resize";
    /// Tell how large an image would be
    Measure(measure::MeasureArgs) = "measure";
    /// Copy blocks of an image into a new one
    Dd(dd::DdArgs) = "dd";
    /// Change the parent of an image
    Rebase(rebase::RebaseArgs) = "rebase";
    /// Write the data of a child into its parent
    Commit(commit::CommitArgs) = "commit";
    /// Change facts of an image, such as its identity
    Amend(amend::AmendArgs) = "amend";
    /// List or change the snapshots inside an image
    Snapshot(snapshot::SnapshotArgs) = "snapshot";
    /// Change bitmaps inside an image (no format here has any)
    Bitmap(bitmap::BitmapArgs) = "bitmap", hide;
    /// Measure the speed of requests to an image
    Bench(bench::BenchArgs) = "bench";
    /// Show what a file could be, with the evidence
    Probe(probe::ProbeArgs) = "probe";
    /// Say whether a file is safe to use, without opening anything it names
    Inspect(inspect::InspectArgs) = "inspect";
    /// List an image and its parents
    Chain(chain::ChainArgs) = "chain";
    /// Make an image's file as small as its content allows
    Compact(compact::CompactArgs) = "compact";
    /// List the ranges in which two images differ
    Diff(diff::DiffArgs) = "diff";
    /// Hash the content of a disk, whatever format it is stored in
    Digest(digest::DigestArgs) = "digest";
    /// List the formats and what each can do
    Formats(formats::FormatsArgs) = "formats";
    /// Explain the code of an error or a finding
    Explain(explain::ExplainArgs) = "explain";
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs) = "completions";
    /// Write the manual pages
    Man(man::ManArgs) = "man";
}
