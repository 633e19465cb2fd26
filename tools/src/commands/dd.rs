//! `dd`: copies some blocks of an image to a new one.

use std::slice;
use std::sync::Arc;

use block_core::{CacheMode, CreateRequest};

use super::options;
use super::output::{Making, Output};
use crate::args::{AllowArgs, Cache, ImageSpec, NamingArgs, ShareArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use crate::job_words;
use crate::progress::ProgressArgs;
use crate::signals::interruptible;
use block_jobs::{ConvertOptions, Source, convert};

#[derive(clap::Args, Debug)]
pub(crate) struct DdArgs {
    /// Format of the input (default: find out)
    #[arg(short = 'f', long, value_name = "FMT")]
    format: Option<String>,
    /// Format of the output
    #[arg(short = 'O', long, value_name = "FMT", default_value = "raw")]
    output_format: String,
    #[command(flatten)]
    naming: NamingArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// Say how the target is written: whole under a new name, or in place
    #[arg(short = 'v', long)]
    verbose: bool,
    /// if=FILE of=FILE, and bs=SIZE (512), skip=BLOCKS (0), count=BLOCKS (all; those skipped count)
    #[arg(value_name = "NAME=VALUE")]
    operands: Vec<String>,
}

impl DdArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let operands = Operands::parse(&self.operands)?;
        let driver = options::output_driver(&cx.registry, &self.output_format)?;
        let (opts, format) = (self.naming.image_opts, self.format.as_deref());
        let spec = ImageSpec::parse(&operands.input, opts, format)?;
        let how = OpenMode::shared(self.share).allow(&self.allow);
        cx.block_on_with_timers(async {
            let disk = image::open(cx, &spec, &how).await?;
            let whole = disk.size();
            let start = operands.block.saturating_mul(operands.skip);
            let len = match operands.count {
                Some(count) => operands.block.saturating_mul(count),
                None => u64::MAX,
            };
            if start > whole {
                cx.console.say(format_args!("{}: cannot skip to specified offset", operands.input));
            }
            let start = start.min(whole);
            // As in `qemu-img`, skipped blocks count.
            let range = start..len.min(whole).max(start);
            let size = range.end - range.start;
            let mut source = Source::new();
            source.push_range(disk, range).map_err(Failure::from)?;
            let progress = Arc::new(ProgressArgs::default().start("dd", size));
            let work = async {
                let request = CreateRequest::new(size);
                let making = Making {
                    source: Some(&source),
                    dense: false,
                    cache: CacheMode::Writeback,
                    verbose: self.verbose,
                };
                let output =
                    Output::create(cx, &operands.output, driver, &request, &how, making).await?;
                let options = ConvertOptions::new().target_is_zero(true);
                let copied = convert(&source, &output.disk, &options, progress.clone()).await;
                copied.map_err(|error| {
                    let names = slice::from_ref(&operands.input);
                    output.explain(job_words::copying(&error, names))
                })?;
                output.finish(Cache(CacheMode::Unsafe)).await
            };
            interruptible(&cx.console, &progress, work).await?;
            progress.finish();
            Ok(0)
        })
    }
}

/// The parsed operands.
#[derive(Debug, PartialEq, Eq)]
struct Operands {
    input: String,
    output: String,
    /// Size of a block in bytes.
    block: u64,
    /// End of the range, in blocks from the beginning of the input.
    count: Option<u64>,
    /// Blocks to skip at the beginning of the input.
    skip: u64,
}

impl Operands {
    fn parse(words: &[String]) -> Result<Self> {
        let (mut input, mut output, mut block, mut count, mut skip) = (None, None, 512, None, 0);
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(Failure::new(format!("unrecognized operand {word}")));
            };
            let number = || {
                let value = block_core::size::parse(value);
                value.map_err(|_| Failure::new(format!("invalid number: '{value}'", value = word)))
            };
            match name {
                "if" => input = Some(value.to_owned()),
                "of" => output = Some(value.to_owned()),
                "bs" => block = number()?,
                "count" => count = Some(number()?),
                "skip" => skip = number()?,
                _ => return Err(Failure::new(format!("unrecognized operand {word}"))),
            }
        }
        if !(1..=i32::MAX as u64).contains(&block) {
            return Err(Failure::new(format!("invalid number: 'bs={block}'")));
        }
        match (input, output) {
            (Some(input), Some(output)) => Ok(Self { input, output, block, count, skip }),
            _ => Err(Failure::new("Must specify both input and output files")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn operands_come_in_any_order_and_take_suffixes() {
        let operands = Operands::parse(&words("bs=1M of=b count=2k if=a")).unwrap();
        assert_eq!((operands.block, operands.count, operands.skip), (1 << 20, Some(2048), 0));
    }

    #[test]
    fn operands_that_are_unknown_or_too_large_are_refused() {
        for line in ["if=a of=b seek=1", "if=a of=b bs=2G", "if=a of=b bs=0", "if=a", "if=a of=b x"]
        {
            assert!(Operands::parse(&words(line)).is_err(), "{line}");
        }
    }
}
