//! `commit`: the data of a child written into its parent, or into a parent further down.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use block_core::{Access, Disk, OptionSpec, Sharing};

use crate::args::{AllowArgs, Cache, ImageSpec, SourceArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::{display_name, file_path};
use crate::image::{self, OpenMode};
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;
use block_jobs::{CommitOptions, JobProgress, commit, settle};

#[derive(clap::Args, Debug)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Cache mode
    #[arg(short = 't', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// The parent to write into, instead of the direct one; those between get the data too. Implies -d
    #[arg(short = 'b', long, value_name = "FILE")]
    base: Option<String>,
    /// At most so many bytes per second
    #[arg(short = 'r', long, value_name = "RATE", value_parser = size)]
    rate: Option<u64>,
    /// Leave the child's data in it
    #[arg(short = 'd', long)]
    drop: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// The child
    #[arg(value_name = "FILE")]
    file: String,
}

impl CommitArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        cx.block_on_with_timers(async {
            let mut how = OpenMode::reading(Sharing::Exclusive).allow(&self.allow);
            let mut children = vec![spec];
            if let Some(base) = &self.base {
                // The parent to write into is the caller's word, where it can be verified.
                let named = ImageSpec::plain(base, None);
                if place(base).is_some() {
                    how = image::name_verifiable_parent(cx, &named, how).await?;
                }
                children = self.children_above(cx, children, &how, base).await?;
                // Nothing is written before each of them is known to be the one that is meant.
                for child in &children {
                    let how = self.for_writing(&how);
                    drop(image::open_silently(cx, child, &how).await?);
                }
            }
            let how = self.for_writing(&how);
            let steps = children.len() as u64;
            let mut progress = None;
            for (step, child) in (0u64..).zip(&children) {
                let (child, parent) = self.open(cx, child, &how).await?;
                let total = child.size().saturating_mul(steps);
                let progress = progress.get_or_insert_with(|| self.progress.start("commit", total));
                let begun = child.size().saturating_mul(step);
                let work = self.commit(cx, &child, progress, begun..total);
                let done = interruptible(&cx.console, progress, work).await;
                if done.is_err() {
                    // What stopped the work has been reported; begun again, it has to find the parent.
                    let _ = parent.close().await;
                    if let Ok(specs) = amend_options(cx, &child) {
                        let _ = settle(&child, specs).await;
                    }
                }
                done?;
            }
            if let Some(progress) = progress {
                progress.finish();
            }
            if !self.progress.quiet {
                cx.console.line("Image committed.")?;
            }
            Ok(0)
        })
    }

    /// The images from the child down to the one above `base`: each is committed in turn, so that at
    /// every moment each of them reads as before or as the child.
    async fn children_above(
        &self,
        cx: &Context,
        child: Vec<ImageSpec>,
        how: &OpenMode,
        base: &str,
    ) -> Result<Vec<ImageSpec>> {
        let mut images = child;
        let mut next = match images.first() {
            Some(spec) => image::open_silently(cx, spec, how).await?.parent(),
            None => None,
        };
        let wanted = place(base);
        while let Some(disk) = next {
            let storage = disk.device().storage();
            let uri = storage.uri();
            if wanted.is_some() && place(uri) == wanted {
                return Ok(images);
            }
            let mut image = ImageSpec::plain(uri, Some(disk.info().format));
            image.shown = display_name(uri);
            images.push(image);
            next = disk.parent();
        }
        let known: Vec<String> = images.iter().skip(1).map(|image| image.shown.clone()).collect();
        let failure =
            Failure::new(format!("Did not find '{base}' in the backing chain of '{}'", self.file));
        Err(if known.is_empty() {
            failure
        } else {
            failure.hint(format!("its parents are {}", known.join(", ")))
        })
    }

    /// For writing into a child and its parent.
    fn for_writing(&self, how: &OpenMode) -> OpenMode {
        OpenMode {
            access: Access::ReadWrite,
            parent_access: Access::ReadWrite,
            ..how.clone().cache(self.cache.0)
        }
    }

    /// Opens a child, and its parent for writing.
    async fn open(&self, cx: &Context, spec: &ImageSpec, how: &OpenMode) -> Result<(Disk, Disk)> {
        let child = image::open(cx, spec, how).await?;
        image::warn_if_guessed_raw(cx, spec, &child);
        match child.parent() {
            Some(parent) => Ok((child, parent)),
            None => Err(Failure::new("Image does not have a backing file")),
        }
    }

    async fn commit(
        &self,
        cx: &Context,
        child: &Disk,
        progress: &Progress,
        of_all: Range<u64>,
    ) -> Result<()> {
        let failed = |error: &block_core::Error| Failure::because("error while committing", error);
        let keeps = self.drop || self.base.is_some();
        let options = CommitOptions::new().keep(keeps).rate(self.rate);
        let specs = amend_options(cx, child).map_err(|error| failed(&error))?;
        let step = StepOfAll { progress, of_all, done: AtomicU64::new(0) };
        let committed = commit(child, specs, &options, &step).await;
        committed.map(drop).map_err(|error| failed(error.error()))
    }
}

/// The amend options of an image's format.
fn amend_options(cx: &Context, disk: &Disk) -> block_core::Result<&'static [OptionSpec]> {
    Ok(cx.registry.driver(disk.info().format)?.descriptor().amend_options)
}

/// The progress of committing one image of several: its bytes are `of_all.start` and more, of `of_all.end`.
struct StepOfAll<'p> {
    progress: &'p Progress,
    of_all: Range<u64>,
    done: AtomicU64,
}

impl JobProgress for StepOfAll<'_> {
    fn total(&self, _: u64) {}

    fn done(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.progress.set(self.of_all.start.saturating_add(done), self.of_all.end);
    }
}

/// The real path of a file.
fn place(uri: &str) -> Option<std::path::PathBuf> {
    std::fs::canonicalize(file_path(uri)).ok()
}
