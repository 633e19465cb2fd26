//! `map`: which ranges of a disk are stored, and where.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use block_core::{Disk, Extent, ExtentFlags, SECTOR_SIZE, Storage, chain};

use crate::args::{AllowArgs, OutputFormat, ShareArgs, SourceArgs, size};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::display_name;
use crate::image::{self, OpenMode};
use block_jobs::ExtentStream;

use super::picture::PictureArgs;

#[derive(clap::Args, Debug)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// First byte to look at
    #[arg(short = 's', long, value_name = "SIZE", value_parser = size)]
    start_offset: Option<u64>,
    /// How many bytes to look at
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = size)]
    max_length: Option<u64>,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    picture: PictureArgs,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

impl MapArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        let how = OpenMode::shared(self.share).allow(&self.allow);
        cx.block_on(async {
            let disk = image::open(cx, &spec, &how).await?;
            if self.picture.wanted() {
                return self.picture.make(cx, &disk, &spec.shown).await;
            }
            let start = self.start_offset.unwrap_or(0);
            let end = self.max_length.map_or(u64::MAX, |len| start.saturating_add(len));
            let listing = Listing::new(&disk, start..end);
            // Inside another image, offsets are those of that image's disk, not of a file.
            let in_a_file = spec.below.is_none();
            match self.output {
                OutputFormat::Human => human(cx, &disk, listing, in_a_file).await,
                OutputFormat::Json => json(cx, listing, in_a_file).await,
            }
        })
    }
}

fn failed(error: block_core::Error) -> Failure {
    Failure::because("Could not read the map", &error)
}

/// The extents of a map, limited to as many bytes as the files hold. Blocks that share a place could otherwise give a
/// small file an endless map.
struct Listing {
    stream: ExtentStream,
    files: Vec<File>,
}

/// The file of one image of a chain.
struct File {
    storage: Arc<dyn Storage>,
    len: u64,
    /// Total length in bytes of the extents that this file stores, so far.
    named: u64,
}

impl Listing {
    fn new(disk: &Disk, range: Range<u64>) -> Self {
        let file = |image: &Disk| File { storage: image.device().storage(), len: 0, named: 0 };
        Self {
            stream: ExtentStream::new(disk.clone(), range),
            files: chain::images(disk).iter().map(file).collect(),
        }
    }

    async fn next(&mut self) -> Result<Option<Extent>> {
        let Some(extent) = self.stream.next().await.map_err(failed)? else { return Ok(None) };
        let file = usize::try_from(extent.depth).ok().and_then(|depth| self.files.get_mut(depth));
        let is_stored = extent.offset.is_some() && !extent.flags.contains(ExtentFlags::COMPRESSED);
        if let Some(file) = file.filter(|_| is_stored) {
            file.named = file.named.saturating_add(extent.len);
            if file.named > file.len {
                // Another program may have extended the file.
                let len = file.storage.len().await.map_err(failed)?;
                // A raw disk is rounded up to whole sectors.
                file.len = len.next_multiple_of(SECTOR_SIZE);
            }
            if file.named > file.len {
                let message = format!(
                    "Could not read the map: up to byte {:#x} of the disk it names {} bytes, and '{}' holds {}: blocks share places",
                    extent.end(),
                    file.named,
                    file.storage.uri(),
                    file.len
                );
                return Err(
                    Failure::new(message).hint("'check' lists what is wrong with the image")
                );
            }
        }
        Ok(Some(extent))
    }
}

async fn json(cx: &Context, mut listing: Listing, in_a_file: bool) -> Result<u8> {
    let mut line = String::with_capacity(200);
    let mut first = true;
    cx.console.own_text("[")?;
    while let Some(extent) = listing.next().await? {
        line.clear();
        if !first {
            line.push_str(",\n");
        }
        first = false;
        let offset = extent.offset.filter(|_| in_a_file);
        write_extent(&mut line, &Extent { offset, ..extent });
        cx.console.bytes(line.as_bytes())?;
    }
    cx.console.line("]")?;
    Ok(0)
}

fn write_extent(line: &mut String, extent: &Extent) {
    let has = |flag| extent.flags.contains(flag);
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \"data\": {}, \"compressed\": {}",
        extent.start,
        extent.len,
        extent.depth,
        has(ExtentFlags::PRESENT),
        has(ExtentFlags::ZERO),
        has(ExtentFlags::DATA),
        has(ExtentFlags::COMPRESSED),
    );
    if let Some(offset) = extent.offset {
        let _ = write!(line, ", \"offset\": {offset}");
    }
    line.push('}');
}

async fn human(cx: &Context, disk: &Disk, mut listing: Listing, in_a_file: bool) -> Result<u8> {
    let files = chain_names(disk);
    cx.console.line(format_args!("{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to"))?;
    while let Some(extent) = listing.next().await? {
        if !extent.is_data() {
            continue;
        }
        let Some(offset) = extent.offset.filter(|_| in_a_file) else {
            return Err(Failure::new("File contains external, encrypted or compressed clusters.")
                .hint("--output=json shows every extent"));
        };
        let file = files.get(extent.depth as usize).map_or("", String::as_str);
        cx.console.line(format_args!(
            "{:<16}{:<16}{:<16}{file}",
            hex(extent.start),
            hex(extent.len),
            hex(offset)
        ))?;
    }
    Ok(0)
}

/// Returns the file names of an image and its parents, by depth.
pub(super) fn chain_names(disk: &Disk) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = Some(disk.clone());
    while let Some(disk) = next {
        names.push(display_name(disk.device().storage().uri()));
        next = disk.parent();
    }
    names
}

/// Formats a number as `0x1f`, and zero as `0`.
fn hex(number: u64) -> String {
    match number {
        0 => "0".to_owned(),
        _ => format!("{number:#x}"),
    }
}
