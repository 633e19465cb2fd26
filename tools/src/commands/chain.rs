//! `chain`: lists an image and its parents, each with the amount of data it stores itself.

use block_core::{ExtentFlags, chain, size};
use serde_json::json;

use crate::args::{AllowArgs, OutputFormat, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::display_name;
use crate::image::{self, OpenMode};
use block_jobs::ExtentStream;

#[derive(clap::Args, Debug)]
pub(crate) struct ChainArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

impl ChainArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        let how = OpenMode::shared(self.share).allow(&self.allow);
        cx.block_on(async {
            let top = image::open(cx, &spec, &how).await?;
            let images = chain::images(&top);
            let mut provides = vec![0u64; images.len()];
            let mut stream = ExtentStream::new(top, 0..u64::MAX);
            let failed = |error| Failure::because("Could not read the map", &error);
            while let Some(extent) = stream.next().await.map_err(failed)? {
                let own = extent.flags.contains(ExtentFlags::PRESENT) && extent.is_data();
                if let Some(bytes) = provides.get_mut(extent.depth as usize).filter(|_| own) {
                    *bytes = bytes.saturating_add(extent.len);
                }
            }
            let mut list = Vec::new();
            for (depth, (disk, provides)) in images.iter().zip(provides).enumerate() {
                let info = disk.info();
                let storage = disk.device().storage();
                let name = display_name(storage.uri());
                let actual = storage.allocated_bytes().await.map_err(failed)?;
                match self.output {
                    OutputFormat::Json => list.push(json!({
                        "depth": depth,
                        "filename": name,
                        "format": info.format,
                        "virtual-size": info.virtual_size,
                        "actual-size": actual,
                        "provides": provides,
                        "parent": info.parent,
                    })),
                    OutputFormat::Human => cx.console.line(format_args!(
                        "{}{name}  {}, disk {}, file {}, shows {} of its own",
                        match depth {
                            0 => String::new(),
                            _ => format!("{}└─ ", "   ".repeat(depth - 1)),
                        },
                        info.format,
                        size::human(info.virtual_size),
                        actual.map_or("unknown".to_owned(), size::human),
                        size::human(provides),
                    ))?,
                }
            }
            if self.output == OutputFormat::Json {
                cx.console.json(&list)?;
            }
            Ok(0)
        })
    }
}
