//! `rebase`: another parent for a child, or none.

use std::path::PathBuf;

use crate::args::{Cache, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, How};
use crate::progress::ProgressArgs;

#[derive(clap::Args, Debug)]
pub(crate) struct RebaseArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
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
    /// Folder, besides the image's own, whose files the image may name as parents
    #[arg(long, value_name = "DIR")]
    allow: Vec<PathBuf>,
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
        let spec = self.source.spec(&self.file)?;
        cx.block_on(async {
            let how = How::writing().cache(self.cache.0).allow(&self.allow);
            let disk = image::open(cx, &spec, &how).await?;
            image::warn_if_guessed_raw(cx, &spec, &disk);
            let name = self.backing.as_deref().unwrap_or_default();
            Err(Failure::new(format!(
                "Could not change the backing file to '{name}': Operation not supported"
            )))
        })
    }
}
