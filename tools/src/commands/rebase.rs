//! `rebase`: another parent for a child, or none.

use block_core::{DeviceCaps, Sharing, chain};

use crate::args::{AllowArgs, Cache, ImageSpec, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use crate::progress::ProgressArgs;
use crate::signals::interruptible;
use block_jobs::{RebaseOptions, rebase};

#[derive(clap::Args, Debug)]
pub(crate) struct RebaseArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Read the images even while another program writes them (a child that is written cannot be shared)
    #[arg(short = 'U', long, hide = true)]
    force_share: bool,
    /// Cache mode
    #[arg(short = 't', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// Cache mode of the parents
    #[arg(short = 'T', long, value_name = "CACHE", default_value = "writeback")]
    backing_cache: Cache,
    /// The new parent; '' for none
    #[arg(short = 'b', long, value_name = "FILE")]
    backing: Option<String>,
    /// Format of the new parent
    #[arg(short = 'F', long, value_name = "FMT")]
    backing_format: Option<String>,
    /// Only change the name of the parent: whoever asks knows that the content is the same
    #[arg(short = 'u', long)]
    backing_unsafe: bool,
    /// Compress (no format here can)
    #[arg(short = 'c', long)]
    compress: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// The child
    #[arg(value_name = "FILE")]
    file: String,
}

impl RebaseArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        if self.backing.is_none() && !self.backing_unsafe {
            return Err(Failure::new("Must specify backing file (-b) or use unsafe mode (-u)"));
        }
        if self.compress {
            return Err(Failure::new("Compression not supported for this file format"));
        }
        if self.force_share {
            return Err(Failure::new("force-share=on can only be used with read-only images"));
        }
        let mut spec = self.source.spec(&self.file)?;
        cx.block_on_with_timers(async {
            if self.backing_unsafe {
                image::without_parent(cx, &mut spec).await?;
            }
            let how = OpenMode::writing().cache(self.cache.0).allow(&self.allow);
            let child = image::open(cx, &spec, &how).await?;
            image::warn_if_guessed_raw(cx, &spec, &child);
            let name = self.backing.as_deref().unwrap_or_default();
            let info = child.info();
            let specs = cx.registry.driver(info.format).map_err(Failure::from)?.descriptor();
            let specs = specs.amend_options;
            let able = chain::records_parent(specs);
            if !able || !info.caps.contains(DeviceCaps::AMEND) {
                return Err(Failure::new(format!(
                    "Could not change the backing file to '{name}': Operation not supported"
                )));
            }
            let parent = match name {
                "" => None,
                name => {
                    let spec = ImageSpec::parse(name, false, self.backing_format.as_deref())?;
                    let how = OpenMode::reading(Sharing::Exclusive)
                        .cache(self.backing_cache.0)
                        .allow(&self.allow);
                    Some(image::open(cx, &spec, &how).await?)
                }
            };
            let progress = self.progress.start("rebase", child.size());
            let options = RebaseOptions::new().only_name(self.backing_unsafe);
            let work = async {
                let rebased = rebase(&child, parent.as_ref(), specs, &options, &progress).await;
                rebased.map_err(|error| {
                    Failure::because(format!("Could not rebase {}", self.file), error.error())
                })
            };
            interruptible(&cx.console, &progress, work).await?;
            progress.finish();
            Ok(0)
        })
    }
}
