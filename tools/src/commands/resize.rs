//! `resize`: changes the size of a disk.

use block_core::{DeviceCaps, Preallocation};

use crate::args::{AllowArgs, SourceArgs, size_or_failure};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

#[derive(clap::Args, Debug)]
pub(crate) struct ResizeArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Allow the disk to become smaller
    #[arg(long)]
    shrink: bool,
    /// What to do with the new space
    #[arg(long, value_name = "MODE", value_parser = ["off", "metadata", "falloc", "full"])]
    preallocation: Option<String>,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
    /// The new size, or +SIZE to grow by, or -SIZE to shrink by
    #[arg(value_name = "[+-]SIZE", allow_hyphen_values = true)]
    size: String,
}

impl ResizeArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        let change = Change::parse(&self.size)?;
        let preallocation = match self.preallocation.as_deref() {
            Some("metadata") => Preallocation::Metadata,
            Some("falloc") => Preallocation::Falloc,
            Some("full") => Preallocation::Full,
            _ => Preallocation::Off,
        };
        cx.block_on(async {
            let how = OpenMode::writing().allow(&self.allow);
            let disk = image::open(cx, &spec, &how).await?;
            image::warn_if_guessed_raw(cx, &spec, &disk);
            let old = disk.size();
            let new = change.apply(old)?;
            if new <= old && preallocation != Preallocation::Off {
                return Err(Failure::new("Preallocation can only be used for growing images"));
            }
            let needed = if new < old { DeviceCaps::SHRINK } else { DeviceCaps::GROW };
            if !disk.info().caps.intersects(DeviceCaps::GROW | DeviceCaps::SHRINK) {
                return Err(Failure::new("Image format driver does not support resize"));
            }
            if new < old && !self.shrink {
                cx.console.say("Use the --shrink option to perform a shrink operation.");
                cx.console.say(
                    "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure there is no important data there.",
                );
                return Err(Failure::silent(1));
            }
            if new != old && !disk.info().caps.contains(needed) {
                let way = if new < old { "shrink" } else { "grow" };
                return Err(Failure::new(format!("This image cannot {way}")));
            }
            let failed = |error| Failure::because(format!("Could not resize {}", self.file), &error);
            disk.device().resize(new, preallocation).await.map_err(failed)?;
            disk.flush().await.map_err(failed)?;
            disk.close().await.map_err(failed)?;
            if !self.quiet {
                cx.console.line("Image resized.")?;
            }
            Ok(0)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    To(u64),
    GrowBy(u64),
    ShrinkBy(u64),
}

impl Change {
    fn parse(text: &str) -> Result<Self> {
        let unsigned = |text: &str| size_or_failure(text.trim_start_matches('+'));
        if let Some(by) = text.strip_prefix('-') {
            return Ok(Self::ShrinkBy(unsigned(by)?));
        }
        match text.strip_prefix('+') {
            Some(by) => Ok(Self::GrowBy(unsigned(by)?)),
            None => Ok(Self::To(unsigned(text)?)),
        }
    }

    /// Returns the new size in bytes, rounded up to whole sectors.
    fn apply(self, old: u64) -> Result<u64> {
        let new = match self {
            Self::To(new) => Some(new),
            Self::GrowBy(by) => old.checked_add(by),
            Self::ShrinkBy(by) => {
                let new = old.checked_sub(by).filter(|new| *new > 0);
                Some(new.ok_or_else(|| Failure::new("New image size must be positive"))?)
            }
        };
        new.and_then(|new| new.checked_next_multiple_of(512))
            .filter(|new| *new <= i64::MAX as u64)
            .ok_or_else(|| Failure::new("New image size is too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_grow_and_shrink() {
        for (text, old, new) in [
            ("1M", 5, Some(1 << 20)),
            ("+1k", 1024, Some(2048)),
            ("-1k", 2048, Some(1024)),
            ("+0", 512, Some(512)),
            ("1000", 0, Some(1024)),
            ("-1k", 1024, None),
            ("-2k", 1024, None),
            ("+8191P", 1 << 62, None),
        ] {
            let result = Change::parse(text).and_then(|change| change.apply(old));
            assert_eq!(result.ok(), new, "{text} of {old}");
        }
        assert!(Change::parse("--1k").is_err());
    }
}
