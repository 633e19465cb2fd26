//! `amend`: changes facts of an image in place, such as its identity.

use block_core::DeviceCaps;

use super::options;
use crate::args::{AllowArgs, Cache, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

#[derive(clap::Args, Debug)]
pub(crate) struct AmendArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// What to change, name=value,…; 'help' lists the names
    #[arg(short = 'o', long, value_name = "OPTS")]
    options: Vec<String>,
    /// Cache mode
    #[arg(short = 't', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// Show progress (there is none to show)
    #[arg(short = 'p', long)]
    progress: bool,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Allow what may not be undone
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE", required_unless_present = "options")]
    file: Option<String>,
}

impl AmendArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        if options::asks_for_help(&self.options) {
            let format = self.source.format.as_deref().unwrap_or("raw");
            let descriptor = cx.registry.driver(format).map_err(Failure::from)?.descriptor();
            return match descriptor.amend_options {
                [] => Err(unsupported(descriptor.name)),
                specs => options::help(cx, &format!("{} amend", descriptor.name), specs, false)
                    .map(|()| 0),
            };
        }
        let Some(file) = self.file.as_deref() else {
            return Err(Failure::new("Expecting one image file name"));
        };
        if self.options.is_empty() {
            return Err(Failure::new("Must specify options (-o)"));
        }
        let spec = self.source.spec(file)?;
        cx.block_on(async {
            let how = OpenMode::writing().cache(self.cache.0).allow(&self.allow);
            let disk = image::open(cx, &spec, &how).await?;
            image::warn_if_guessed_raw(cx, &spec, &disk);
            let info = disk.info();
            if !info.caps.contains(DeviceCaps::AMEND) {
                return Err(unsupported(info.format));
            }
            let specs = cx.registry.driver(info.format).map_err(Failure::from)?.descriptor();
            let given = options::parse(specs.amend_options, &self.options)?;
            let failed = |error| Failure::because(format!("Could not amend {file}"), &error);
            disk.device().amend(&given).await.map_err(failed)?;
            disk.flush().await.map_err(failed)?;
            disk.close().await.map_err(failed)?;
            Ok(0)
        })
    }
}

fn unsupported(format: &str) -> Failure {
    Failure::new(format!("Format driver '{format}' does not support option amendment"))
}
