//! `compare`: whether two images hold the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use block_core::{Disk, Extent, ExtentFlags};

use crate::args::{AllowArgs, Cache, ImageSpec, NamingArgs, ShareArgs};
use crate::context::Context;
use crate::copy::{
    Buffer, Buffers, Job, Memory, PIECE, Pair, PairStream, Plan, first_difference, first_nonzero,
    run,
};
use crate::error::{Failure, Result};
use crate::image::{self, How};
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;

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
const TASKS: usize = 4;

impl CompareArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let how = How::shared(self.share).cache(self.cache.0).allow(&self.allow);
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
            let work = self.first_mismatch(a, b, &progress);
            let found = interruptible(&cx.console, &progress, work).await?;
            if common < size && found.is_none_or(|mismatch| mismatch.at() >= common) {
                progress.clear();
                self.say(cx, "Warning: Image size mismatch!")?;
            }
            match found {
                None => {
                    progress.complete();
                    self.say(cx, "Images are identical.")?;
                    cx.console.flush()?;
                    progress.close();
                    Ok(0)
                }
                Some(mismatch) => {
                    progress.clear();
                    self.say(cx, &mismatch.message())?;
                    Ok(DIFFERENT)
                }
            }
        })
    }

    fn say(&self, cx: &Context, message: &str) -> Result<()> {
        if !self.progress.quiet {
            cx.console.line(message)?;
        }
        Ok(())
    }

    async fn first_mismatch(
        &self,
        a: Disk,
        b: Disk,
        progress: &Arc<Progress>,
    ) -> Result<Option<Mismatch>> {
        let found = Arc::new(Found { at: AtomicU64::new(u64::MAX), what: Mutex::new(None) });
        let plan = ComparePlan {
            pairs: PairStream::new(&a, &b, self.strict),
            left: None,
            strict: self.strict,
            found: Arc::clone(&found),
            progress: Arc::clone(progress),
        };
        let a = Side { disk: a, name: self.a.clone() };
        let b = Side { disk: b, name: self.b.clone() };
        let job = CompareJob { a, b, found: Arc::clone(&found), progress: Arc::clone(progress) };
        run(plan, Arc::new(job), TASKS).await?;
        Ok(*found.what.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A difference and its first byte.
#[derive(Debug, Clone, Copy)]
enum Mismatch {
    Content(u64),
    Status(u64),
}

impl Mismatch {
    fn at(self) -> u64 {
        match self {
            Self::Content(at) | Self::Status(at) => at,
        }
    }

    fn message(self) -> String {
        match self {
            Self::Content(at) => format!("Content mismatch at offset {at}!"),
            Self::Status(at) => format!("Strict mode: Offset {at} block status mismatch!"),
        }
    }
}

/// The first mismatch so far. Pieces are begun in order, so everything before it is looked at.
struct Found {
    at: AtomicU64,
    what: Mutex<Option<Mismatch>>,
}

impl Found {
    fn set(&self, mismatch: Mismatch) {
        let mut what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        if what.is_none_or(|known| mismatch.at() < known.at()) {
            self.at.store(mismatch.at(), Ordering::Relaxed);
            *what = Some(mismatch);
        }
    }

    fn any(&self) -> bool {
        self.at.load(Ordering::Relaxed) != u64::MAX
    }
}

/// A range of which at least one side has to be read.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    len: u64,
    read_a: bool,
    read_b: bool,
}

struct ComparePlan {
    pairs: PairStream,
    left: Option<Piece>,
    strict: bool,
    found: Arc<Found>,
    progress: Arc<Progress>,
}

#[async_trait]
impl Plan for ComparePlan {
    type Piece = Piece;

    async fn next(&mut self) -> Result<Option<Piece>> {
        while !self.found.any() {
            if let Some(mut left) = self.left.take() {
                let len = left.len.min(PIECE - left.start % PIECE);
                let piece = Piece { len, ..left };
                left.start += len;
                left.len -= len;
                self.left = (left.len > 0).then_some(left);
                return Ok(Some(piece));
            }
            let next = self.pairs.next().await;
            let Some(pair) = next.map_err(|error| {
                Failure::because("Could not read the map", &error).status(CANNOT_EXAMINE)
            })?
            else {
                break;
            };
            self.take(pair);
        }
        Ok(None)
    }
}

impl ComparePlan {
    fn take(&mut self, pair: Pair) {
        if self.strict && status(pair.a) != status(pair.b) {
            self.found.set(Mismatch::Status(pair.start));
            return;
        }
        let data = |extent: Option<Extent>| extent.is_some_and(|extent| extent.is_data());
        let (read_a, read_b) = (data(pair.a), data(pair.b));
        match read_a || read_b {
            true => {
                self.left = Some(Piece { start: pair.start, len: pair.len, read_a, read_b });
            }
            false => self.progress.skip(pair.len),
        }
    }
}

/// What strict mode compares besides the content.
fn status(extent: Option<Extent>) -> Option<ExtentFlags> {
    let told = ExtentFlags::PRESENT | ExtentFlags::ZERO | ExtentFlags::DATA;
    extent.map(|extent| extent.flags & told)
}

/// One of the two disks, and what the user calls it.
struct Side {
    disk: Disk,
    name: String,
}

struct CompareJob {
    a: Side,
    b: Side,
    found: Arc<Found>,
    progress: Arc<Progress>,
}

#[async_trait]
impl Job for CompareJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let (first, second) = buffers.two();
        let in_a = if piece.read_a { Some(self.a.read(&piece, first).await?) } else { None };
        let in_b = if piece.read_b { Some(self.b.read(&piece, second).await?) } else { None };
        let difference = match (&in_a, &in_b) {
            (Some(in_a), Some(in_b)) => first_difference(in_a, in_b),
            (Some(only), None) | (None, Some(only)) => first_nonzero(only),
            (None, None) => None,
        };
        if let Some(at) = difference {
            self.found.set(Mismatch::Content(piece.start + at as u64));
        }
        self.progress.advance(piece.len);
        Ok(())
    }
}

impl Side {
    async fn read<'b>(&self, piece: &Piece, buffer: &'b mut Buffer) -> Result<Memory<'b>> {
        let Self { disk, name } = self;
        buffer.read(disk, piece.start, piece.len).await.map_err(|error| {
            let place = format!("Error while reading offset {} of {name}", piece.start);
            Failure::because(place, &error).status(CANNOT_READ)
        })
    }
}
