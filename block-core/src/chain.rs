//! Chains of images: listing them, committing a child into its parent, and rebasing a child onto another
//! parent.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use uuid::Uuid;

use crate::{
    DeviceCaps, Disk, Error, ErrorKind, Extent, ExtentFlags, InfoValue, OptionSpec, Options,
    PageBuffer, Preallocation, Progress, Result, WriteFlags, ZeroFlags, give_way, is_zero,
};

/// 1 MiB, the bytes handled at a time.
const CHUNK: u64 = 1 << 20;

/// 1 TiB, the bytes whose extents are requested at a time. It bounds the list that a hostile map can produce.
const WINDOW: u64 = 1 << 40;

/// Returns the images of a chain, top first.
pub fn images(top: &Disk) -> Vec<Disk> {
    let mut images = vec![top.clone()];
    while let Some(parent) = images.last().and_then(Disk::parent) {
        images.push(parent);
    }
    images
}

/// Amount of data moved between images of a chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Bytes written as data.
    pub data: u64,
    /// Bytes written as zeros.
    pub zeros: u64,
}

/// Writes everything that `child` holds into its parent, which was opened for writing, and flushes the
/// parent. Does not change the child. The caller then empties or removes the child, and calls [`acknowledge`]
/// after closing the parent.
///
/// The child reads the same at every moment, also if an interrupted commit is started again, because the
/// parent receives only what the child shows anyway.
///
/// # Errors
/// `InvalidInput` if there is no parent. `Unsupported` if the parent is smaller and cannot grow.
/// `Interrupted` if `progress` (in bytes) returns `false`. Also any error of reading and writing.
pub async fn commit(child: &Disk, progress: &Progress<'_>) -> Result<Moved> {
    commit_counted(child, progress, &AtomicU64::new(0)).await
}

/// Commits as [`commit`] does, and counts the bytes of data in `written`, for a caller that limits the rate.
/// The future returns `Pending` once after each piece of at most 1 MiB, so that the caller can delay or drop
/// it.
///
/// # Errors
/// As [`commit`].
pub async fn commit_counted(
    child: &Disk,
    progress: &Progress<'_>,
    written: &AtomicU64,
) -> Result<Moved> {
    let parent = child
        .parent()
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "Image does not have a backing file"))?;
    let size = child.size();
    if parent.size() < size {
        if !parent.info().caps.contains(DeviceCaps::GROW) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the parent has {} bytes, the child {size}, and cannot grow",
                    parent.size()
                ),
            ));
        }
        parent.device().resize(size, Preallocation::Off).await?;
    }
    let mut moved = Moved::default();
    let mut buffer = chunk_buffer();
    for_extents(child, size, async |extent: Extent| {
        let own = extent.depth == 0 && extent.flags.contains(ExtentFlags::PRESENT);
        for chunk in chunks(extent.start..extent.end(), CHUNK) {
            if own {
                pass(child, &parent, chunk.clone(), extent.is_zero(), &mut buffer, &mut moved)
                    .await?;
                written.store(moved.data, Ordering::Relaxed);
            }
            go_on(progress, chunk.end, size).await?;
        }
        Ok(())
    })
    .await?;
    parent.flush().await?;
    Ok(moved)
}

/// Prepares `child` for the new parent `parent`; `None` stands for a parent of zeros. Where the child shows
/// its present parent and the two parents differ, the content is copied into the child. Flushes the child.
/// The caller then records the new parent in it ([`adopt`]).
///
/// The child reads the same at every moment.
///
/// # Errors
/// `Interrupted` if `progress` (in bytes) returns `false`, and any error of reading and writing.
pub async fn rebase(child: &Disk, parent: Option<&Disk>, progress: &Progress<'_>) -> Result<Moved> {
    let size = child.size();
    let mut moved = Moved::default();
    let mut buffers = (chunk_buffer(), chunk_buffer());
    for_extents(child, size, async |extent: Extent| {
        let shown = extent.depth > 0 || !extent.flags.contains(ExtentFlags::PRESENT);
        for chunk in chunks(extent.start..extent.end(), CHUNK) {
            let len = chunk.end - chunk.start;
            let changed = if shown {
                difference(child, parent, &extent, &chunk, &mut buffers).await?
            } else {
                None
            };
            match changed {
                None => {}
                Some(bytes) if is_zero(bytes) => {
                    hold_zeros(child, &chunk).await?;
                    moved.zeros = moved.zeros.saturating_add(len);
                }
                Some(bytes) => {
                    child.write_at(chunk.start, bytes, WriteFlags::empty()).await?;
                    moved.data = moved.data.saturating_add(len);
                }
            }
            go_on(progress, chunk.end, size).await?;
        }
        Ok(())
    })
    .await?;
    child.flush().await?;
    Ok(moved)
}

/// Prefix of the amend options that record facts of the parent. For example, `parent_uuid` records the
/// parent's detail `uuid`.
const OF_PARENT: &str = "parent_";

/// Returns whether a format with these amend options records the identity of the parent.
pub fn records_parent(specs: &[OptionSpec]) -> bool {
    specs.iter().any(|spec| spec.name.starts_with(OF_PARENT))
}

/// Durably records `parent` as the parent of `child`, or records that it has none. `specs` are the amend
/// options of the child's format. If the parent's format has no identity, a random one is recorded, which
/// cannot be verified.
///
/// # Errors
/// Any error of the amendment.
pub async fn adopt(child: &Disk, specs: &[OptionSpec], parent: Option<&Disk>) -> Result<()> {
    let mut facts = Options::new();
    for (spec, fact) in facts_of_parent(specs) {
        let value = match parent {
            None => Uuid::nil(),
            Some(parent) => identity(parent, fact).unwrap_or_else(Uuid::new_v4),
        };
        facts.set(specs, spec.name, &value.to_string())?;
    }
    child.device().amend(&facts).await
}

/// Records in `child`, durably, that its parent's current content is the intended one. Call this after a
/// [`commit`] and after closing the parent, which may change its identity a last time. Does nothing if the
/// parent has no identity.
///
/// # Errors
/// Any error of the amendment.
pub async fn acknowledge(child: &Disk, specs: &[OptionSpec]) -> Result<()> {
    let Some(parent) = child.parent() else { return Ok(()) };
    if facts_of_parent(specs).all(|(_, fact)| identity(&parent, fact).is_some()) {
        adopt(child, specs, Some(&parent)).await
    } else {
        Ok(())
    }
}

fn facts_of_parent(specs: &[OptionSpec]) -> impl Iterator<Item = (&OptionSpec, &str)> {
    specs.iter().filter_map(|spec| Some((spec, spec.name.strip_prefix(OF_PARENT)?)))
}

/// Returns the UUID in an image's details that an option calls `fact`.
fn identity(disk: &Disk, fact: &str) -> Option<Uuid> {
    disk.info().details.into_iter().find_map(|(name, value)| match value {
        InfoValue::Uuid(uuid) if name.replace('-', "_") == fact => Some(uuid),
        _ => None,
    })
}

async fn for_extents(
    disk: &Disk,
    size: u64,
    mut each: impl AsyncFnMut(Extent) -> Result<()>,
) -> Result<()> {
    for window in chunks(0..size, WINDOW) {
        for extent in disk.extents(window).await?.into_vec() {
            each(extent).await?;
        }
    }
    Ok(())
}

/// Reports progress and yields once, because all I/O before may have completed without yielding.
async fn go_on(progress: &Progress<'_>, done: u64, total: u64) -> Result<()> {
    give_way().await;
    if progress(done, total) {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Interrupted, "stopped; it can be begun again"))
    }
}

/// Splits a range at multiples of `step`.
fn chunks(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start - start % step).saturating_add(step).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

/// Stores zeros shown by an image in the image itself, so that they stay when its parent changes. The range
/// is at most a chunk. Zeroing a part of a block would change nothing while the present parent shows zeros
/// there. So such a part is written as data.
async fn hold_zeros(disk: &Disk, range: &Range<u64>) -> Result<()> {
    let block = disk.info().block_size.unwrap_or(u64::MAX).max(1);
    let start = range.start.checked_next_multiple_of(block).unwrap_or(range.end).min(range.end);
    let end = (range.end - range.end % block).max(start);
    for part in [range.start..start, end..range.end] {
        let len = part.end - part.start;
        if len > 0 {
            let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
            disk.write_at(part.start, &zeros, WriteFlags::empty()).await?;
        }
    }
    match end - start {
        0 => Ok(()),
        len => disk.write_zeroes(start, len, ZeroFlags::MAY_UNMAP).await,
    }
}

/// Copies a range from `from` to `to`.
async fn pass(
    from: &Disk,
    to: &Disk,
    range: Range<u64>,
    is_known_zero: bool,
    buffer: &mut PageBuffer,
    moved: &mut Moved,
) -> Result<()> {
    let bytes = if is_known_zero {
        None
    } else {
        Some(read(from, &range, buffer).await?).filter(|bytes| !is_zero(bytes))
    };
    let len = range.end - range.start;
    match bytes {
        None => {
            moved.zeros = moved.zeros.saturating_add(len);
            to.write_zeroes(range.start, len, ZeroFlags::MAY_UNMAP).await
        }
        Some(bytes) => {
            moved.data = moved.data.saturating_add(len);
            to.write_at(range.start, bytes, WriteFlags::empty()).await
        }
    }
}

/// Returns the child's present content of a chunk, if the new parent shows something else.
async fn difference<'b>(
    child: &Disk,
    parent: Option<&Disk>,
    extent: &Extent,
    range: &Range<u64>,
    (own, other): &'b mut (PageBuffer, PageBuffer),
) -> Result<Option<&'b [u8]>> {
    let size = parent.map_or(0, Disk::size);
    let covered = range.start.min(size)..range.end.min(size);
    let mut other_is_zero = true;
    if let (Some(parent), false) = (parent, covered.is_empty()) {
        other_is_zero =
            parent.extents(covered.clone()).await?.as_slice().iter().all(Extent::is_zero);
    }
    if extent.is_zero() && other_is_zero {
        return Ok(None);
    }
    let own = read(child, range, own).await?;
    let other: &[u8] = match parent {
        Some(parent) if !other_is_zero => read(parent, &covered, other).await?,
        _ => &[],
    };
    // Past its end, the parent reads as zeros.
    let (common, rest) = own.split_at(other.len().min(own.len()));
    Ok((common != other || !is_zero(rest)).then_some(own))
}

/// Allocates a buffer for a chunk.
fn chunk_buffer() -> PageBuffer {
    PageBuffer::new(CHUNK as usize)
}

/// Reads a range of at most a chunk.
async fn read<'b>(disk: &Disk, range: &Range<u64>, buffer: &'b mut PageBuffer) -> Result<&'b [u8]> {
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(buffer.len());
    let bytes = buffer.get_mut(..len).unwrap_or_default();
    disk.read_at(range.start, bytes).await?;
    Ok(bytes)
}
