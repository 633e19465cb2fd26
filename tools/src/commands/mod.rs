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

use crate::context::Context;
use crate::error::Result;

/// What the program does.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Show what an image is, its sizes and its parents
    Info(info::InfoArgs),
    /// Create an image
    Create(create::CreateArgs),
    /// Copy images into one of another format
    Convert(convert::ConvertArgs),
    /// Check an image for consistency, and repair it
    Check(check::CheckArgs),
    /// List which ranges of a disk are stored, and where
    Map(map::MapArgs),
    /// Compare the content of two images
    Compare(compare::CompareArgs),
    /// Change the size of a disk
    Resize(resize::ResizeArgs),
    /// Tell how large an image would be
    Measure(measure::MeasureArgs),
    /// Copy blocks of an image into a new one
    Dd(dd::DdArgs),
    /// Change the parent of an image
    Rebase(rebase::RebaseArgs),
    /// Write the data of a child into its parent
    Commit(commit::CommitArgs),
    /// Change facts of an image, such as its identity
    Amend(amend::AmendArgs),
    /// List or change the snapshots inside an image
    Snapshot(snapshot::SnapshotArgs),
    /// Change bitmaps inside an image (no format here has any)
    #[command(hide = true)]
    Bitmap(bitmap::BitmapArgs),
    /// Measure the speed of requests to an image
    Bench(bench::BenchArgs),
    /// Show what a file could be, with the evidence
    Probe(probe::ProbeArgs),
    /// Say whether a file is safe to use, without opening anything it names
    Inspect(inspect::InspectArgs),
    /// List an image and its parents
    Chain(chain::ChainArgs),
    /// Make an image's file as small as its content allows
    Compact(compact::CompactArgs),
    /// List the ranges in which two images differ
    Diff(diff::DiffArgs),
    /// Hash the content of a disk, whatever format it is stored in
    Digest(digest::DigestArgs),
    /// List the formats and what each can do
    Formats(formats::FormatsArgs),
    /// Explain the code of an error or a finding
    Explain(explain::ExplainArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

impl Command {
    /// Runs the command; gives its exit status.
    pub fn run(self, cx: &Context) -> Result<u8> {
        match self {
            Self::Info(args) => args.run(cx),
            Self::Create(args) => args.run(cx),
            Self::Convert(args) => args.run(cx),
            Self::Check(args) => args.run(cx),
            Self::Map(args) => args.run(cx),
            Self::Compare(args) => args.run(cx),
            Self::Resize(args) => args.run(cx),
            Self::Measure(args) => args.run(cx),
            Self::Dd(args) => args.run(cx),
            Self::Rebase(args) => args.run(cx),
            Self::Commit(args) => args.run(cx),
            Self::Amend(args) => args.run(cx),
            Self::Snapshot(args) => args.run(cx),
            Self::Bitmap(args) => args.run(cx),
            Self::Bench(args) => args.run(cx),
            Self::Probe(args) => args.run(cx),
            Self::Inspect(args) => args.run(cx),
            Self::Chain(args) => args.run(cx),
            Self::Compact(args) => args.run(cx),
            Self::Diff(args) => args.run(cx),
            Self::Digest(args) => args.run(cx),
            Self::Formats(args) => args.run(cx),
            Self::Explain(args) => args.run(cx),
            Self::Completions(args) => args.run(cx),
            Self::Man(args) => args.run(cx),
        }
    }
}
