//! `digest`: a hash of a disk's content, whatever format it is stored in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use block_core::{Disk, is_zero};
use serde_json::json;

use crate::args::{AllowArgs, OutputFormat, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::copy::{Buffers, ExtentStream, Job, LEAF, Merkle, PIECE, Plan, leaf, run};
use crate::error::{Failure, Result};
use crate::image::{self, How};
use crate::progress::{Progress, ProgressArgs};
use crate::signals::interruptible;

#[derive(clap::Args, Debug)]
pub(crate) struct DigestArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The images
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
}

const TASKS: usize = 4;

impl DigestArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let how = How::shared(self.share).allow(&self.allow);
        cx.block_on_with_timers(async {
            let mut list = Vec::new();
            for file in &self.files {
                let disk = image::open(cx, &self.source.spec(file)?, &how).await?;
                let size = disk.size();
                let progress = Arc::new(self.progress.start("digest", size));
                let work = digest(disk, file, &progress);
                let hash = interruptible(&cx.console, &progress, work).await?;
                progress.finish();
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                match self.output {
                    OutputFormat::Json => list.push(json!({
                        "filename": file, "virtual-size": size, "blake3-tree": hash,
                    })),
                    OutputFormat::Human => cx.console.line(sum_line(&hash, file))?,
                }
            }
            if self.output == OutputFormat::Json {
                cx.console.json(&list)?;
            }
            Ok(0)
        })
    }
}

/// Returns the line of an image as `sha256sum` writes one: where the name holds a line end or a backslash, a backslash
/// begins the line, and both are escaped.
fn sum_line(hash: &str, name: &str) -> String {
    if name.contains(['\\', '\n', '\r']) {
        let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        format!("\\{hash}  {name}")
    } else {
        format!("{hash}  {name}")
    }
}

async fn digest(disk: Disk, name: &str, progress: &Arc<Progress>) -> Result<[u8; 32]> {
    let size = disk.size();
    let job = Arc::new(DigestJob {
        disk: disk.clone(),
        name: name.to_owned(),
        collector: Mutex::new(Collector { tree: Merkle::new(), next: 0, early: BTreeMap::new() }),
        progress: Arc::clone(progress),
    });
    let plan = LeafPlan {
        stream: ExtentStream::with_holes(disk, 0..u64::MAX),
        left: 0..0,
        done_to: 0,
        size,
        number: 0,
        progress: Arc::clone(progress),
    };
    run(plan, Arc::clone(&job), TASKS).await?;
    let job = Arc::into_inner(job).ok_or_else(|| Failure::new("a task kept its work"))?;
    let collector = job.collector.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(collector.tree.finish(size))
}

/// Whole leaves that hold data, the last one cut at the end of the disk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    number: u64,
    start: u64,
    len: u64,
}

struct LeafPlan {
    stream: ExtentStream,
    /// Leaves (by their bytes) still to be given out.
    left: std::ops::Range<u64>,
    done_to: u64,
    size: u64,
    number: u64,
    progress: Arc<Progress>,
}

#[async_trait]
impl Plan for LeafPlan {
    type Piece = Piece;

    async fn next(&mut self) -> Result<Option<Piece>> {
        while self.left.is_empty() {
            let next = self.stream.next().await;
            let next = next.map_err(|error| Failure::because("Could not read the map", &error))?;
            match next {
                None => return Ok(None),
                Some(extent) if extent.is_data() => {
                    // Two extents in one leaf are one piece of work.
                    let start = (extent.start / LEAF * LEAF).max(self.done_to);
                    let end = extent.end().next_multiple_of(LEAF).min(self.size);
                    self.left = start..end.max(start);
                    self.done_to = end.max(self.done_to);
                }
                Some(extent) => self.progress.skip(extent.len),
            }
        }
        let start = self.left.start;
        let len = (self.left.end - start).min(PIECE - start % PIECE);
        self.left.start += len;
        self.number += 1;
        Ok(Some(Piece { number: self.number - 1, start, len }))
    }
}

type Leaves = Vec<(u64, [u8; 32])>;

/// Puts the leaves of pieces that end out of order into the tree in order.
struct Collector {
    tree: Merkle,
    next: u64,
    early: BTreeMap<u64, Leaves>,
}

impl Collector {
    fn add(&mut self, number: u64, leaves: Leaves) {
        self.early.insert(number, leaves);
        while let Some(leaves) = self.early.remove(&self.next) {
            self.next += 1;
            for (index, hash) in leaves {
                self.tree.add(index, hash);
            }
        }
    }
}

struct DigestJob {
    disk: Disk,
    name: String,
    collector: Mutex<Collector>,
    progress: Arc<Progress>,
}

#[async_trait]
impl Job for DigestJob {
    type Piece = Piece;

    async fn work(&self, piece: Piece, buffers: &mut Buffers) -> Result<()> {
        let read = buffers.one().read(&self.disk, piece.start, piece.len).await;
        let bytes = read.map_err(|error| {
            let place = format!("error while reading {} at byte {}", self.name, piece.start);
            Failure::because(place, &error)
        })?;
        let first = piece.start / LEAF;
        let leaves = (first..)
            .zip(bytes.chunks(LEAF as usize))
            .filter(|(_, bytes)| !is_zero(bytes))
            .map(|(index, bytes)| (index, leaf(bytes)))
            .collect();
        let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.add(piece.number, leaves);
        drop(collector);
        self.progress.advance(piece.len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_begin_a_second_line() {
        for (name, line) in [
            ("a b.vdi", "00  a b.vdi"),
            ("a\n00  b", "\\00  a\\n00  b"),
            ("a\r\\b", "\\00  a\\r\\\\b"),
        ] {
            assert_eq!(sum_line("00", name), line);
        }
    }
}
