//! Copying between storages by the layer below, without the bytes passing through here.

use std::ops::Range;

use block_core::{Disk, Place, Result, StorageCaps};

/// Copies `range` of `source` to `to` of `target`, which must be a raw disk. `false`: it cannot be done
/// this way, and any part of the range may have been copied already.
pub(super) async fn copy(source: &Disk, range: Range<u64>, target: &Disk, to: u64) -> Result<bool> {
    let storage = target.device().storage();
    if target.info().block_size.is_some() || !storage.caps().contains(StorageCaps::COPY) {
        return Ok(false);
    }
    let len = range.end - range.start;
    let there = target.map(to..to.saturating_add(len)).await?;
    let start = match there.runs.as_slice() {
        [run] if run.len == len => match &run.place {
            Place::Stored { offset, .. } => *offset,
            _ => return Ok(false),
        },
        _ => return Ok(false),
    };
    let here = source.map(range.clone()).await?;
    for run in &here.runs {
        let Place::Stored { storage: from, offset } = &run.place else { return Ok(false) };
        let at = start.saturating_add(run.start.saturating_sub(range.start));
        if !storage.copy_from(at, &**from, *offset, run.len).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
