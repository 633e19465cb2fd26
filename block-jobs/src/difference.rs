//! Writing into a child only what its parent does not hold already.

use block_core::{Disk, PageBuffer, Result, WriteFlags, ZeroFlags, is_zero};

/// Bytes compared and written as one.
const UNIT: usize = 4096;

/// Makes `bytes` the content of `target` at `offset`, where `target` reads as `base`.
pub(crate) async fn write(base: &Disk, target: &Disk, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut below = PageBuffer::new(bytes.len());
    let stored = base.size().saturating_sub(offset).min(bytes.len() as u64) as usize;
    if let Some(stored) = below.get_mut(..stored).filter(|stored| !stored.is_empty()) {
        base.read_at(offset, stored).await?;
    }
    let units = bytes.len().div_ceil(UNIT);
    let differs = |unit: usize| {
        let range = unit * UNIT..((unit + 1) * UNIT).min(bytes.len());
        bytes.get(range.clone()) != below.get(range)
    };
    let mut unit = 0;
    while unit < units {
        let first = unit;
        while unit < units && differs(unit) {
            unit += 1;
        }
        let range = first * UNIT..(unit * UNIT).min(bytes.len());
        if let Some(run) = bytes.get(range.clone()).filter(|run| !run.is_empty()) {
            let at = offset + range.start as u64;
            if is_zero(run) {
                target.write_zeroes(at, run.len() as u64, ZeroFlags::MAY_UNMAP).await?
            } else {
                target.write_at(at, run, WriteFlags::empty()).await?
            }
        }
        unit += 1;
    }
    Ok(())
}

/// Makes `len` bytes of `target` at `offset` zeros, where `target` reads as `base`.
pub(crate) async fn zero(base: &Disk, target: &Disk, offset: u64, len: u64) -> Result<()> {
    let mut stream = super::ExtentStream::new(base.clone(), offset..offset.saturating_add(len));
    while let Some(extent) = stream.next().await? {
        if extent.is_data() {
            target.write_zeroes(extent.start, extent.len, ZeroFlags::MAY_UNMAP).await?;
        }
    }
    Ok(())
}
