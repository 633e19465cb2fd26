//! `compact`: makes a file as small as its content allows.

use block_core::{DeviceCaps, size};

use crate::args::{AllowArgs, OutputFormat, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result, reasons};
use crate::image::{self, OpenMode};
use crate::progress::ProgressArgs;
use crate::signals::interruptible;

#[derive(clap::Args, Debug)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

impl CompactArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        cx.block_on_with_timers(async {
            let disk = image::open(cx, &spec, &OpenMode::writing().allow(&self.allow)).await?;
            let info = disk.info();
            if !info.caps.contains(DeviceCaps::COMPACT) {
                // Other images of the format may be compactable. The driver says what prevents it for this one.
                let why = disk.device().compact(&|_, _| true).await.err();
                let why = why.map_or("it cannot".to_owned(), |error| reasons(&error));
                return Err(Failure::new(format!("Could not compact {}: {why}", self.file))
                    .hint("convert the image into a new one; zeros are left out"));
            }
            let progress = self.progress.start("compact", disk.size());
            let failed =
                |error| Failure::because(format!("Could not compact {}", self.file), &error);
            let work = async {
                let report = |done, total| {
                    progress.set(done, total);
                    true
                };
                let done = disk.device().compact(&report).await.map_err(failed)?;
                disk.flush().await.map_err(failed)?;
                disk.close().await.map_err(failed)?;
                Ok(done)
            };
            let done = interruptible(&cx.console, &progress, work).await?;
            progress.finish();
            match self.output {
                OutputFormat::Json => cx.console.json(&done)?,
                OutputFormat::Human if self.progress.quiet => {}
                OutputFormat::Human => cx.console.line(format_args!(
                    "{} → {} ({} blocks dropped, {} moved)",
                    size::human(done.bytes_before),
                    size::human(done.bytes_after),
                    done.blocks_dropped,
                    done.blocks_moved
                ))?,
            }
            Ok(0)
        })
    }
}
