//! `commit`: the data of a child written into its parent.

use std::path::PathBuf;

use block_core::{Access, DeviceCaps, Disk, chain};

use crate::args::{Cache, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::display_name;
use crate::image::{self, How};
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;

#[derive(clap::Args, Debug)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Cache mode
    #[arg(short = 't', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// The parent to write into: the direct one
    #[arg(short = 'b', long, value_name = "FILE")]
    base: Option<String>,
    /// Leave the child's data in it
    #[arg(short = 'd', long)]
    drop: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Folder, besides the image's own, whose files the image may name as parents
    #[arg(long, value_name = "DIR")]
    allow: Vec<PathBuf>,
    /// The child
    #[arg(value_name = "FILE")]
    file: String,
}

impl CommitArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        cx.block_on_parallel(async {
            let how = How {
                parent_access: Access::ReadWrite,
                ..How::writing().cache(self.cache.0).allow(&self.allow)
            };
            let child = image::open(cx, &spec, &how).await?;
            image::warn_if_guessed_raw(cx, &spec, &child);
            let Some(parent) = child.parent() else {
                return Err(Failure::new("Image does not have a backing file"));
            };
            self.check_base(&parent)?;
            let progress = self.progress.start("commit", child.size());
            let work = self.commit(&child, &parent, &progress);
            interruptible(&cx.console, &progress, work).await?;
            progress.finish();
            if !self.progress.quiet {
                cx.console.line("Image committed.")?;
            }
            Ok(0)
        })
    }

    /// Only the direct parent is opened for writing.
    fn check_base(&self, parent: &Disk) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let path = |name: &str| std::fs::canonicalize(display_name(name)).ok();
        let storage = parent.device().storage();
        match path(base).is_some() && path(base) == path(storage.uri()) {
            true => Ok(()),
            false => {
                Err(Failure::new(format!("'{base}' is not the direct parent of '{}'", self.file))
                    .hint(format!(
                        "commit one image at a time; the direct parent is {}",
                        storage.uri()
                    )))
            }
        }
    }

    async fn commit(&self, child: &Disk, parent: &Disk, progress: &Progress) -> Result<()> {
        let failed = |error| Failure::because("error while committing", &error);
        let report = |done, total| {
            progress.set(done, total);
            true
        };
        // The parent has everything, durably, before the child forgets it.
        chain::commit(child, &report).await.map_err(failed)?;
        let keeps = self.drop || self.base.is_some();
        if !keeps && child.info().caps.contains(DeviceCaps::MAKE_EMPTY) {
            child.device().make_empty().await.map_err(failed)?;
        }
        child.flush().await.map_err(failed)?;
        child.close().await.map_err(failed)?;
        parent.close().await.map_err(failed)
    }
}
