//! `measure`: the size that an image would have.

use block_core::{Disk, Measure};

use super::options;
use crate::args::{AllowArgs, ImageSpec, NamingArgs, OutputFormat, ShareArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use block_jobs::ExtentStream;

#[derive(clap::Args, Debug)]
pub(crate) struct MeasureArgs {
    /// Format the image would have
    #[arg(short = 'O', long, alias = "output-format", value_name = "FMT", default_value = "raw")]
    target_format: String,
    /// Options it would be created with
    #[arg(short = 'o', long, value_name = "OPTS")]
    options: Vec<String>,
    /// Size of an empty disk
    #[arg(short = 's', long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// Format of FILE (default: find out)
    #[arg(short = 'f', long, value_name = "FMT")]
    format: Option<String>,
    #[command(flatten)]
    naming: NamingArgs,
    /// Take a snapshot of FILE (no format here has any)
    #[arg(short = 'l', long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image whose content would be stored
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

impl MeasureArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        if self.snapshot.is_some() {
            return Err(Failure::new("This image format has no snapshots"));
        }
        let driver = options::output_driver(&cx.registry, &self.target_format)?;
        let given = options::parse_create(&**driver, &self.options)?;
        let measured = |size: u64, data: &[(u64, u64)]| {
            driver
                .measure(size, &given.driver, &|block| blocks_with_data(data, block))
                .map_err(Failure::from)
        };
        match (self.size, self.file.as_deref()) {
            (Some(size), None) => self.show(cx, measured(given.size.unwrap_or(size), &[])?),
            (None, Some(file)) => {
                let (opts, format) = (self.naming.image_opts, self.format.as_deref());
                let spec = ImageSpec::parse(file, opts, format)?;
                let how = OpenMode::shared(self.share).allow(&self.allow);
                cx.block_on(async {
                    let disk = image::open(cx, &spec, &how).await?;
                    let data = data_ranges(&disk).await?;
                    self.show(cx, measured(disk.size(), &data)?)
                })
            }
            (Some(_), Some(_)) => {
                Err(Failure::new("--size N cannot be used together with a filename."))
            }
            (None, None) => Err(Failure::new("Either --size N or one filename must be specified.")),
        }
    }

    fn show(&self, cx: &Context, measure: Measure) -> Result<u8> {
        match self.output {
            OutputFormat::Json => cx.console.json(&measure)?,
            OutputFormat::Human => {
                cx.console.line(format_args!("required size: {}", measure.required))?;
                cx.console
                    .line(format_args!("fully allocated size: {}", measure.fully_allocated))?;
            }
        }
        Ok(0)
    }
}

/// Returns the ranges that hold data (first byte, first byte past the end), in order, with neighbours joined.
async fn data_ranges(disk: &Disk) -> Result<Vec<(u64, u64)>> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut stream = ExtentStream::new(disk.clone(), 0..u64::MAX);
    let failed = |error| Failure::because("Could not read the map", &error);
    while let Some(extent) = stream.next().await.map_err(failed)? {
        if !extent.is_data() {
            continue;
        }
        match ranges.last_mut() {
            Some((_, end)) if *end == extent.start => *end = extent.end(),
            _ => ranges.push((extent.start, extent.end())),
        }
    }
    Ok(ranges)
}

/// Returns how many blocks of `block` bytes the ranges touch.
fn blocks_with_data(ranges: &[(u64, u64)], block: u64) -> u64 {
    let block = block.max(1);
    let mut count = 0u64;
    let mut counted_to = 0u64;
    for (start, end) in ranges {
        let first = (start / block).max(counted_to);
        let last = end.div_ceil(block);
        count = count.saturating_add(last.saturating_sub(first));
        counted_to = counted_to.max(last);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_two_ranges_touch_counts_once() {
        assert_eq!(blocks_with_data(&[(0, 10), (20, 30), (64, 65), (127, 200)], 64), 4);
        assert_eq!(blocks_with_data(&[], 64), 0);
    }
}
