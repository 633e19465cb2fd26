//! `diff`: the ranges in which two images differ.

use std::ops::Range;

use serde_json::{Value, json};

use crate::args::{AllowArgs, ImageSpec, NamingArgs, ShareArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use block_jobs::{DiffOptions, JobError, diff};

#[derive(clap::Args, Debug)]
pub(crate) struct DiffArgs {
    /// Format of the first image (default: find out)
    #[arg(short = 'f', long, value_name = "FMT")]
    a_format: Option<String>,
    /// Format of the second image (default: find out)
    #[arg(short = 'F', long, value_name = "FMT")]
    b_format: Option<String>,
    #[command(flatten)]
    naming: NamingArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Ranges are told in multiples of this, at least 512 and at most 1 MiB, a power of two
    #[arg(long, value_name = "SIZE", default_value = "4096", value_parser = size)]
    granularity: u64,
    /// For people (human), for programs (json), or as extents of NBD's dirty bitmaps (nbd)
    #[arg(long, value_name = "FORMAT", default_value = "human", value_parser = ["human", "json", "nbd"])]
    output: String,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    allow: AllowArgs,
    /// The first image
    #[arg(value_name = "FILE1")]
    a: String,
    /// The second image
    #[arg(value_name = "FILE2")]
    b: String,
}

const CANNOT_OPEN: u8 = 2;
const CANNOT_READ: u8 = 4;

impl DiffArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let options = DiffOptions::new().granularity(self.granularity);
        if !options.is_valid() {
            return Err(Failure::new("--granularity wants a power of two from 512 to 1M"));
        }
        let how = OpenMode::shared(self.share).allow(&self.allow);
        let spec = |name: &str, format: &Option<String>| {
            ImageSpec::parse(name, self.naming.image_opts, format.as_deref())
        };
        let (a, b) = (spec(&self.a, &self.a_format)?, spec(&self.b, &self.b_format)?);
        cx.block_on(async {
            let open = async |spec| {
                let disk = image::open(cx, spec, &how).await;
                disk.map_err(|failure| failure.status(CANNOT_OPEN))
            };
            let (a, b) = (open(&a).await?, open(&b).await?);
            let mut out = Printer::new(cx, &self.output, self.quiet);
            out.begin()?;
            let failed = |error: JobError| {
                Failure::because("Could not read", error.error()).status(CANNOT_READ)
            };
            let mut differences = diff(&a, &b, &options, &()).map_err(failed)?;
            while let Some(range) = differences.next().await.map_err(failed)? {
                out.print(range)?;
            }
            out.end(a.size().max(b.size()))
        })
    }
}

/// Prints differing ranges.
struct Printer<'c> {
    cx: &'c Context,
    style: &'c str,
    quiet: bool,
    /// Where the last printed range ended.
    printed_to: u64,
    ranges: u64,
    bytes: u64,
}

impl<'c> Printer<'c> {
    fn new(cx: &'c Context, style: &'c str, quiet: bool) -> Self {
        Self { cx, style, quiet, printed_to: 0, ranges: 0, bytes: 0 }
    }

    fn begin(&mut self) -> Result<()> {
        match self.style {
            "human" if !self.quiet => {
                self.cx.console.line(format_args!("{:<16}{:<16}Bytes", "Offset", "Length"))?;
            }
            "json" | "nbd" => self.cx.console.own_text("[")?,
            _ => {}
        }
        Ok(())
    }

    fn print(&mut self, Range { start, end }: Range<u64>) -> Result<()> {
        self.bytes += end - start;
        match self.style {
            "human" if !self.quiet => self.cx.console.line(format_args!(
                "{:<16}{:<16}{}",
                format!("{start:#x}"),
                format!("{:#x}", end - start),
                block_core::size::human(end - start)
            ))?,
            "json" => self.item(&json!({"start": start, "length": end - start}))?,
            "nbd" => {
                self.clean_up_to(start)?;
                self.item(&nbd(start, end, true))?;
            }
            _ => {}
        }
        self.ranges += 1;
        self.printed_to = end;
        Ok(())
    }

    fn clean_up_to(&mut self, start: u64) -> Result<()> {
        if self.printed_to < start {
            self.item(&nbd(self.printed_to, start, false))?;
            self.ranges += 1;
            Ok(())
        } else {
            Ok(())
        }
    }

    fn item(&self, value: &Value) -> Result<()> {
        let before = if self.ranges > 0 { ",\n" } else { "" };
        Ok(self.cx.console.own_text(format_args!("{before}{value}"))?)
    }

    /// The exit status: 0 same, 1 different.
    fn end(mut self, size: u64) -> Result<u8> {
        let different = self.bytes > 0;
        match self.style {
            "nbd" => {
                self.clean_up_to(size)?;
                self.cx.console.line("]")?;
            }
            "json" => self.cx.console.line("]")?,
            _ if self.quiet => {}
            _ => self.cx.console.line(if different {
                let bytes = block_core::size::human(self.bytes);
                match self.ranges {
                    1 => format!("1 range differs, {bytes} in all"),
                    ranges => format!("{ranges} ranges differ, {bytes} in all"),
                }
            } else {
                "No differences.".to_owned()
            })?,
        }
        Ok(u8::from(different))
    }
}

/// An extent as `nbdinfo --map --json` prints one.
fn nbd(start: u64, end: u64, dirty: bool) -> Value {
    json!({
        "offset": start,
        "length": end - start,
        "type": u8::from(dirty),
        "description": if dirty { "dirty" } else { "clean" },
    })
}
