//! `snapshot`: accepted for compatibility. No format here has snapshots.

use crate::args::{AllowArgs, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

#[derive(clap::Args, Debug)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// List the snapshots (the default)
    #[arg(short = 'l', long, group = "what")]
    list: bool,
    /// Take a snapshot
    #[arg(short = 'c', long, value_name = "NAME", group = "what")]
    create: Option<String>,
    /// Go back to a snapshot
    #[arg(short = 'a', long, value_name = "NAME", group = "what")]
    apply: Option<String>,
    /// Remove a snapshot
    #[arg(short = 'd', long, value_name = "NAME", group = "what")]
    delete: Option<String>,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

impl SnapshotArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        cx.block_on(async {
            let how =
                if self.changes() { OpenMode::writing() } else { OpenMode::shared(self.share) };
            let disk = image::open(cx, &spec, &how.allow(&self.allow)).await?;
            if self.changes() {
                image::warn_if_guessed_raw(cx, &spec, &disk);
            }
            let refused = match (&self.create, &self.apply, &self.delete) {
                (Some(name), ..) => {
                    format!("Could not create snapshot '{name}': Operation not supported")
                }
                (_, Some(name), _) => format!(
                    "Could not apply snapshot '{name}': Block driver does not support snapshots"
                ),
                (.., Some(name)) => {
                    format!("Could not delete snapshot '{name}': snapshot not found")
                }
                _ => return Ok(0),
            };
            Err(Failure::new(refused)
                .hint("a child image (create -b) keeps the state of its parent"))
        })
    }

    fn changes(&self) -> bool {
        self.create.is_some() || self.apply.is_some() || self.delete.is_some()
    }
}
