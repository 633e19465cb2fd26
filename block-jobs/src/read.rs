//! Reading all of a disk that is not known to be zeros.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use block_core::Disk;

use super::buffers::Buffers;
use super::error::{JobError, Result, Side, Step};
use super::job::{Job, Plan, run};
use super::progress::{Expected, JobProgress};
use super::{ExtentStream, PIECE};

/// Calls `see(offset, bytes)` for every piece of data in `range` of `disk`, in any order, from several tasks.
pub(super) async fn read_data(
    disk: &Disk,
    range: Range<u64>,
    tasks: usize,
    progress: Arc<dyn JobProgress>,
    see: impl Fn(u64, &[u8]) + Send + Sync + 'static,
) -> Result<()> {
    let size = range.end.saturating_sub(range.start);
    let plan = ReadPlan {
        expected: Expected::new(Arc::clone(&progress), size),
        stream: ExtentStream::with_holes(disk.clone(), range),
        left: (0, 0),
    };
    let job = ReadJob { disk: disk.clone(), progress, see };
    run(plan, Arc::new(job), tasks).await?;
    Ok(())
}

struct ReadPlan {
    stream: ExtentStream,
    /// What is left of the extent in hand: first byte, length.
    left: (u64, u64),
    expected: Expected,
}

#[async_trait]
impl Plan for ReadPlan {
    type Piece = (u64, u64);

    async fn next(&mut self) -> Result<Option<(u64, u64)>> {
        while self.left.1 == 0 {
            let next = self.stream.next().await;
            let next = next.map_err(|error| JobError::new(Side::Source(0), Step::Map, error))?;
            match next {
                None => return Ok(None),
                Some(extent) if extent.is_data() => self.left = (extent.start, extent.len),
                Some(extent) => self.expected.skip(extent.len),
            }
        }
        let (start, len) = self.left;
        let take = len.min(PIECE - start % PIECE);
        self.left = (start + take, len - take);
        Ok(Some((start, take)))
    }
}

struct ReadJob<F> {
    disk: Disk,
    progress: Arc<dyn JobProgress>,
    see: F,
}

#[async_trait]
impl<F: Fn(u64, &[u8]) + Send + Sync + 'static> Job for ReadJob<F> {
    type Piece = (u64, u64);

    async fn work(&self, (offset, len): (u64, u64), buffers: &mut Buffers) -> Result<()> {
        let read = buffers.one().read(&self.disk, offset, len).await;
        let bytes =
            read.map_err(|error| JobError::new(Side::Source(0), Step::Read, error).at(offset))?;
        (self.see)(offset, &bytes);
        self.progress.done(len);
        Ok(())
    }
}
