//! `commit`: the data of a child written into its parent, or into a parent further down.

use std::sync::atomic::AtomicU64;

use block_core::{Access, DeviceCaps, Disk, Sharing, chain};

use crate::args::{AllowArgs, Cache, ImageSpec, SourceArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::{display_name, file_path};
use crate::image::{self, How};
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;
use crate::throttle::at_rate;

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
            let children = match &self.base {
                None => vec![spec],
                Some(base) => self.children_above(cx, spec, base).await?,
            };
            let steps = children.len() as u64;
            let mut progress = None;
            for (step, child) in (0u64..).zip(&children) {
                let (child, parent) = self.open(cx, child).await?;
                let total = child.size().saturating_mul(steps);
                let progress = progress.get_or_insert_with(|| self.progress.start("commit", total));
                let begun = child.size().saturating_mul(step);
                let work = self.commit(cx, &child, &parent, progress, begun..total);
                interruptible(&cx.console, progress, work).await?;
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
        spec: ImageSpec,
        base: &str,
    ) -> Result<Vec<ImageSpec>> {
        let how = How::reading(Sharing::Exclusive).allow(&self.allow);
        let top = image::open(cx, &spec, &how).await?;
        let place = |uri: &str| std::fs::canonicalize(file_path(uri)).ok();
        let wanted = place(base);
        let mut images = vec![spec];
        let mut next = top.parent();
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
        Err(match known.is_empty() {
            true => failure,
            false => failure.hint(format!("its parents are {}", known.join(", "))),
        })
    }

    /// Opens a child, and its parent for writing.
    async fn open(&self, cx: &Context, spec: &ImageSpec) -> Result<(Disk, Disk)> {
        let how = How {
            parent_access: Access::ReadWrite,
            ..How::writing().cache(self.cache.0).allow(&self.allow)
        };
        let child = image::open(cx, spec, &how).await?;
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
        parent: &Disk,
        progress: &Progress,
        of_all: std::ops::Range<u64>,
    ) -> Result<()> {
        let failed = |error| Failure::because("error while committing", &error);
        let report = |done: u64, _| {
            progress.set(of_all.start.saturating_add(done), of_all.end);
            true
        };
        // The parent has everything, durably, before the child forgets it; and it is closed, so that what
        // identifies its content changes no more, before the child records that.
        let written = AtomicU64::new(0);
        let work = chain::commit_counted(child, &report, &written);
        at_rate(self.rate, &written, work).await.map_err(failed)?;
        parent.close().await.map_err(failed)?;
        let keeps = self.drop || self.base.is_some();
        if !keeps && child.info().caps.contains(DeviceCaps::MAKE_EMPTY) {
            child.device().make_empty().await.map_err(failed)?;
        }
        let driver = cx.registry.driver(child.info().format).map_err(Failure::from)?;
        let facts = driver.descriptor().amend_options;
        chain::acknowledge(child, facts).await.map_err(failed)?;
        child.flush().await.map_err(failed)?;
        child.close().await.map_err(failed)
    }
}
