//! `convert`: images copied into one of another format.

use std::sync::Arc;

use block_core::{CreateRequest, Disk, NewParent, Sharing};

use super::options::{self, CreateOptions};
use super::output::{Making, Output};
use super::stream;
use crate::args::{AllowArgs, Cache, ImageSpec, NamingArgs, ShareArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result, reasons};
use crate::image::{self, OpenMode};
use crate::job_words;
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;
use crate::way_on;
use block_jobs::{ConvertOptions, Fingerprint, Lost, LostRange, Source, convert, fingerprint};

#[derive(clap::Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Format of the sources (default: find out)
    #[arg(short = 'f', long, alias = "format", value_name = "FMT")]
    source_format: Option<String>,
    /// Format of the result
    #[arg(short = 'O', long, alias = "target-format", value_name = "FMT", default_value = "raw")]
    output_format: String,
    /// Options of the result's format, name=value,…; 'help' lists them
    #[arg(short = 'o', long, alias = "target-options", value_name = "OPTS")]
    options: Vec<String>,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    naming: NamingArgs,
    /// The target's name is a complete specification (driver=…,file.filename=…); needs -n
    #[arg(long)]
    target_image_opts: bool,
    /// Cache mode of the result
    #[arg(short = 't', long, value_name = "CACHE", default_value = "unsafe")]
    target_cache: Cache,
    /// Cache mode of the sources
    #[arg(short = 'T', long, value_name = "CACHE", default_value = "writeback")]
    source_cache: Cache,
    /// Compress (no format here can)
    #[arg(short = 'c', long)]
    compress: bool,
    /// Write into an existing image
    #[arg(short = 'n', long)]
    no_create: bool,
    /// The existing image reads as zeros
    #[arg(long)]
    target_is_zero: bool,
    /// Zeros of this length and more are left out; 0: everything is written
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = size)]
    sparse_size: Option<u64>,
    /// How many threads copy, 1 to 16 [default: 2, or 8 uncached]
    #[arg(short = 'm', long, alias = "num-coroutines", value_name = "N")]
    parallel: Option<u64>,
    /// Write in any order
    #[arg(short = 'W', long)]
    oob_writes: bool,
    /// Let the file system copy
    #[arg(short = 'C', long)]
    copy_range_offloading: bool,
    /// At most so many bytes per second
    #[arg(short = 'r', long, value_name = "RATE", value_parser = size)]
    rate: Option<u64>,
    /// Make the result a child of this image
    #[arg(short = 'B', long, value_name = "FILE")]
    backing: Option<String>,
    /// Format of the parent
    #[arg(short = 'F', long, value_name = "FMT")]
    backing_format: Option<String>,
    /// Take a snapshot of the source (no format here has any)
    #[arg(short = 'l', long, alias = "source-snapshot", value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Go on where the source cannot be read; zeros take the place
    #[arg(long)]
    salvage: bool,
    /// Copy bitmaps (no format here has any)
    #[arg(long)]
    bitmaps: bool,
    /// With --bitmaps: leave out broken ones
    #[arg(long, requires = "bitmaps")]
    skip_broken_bitmaps: bool,
    /// Read the result back and compare it with what was copied
    #[arg(long)]
    verify: bool,
    /// Say how the target is written: whole under a new name, or in place
    #[arg(short = 'v', long)]
    verbose: bool,
    #[command(flatten)]
    allow: AllowArgs,
    /// The images to copy, one behind the other, and the image to make
    #[arg(value_name = "SRC… DST")]
    files: Vec<String>,
}

/// Zeros shorter than this are written with what surrounds them.
const SPARSE: u64 = 4096;

impl ConvertArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let driver = options::output_driver(&cx.registry, &self.output_format);
        if options::asks_for_help(&self.options) {
            let descriptor = driver?.descriptor();
            options::help(cx, descriptor.name, descriptor.create_options, true)?;
            return Ok(0);
        }
        let (sources, target) = match self.files.split_last() {
            Some((target, sources)) if !sources.is_empty() => (sources, target),
            _ => return Err(Failure::new("Must specify image file name")),
        };
        self.refuse_nonsense()?;
        if target == "-" {
            return self.write_stdout(cx, sources);
        }
        if sources == ["-"] {
            return self.read_stdin(cx, target);
        }
        cx.block_on_with_timers(async {
            let source = self.open_sources(cx, sources).await?;
            let progress = Arc::new(self.progress.start("convert", source.len()));
            let sources = Sources { source, names: sources };
            let work = self.copy(cx, &sources, target, &progress);
            let done = interruptible(&cx.console, &progress, work).await;
            done.map_err(|failure| self.name_salvage(failure))?;
            progress.finish();
            Ok(0)
        })
    }

    /// Adds the way to what can be read, where the source is damaged.
    fn name_salvage(&self, failure: Failure) -> Failure {
        match failure.hint.as_deref() {
            Some(hint) if hint.starts_with("`check` lists") && !self.salvage => {
                let hint = format!("{hint}; --salvage copies what can be read");
                failure.hint(hint)
            }
            _ => failure,
        }
    }

    fn refuse_nonsense(&self) -> Result<()> {
        let refuse = |message: &str| Err(Failure::new(message));
        if self.compress {
            return refuse("Compression not supported for this file format");
        }
        if self.snapshot.is_some() {
            return refuse("Failed to load snapshot: this image format has no snapshots");
        }
        if self.bitmaps {
            return refuse("Format driver does not support bitmaps");
        }
        if self.target_is_zero && !self.no_create {
            return refuse("--target-is-zero requires use of -n flag");
        }
        if self.target_image_opts && !self.no_create {
            return refuse("--target-image-opts requires use of -n flag");
        }
        if self.parallel.is_some_and(|tasks| !(1..=16).contains(&tasks)) {
            return refuse("Invalid number of coroutines specified. Must be between 1 and 16.");
        }
        if let Some(sparse) = self.sparse_size
            && (sparse % 512 != 0 || sparse > 16 << 20)
        {
            return refuse(
                "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to 16777216. Select 0 to disable sparse detection (fully allocates output).",
            );
        }
        if self.copy_range_offloading && self.sparse_size.is_some() {
            return refuse("Cannot enable copy offloading when -S is used");
        }
        if self.copy_range_offloading && self.salvage {
            return refuse("Cannot use copy offloading in salvaging mode");
        }
        if self.no_create && !self.options.is_empty() {
            return refuse("-o has no effect when skipping image creation");
        }
        if self.no_create && self.backing.is_some() {
            return refuse("--backing makes no sense with --no-create");
        }
        Ok(())
    }

    /// Writes the disk, as raw bytes, to standard output.
    fn write_stdout(&self, cx: &Context, sources: &[String]) -> Result<u8> {
        if self.output_format != "raw" || self.no_create || self.progress.progress.is_some() {
            return Err(Failure::new("Only a raw disk can be written to standard output")
                .hint("-O raw, without -n and -p, streams; other formats need a file"));
        }
        cx.block_on(async {
            let source = self.open_sources(cx, sources).await?;
            stream::write(cx, &source, sources).await
        })
    }

    /// Makes an image of the raw bytes on standard input.
    fn read_stdin(&self, cx: &Context, target: &str) -> Result<u8> {
        if self.source_format.as_deref().is_some_and(|format| format != "raw") || self.no_create {
            return Err(Failure::new("Only a raw disk can be read from standard input")
                .hint("-f raw, without -n, streams; other formats need a file"));
        }
        cx.block_on_with_timers(async {
            let wanted = options::output_driver(&cx.registry, &self.output_format)
                .and_then(|driver| options::parse_create(&**driver, &self.options))?;
            if wanted.size.is_none() && self.output_format != "raw" {
                return Err(Failure::new("The size of standard input is not known")
                    .hint("say how large the disk is: -o size=SIZE"));
            }
            let input = stream::Input::begin()?;
            if self.source_format.is_none() {
                refuse_another_format(cx, input.head())?;
            }
            let progress = Arc::new(self.progress.start("convert", wanted.size.unwrap_or(0)));
            let work = async {
                let output = self.create(cx, target, None).await?;
                let grows = wanted.size.is_none();
                let copied = stream::read(input, &output.disk, grows, &progress).await;
                copied.map_err(|failure| output.explain(failure))?;
                output.finish(self.target_cache).await
            };
            interruptible(&cx.console, &progress, work).await?;
            progress.finish();
            Ok(0)
        })
    }

    async fn open_sources(&self, cx: &Context, names: &[String]) -> Result<Source> {
        let how =
            OpenMode::shared(self.share).steady().cache(self.source_cache.0).allow(&self.allow);
        let mut source = Source::new();
        for name in names {
            let format = self.source_format.as_deref();
            let mut spec = ImageSpec::parse(name, self.naming.image_opts, format)?;
            if self.salvage {
                image::as_far_as_it_goes(cx, &mut spec).await?;
            }
            let disk = image::open(cx, &spec, &how).await?;
            source.push(disk).map_err(Failure::from)?;
        }
        Ok(source)
    }

    async fn copy(
        &self,
        cx: &Context,
        sources: &Sources<'_>,
        target: &str,
        progress: &Arc<Progress>,
    ) -> Result<()> {
        if self.no_create {
            let disk = self.open_existing(cx, target, sources.source.len()).await?;
            let options = ConvertOptions::new().target_is_zero(self.target_is_zero);
            self.fill(cx, sources, target, &disk, options, progress).await?;
            let failed = |error| Failure::because(format!("error while writing {target}"), &error);
            // Nothing, where flushes are left out.
            disk.flush().await.map_err(failed)?;
            return disk.close().await.map_err(failed);
        }
        let output = self.create(cx, target, Some(&sources.source)).await?;
        let base = output.disk.parent();
        let options = ConvertOptions::new().target_is_zero(base.is_none()).base(base);
        let filled = self.fill(cx, sources, target, &output.disk, options, progress).await;
        filled.map_err(|failure| output.explain(failure))?;
        output.finish(self.target_cache).await
    }

    async fn open_existing(&self, cx: &Context, target: &str, size: u64) -> Result<Disk> {
        let format = if self.target_image_opts { None } else { Some(self.output_format.as_str()) };
        let spec = ImageSpec::parse(target, self.target_image_opts, format)?;
        let how = OpenMode::writing().cache(self.target_cache.0).allow(&self.allow);
        let disk = image::open(cx, &spec, &how).await?;
        if disk.size() < size {
            Err(Failure::new("output file is smaller than input file")
                .hint(format!("the sources are {size} bytes, the target {}", disk.size())))
        } else {
            Ok(disk)
        }
    }

    async fn create<'c>(
        &self,
        cx: &'c Context,
        target: &str,
        source: Option<&Source>,
    ) -> Result<Output<'c>> {
        let size = source.map_or(0, Source::len);
        let driver = options::output_driver(&cx.registry, &self.output_format)?;
        let CreateOptions { driver: given, size: wanted, backing_file, backing_format, .. } =
            options::parse_create(&**driver, &self.options)?;
        let wanted = wanted.unwrap_or(size);
        if wanted < size {
            return Err(Failure::new(format!(
                "the target would be smaller ({wanted} bytes) than the sources ({size} bytes)"
            )));
        }
        let mut how = OpenMode::reading(Sharing::Exclusive).allow(&self.allow);
        let mut request = CreateRequest::new(wanted).options(given);
        if let Some(reference) = self.backing.clone().or(backing_file) {
            if !driver.descriptor().has_parents {
                return Err(Failure::new(format!(
                    "Backing file not supported for file format '{}'",
                    self.output_format
                )));
            }
            let format = self.backing_format.clone().or(backing_format);
            let spec = ImageSpec::parse(&reference, false, format.as_deref())?;
            let parent = image::open(cx, &spec, &how).await?;
            request = request.parent(NewParent { device: parent.device().clone(), reference });
            how = how.parent(spec);
        }
        let making = Making {
            source,
            dense: self.sparse_size == Some(0),
            cache: self.target_cache.0,
            verbose: self.verbose,
        };
        Output::create(cx, target, driver, &request, &how, making).await
    }

    /// Copies into a target called `name`, and reads it back where that is wanted.
    async fn fill(
        &self,
        cx: &Context,
        sources: &Sources<'_>,
        name: &str,
        target: &Disk,
        options: ConvertOptions,
        progress: &Arc<Progress>,
    ) -> Result<()> {
        let offload = self.copy_range_offloading || self.sparse_size == Some(0);
        let options = options
            .sparse(self.sparse_size.unwrap_or(SPARSE))
            .threads(self.threads())
            .any_order(self.oob_writes)
            // A layer below that cannot read gives up the whole copy.
            .offload(offload && !self.verify && !self.salvage)
            .salvage(self.salvage)
            .rate(self.rate)
            .fingerprint(self.verify);
        let copied = convert(&sources.source, target, &options, progress.clone()).await;
        let copied = copied.map_err(|error| job_words::copying(&error, sources.names))?;
        tell(cx, &copied.lost, name);
        match copied.fingerprint {
            Some(expected) => self.verify(name, target, sources.source.len(), expected).await,
            None => Ok(()),
        }
    }

    fn threads(&self) -> Option<usize> {
        self.parallel.and_then(|threads| usize::try_from(threads).ok())
    }

    /// Reads the result back.
    async fn verify(
        &self,
        name: &str,
        target: &Disk,
        size: u64,
        expected: Fingerprint,
    ) -> Result<()> {
        let progress = Arc::new(self.progress.start("verify", size));
        let found = fingerprint(target, 0..size, self.threads(), progress.clone()).await;
        let found = found.map_err(|error| job_words::reading(&error, name))?;
        progress.finish();
        if found == expected {
            return Ok(());
        }
        Err(Failure::new(format!("'{name}' does not hold what was copied into it"))
            .hint("the disk or the memory is not to be trusted; the target was not kept"))
    }
}

/// The disks to copy, and the names of their images.
struct Sources<'a> {
    source: Source,
    names: &'a [String],
}

/// Warns of what could not be read in a copy into `target`.
fn tell(cx: &Context, lost: &Lost, target: &str) {
    for LostRange { start, len, error, .. } in lost.ranges() {
        let why = reasons(error);
        cx.console.say(format_args!(
            "warning: error while reading offset {start}: {why} ({len} bytes from there)"
        ));
    }
    if lost.bytes() > 0 {
        cx.console.say(format_args!(
            "warning: {} bytes could not be read and are zeros in '{target}'",
            lost.bytes()
        ));
    }
}

/// Refuses standard input that begins as an image or an archive does: its bytes are no disk.
fn refuse_another_format(cx: &Context, head: &[u8]) -> Result<()> {
    let report = cx.registry.recognise(&cx.registry.probe_bytes(None, head));
    if report.is_raw() {
        return Ok(());
    }
    match cx.registry.driver_of(&report, "-") {
        Ok(driver) => Err(Failure::new("Only a raw disk can be read from standard input").hint(
            format!(
                "this is {}: save it to a file and convert that; -f raw takes its bytes as they are",
                driver.descriptor().name
            ),
        )),
        Err(error) => {
            Err(way_on::not_opened(cx, &ImageSpec::plain("-", None), &report, &error))
        }
    }
}
