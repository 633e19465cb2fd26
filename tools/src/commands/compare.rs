//! `compare`: whether two images hold the same.

use std::sync::Arc;

use crate::args::{AllowArgs, Cache, ImageSpec, NamingArgs, ShareArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use crate::progress::ProgressArgs;
use crate::signals::interruptible;
use block_jobs::{CompareOptions, Comparison, JobError, Side, Step, compare};

#[derive(clap::Args, Debug)]
pub(crate) struct CompareArgs {
    /// Format of the first image (default: find out)
    #[arg(short = 'f', long, alias = "format", value_name = "FMT")]
    a_format: Option<String>,
    /// Format of the second image (default: find out)
    #[arg(short = 'F', long, value_name = "FMT")]
    b_format: Option<String>,
    #[command(flatten)]
    naming: NamingArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Sizes and allocation must be the same too
    #[arg(short = 's', long)]
    strict: bool,
    /// Cache mode of both images
    #[arg(short = 'T', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// The first image
    #[arg(value_name = "FILE1")]
    a: String,
    /// The second image
    #[arg(value_name = "FILE2")]
    b: String,
}

const DIFFERENT: u8 = 1;
const CANNOT_OPEN: u8 = 2;
const CANNOT_EXAMINE: u8 = 3;
const CANNOT_READ: u8 = 4;

impl CompareArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let how = OpenMode::shared(self.share).cache(self.cache.0).allow(&self.allow);
        let spec = |name: &str, format: &Option<String>| {
            ImageSpec::parse(name, self.naming.image_opts, format.as_deref())
        };
        let (a, b) = (spec(&self.a, &self.a_format)?, spec(&self.b, &self.b_format)?);
        cx.block_on_with_timers(async {
            let open = async |spec| {
                let disk = image::open(cx, spec, &how).await;
                disk.map_err(|failure| failure.status(CANNOT_OPEN))
            };
            let (a, b) = (open(&a).await?, open(&b).await?);
            let size = a.size().max(b.size());
            let common = a.size().min(b.size());
            if common < size && self.strict {
                self.say(cx, "Strict mode: Image size mismatch!")?;
                return Ok(DIFFERENT);
            }
            let progress = Arc::new(self.progress.start("compare", size));
            let options = CompareOptions::new().strict(self.strict);
            let work = async {
                let found = compare(&a, &b, &options, progress.clone()).await;
                found.map_err(|error| self.failure(&error))
            };
            let found = interruptible(&cx.console, &progress, work).await?;
            if common < size && found.at().is_none_or(|at| at >= common) {
                progress.clear();
                self.say(cx, "Warning: Image size mismatch!")?;
            }
            match message(found) {
                None => {
                    progress.complete();
                    self.say(cx, "Images are identical.")?;
                    cx.console.flush()?;
                    progress.close();
                    Ok(0)
                }
                Some(message) => {
                    progress.clear();
                    self.say(cx, &message)?;
                    Ok(DIFFERENT)
                }
            }
        })
    }

    fn failure(&self, error: &JobError) -> Failure {
        let why = error.error();
        match (error.step(), error.side(), error.offset()) {
            (Step::Map, ..) => {
                Failure::because("Could not read the map", why).status(CANNOT_EXAMINE)
            }
            (Step::Read, Side::Source(number), Some(at)) => {
                let name = if number == 0 { &self.a } else { &self.b };
                let place = format!("Error while reading offset {at} of {name}");
                Failure::because(place, why).status(CANNOT_READ)
            }
            _ => Failure::from(why),
        }
    }

    fn say(&self, cx: &Context, message: &str) -> Result<()> {
        if !self.progress.quiet {
            cx.console.line(message)?;
        }
        Ok(())
    }
}

/// What is said about a difference; nothing about identical images.
fn message(found: Comparison) -> Option<String> {
    match found {
        Comparison::Differ { at } => Some(format!("Content mismatch at offset {at}!")),
        Comparison::AllocationDiffers { at } => {
            Some(format!("Strict mode: Offset {at} block status mismatch!"))
        }
        _ => None,
    }
}
