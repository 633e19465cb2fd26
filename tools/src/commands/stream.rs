//! Disks on standard input and standard output.

use std::io::{self, Read};

use block_core::{Disk, PageBuffer, Preallocation, SECTOR_SIZE, WriteFlags, is_zero};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::progress::Progress;
use block_jobs::{EarlyFlush, PIECE, Source};

/// Writes all bytes of `source`, whose parts are called `names`, to standard output, in order.
pub(super) async fn write(cx: &Context, source: &Source, names: &[String]) -> Result<u8> {
    let mut buffer = PageBuffer::new(PIECE as usize);
    let mut walk = source.walk();
    let failed = |error| Failure::because("Could not read the map", &error);
    while let Some((index, extent)) = walk.next().await.map_err(failed)? {
        let Some(part) = source.part(index) else { break };
        let data = extent.is_data();
        if !data {
            buffer.fill(0);
        }
        let mut at = extent.start;
        while at < extent.end() {
            let take = (extent.end() - at).min(PIECE);
            let Some(piece) = buffer.get_mut(..take as usize) else { break };
            if data {
                part.disk.read_at(at, piece).await.map_err(|error| {
                    let name = names.get(index).map_or("a source", String::as_str);
                    let place = format!("error while reading {name} at byte {at}");
                    Failure::because(place, &error)
                })?;
            }
            cx.console.bytes(piece)?;
            at += take;
        }
    }
    Ok(0)
}

/// Standard input, with its first piece already read.
pub(super) struct Input {
    buffer: PageBuffer,
    /// Length in bytes of the piece in the buffer.
    filled: usize,
}

impl Input {
    /// Reads the first piece, blocking.
    pub fn begin() -> Result<Self> {
        let mut buffer = PageBuffer::new(PIECE as usize);
        let filled = fill(&mut buffer)?;
        Ok(Self { buffer, filled })
    }

    /// Returns the first piece.
    pub fn head(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

/// Copies `input` to `disk`. With `grows`, the disk is resized to fit. Otherwise it has its final size.
pub(super) async fn read(
    input: Input,
    disk: &Disk,
    grows: bool,
    progress: &Progress,
) -> Result<()> {
    let Input { mut buffer, filled } = input;
    let mut first = Some(filled);
    let early_flush = EarlyFlush::default();
    let mut at = 0u64;
    loop {
        let filled = match first.take() {
            Some(filled) => filled,
            None => fill(&mut buffer)?,
        };
        // Fills the rest of the last sector with zeros.
        let whole = filled.next_multiple_of(SECTOR_SIZE as usize).min(buffer.len());
        buffer.get_mut(filled..whole).unwrap_or_default().fill(0);
        let Some(piece) = buffer.get(..whole).filter(|piece| !piece.is_empty()) else {
            return Ok(());
        };
        let end = at + whole as u64;
        let failed = |error| Failure::because(format!("error while writing at byte {at}"), &error);
        if grows {
            disk.device().resize(end, Preallocation::Off).await.map_err(failed)?;
        } else if end > disk.size() {
            return Err(Failure::new(format!(
                "standard input has more than the {} bytes of the disk",
                disk.size()
            )));
        }
        if !is_zero(piece) {
            disk.write_at(at, piece, WriteFlags::empty()).await.map_err(failed)?;
            early_flush.wrote(disk, whole as u64);
        }
        at = end;
        if grows {
            progress.set(at, at);
        } else {
            progress.advance(whole as u64);
        }
        // The runtime sees an interrupt here, between two pieces.
        tokio::task::yield_now().await;
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    let mut input = io::stdin().lock();
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Failure::new(format!("error while reading standard input: {error}")));
            }
        }
    }
    Ok(filled)
}
