//! The guest's disk inside an image, presented as a read-only storage.

use super::options::InspectOptions;
use super::report::InspectReport;
use super::{Verdict, inspect};
use async_trait::async_trait;
use block_core::{
    Access, Disk, Error, ErrorKind, OpenContext, Options, Registry, Result, Storage, StorageCaps,
    StorageExtent, StorageId, StorageLimits, ZeroMode,
};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// A disk presented as a read-only storage, so that its content can be probed.
#[derive(Debug)]
pub struct GuestStorage {
    disk: Disk,
    uri: String,
}

impl GuestStorage {
    /// Wraps `disk`, which was opened from `uri`.
    pub fn new(disk: Disk, uri: &str) -> Self {
        Self { disk, uri: format!("guest disk of {uri}") }
    }

    fn refused<T>(&self) -> Result<T> {
        Err(Error::new(ErrorKind::ReadOnly, "the disk is only looked at")
            .in_image(self.uri.clone()))
    }
}

#[async_trait]
impl Storage for GuestStorage {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn caps(&self) -> StorageCaps {
        StorageCaps::empty()
    }

    fn limits(&self) -> StorageLimits {
        StorageLimits::default()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.disk.size())
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, buf).await
    }

    fn try_read_at(&self, _: u64, _: &mut [u8]) -> Option<Result<()>> {
        None
    }

    async fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        self.refused()
    }

    async fn write_zeroes(&self, _: u64, _: u64, _: ZeroMode) -> Result<()> {
        self.refused()
    }

    async fn allocate(&self, _: u64, _: u64) -> Result<()> {
        self.refused()
    }

    async fn set_len(&self, _: u64) -> Result<()> {
        self.refused()
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let end = range.end.min(self.disk.size());
        if let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) {
            out.push(StorageExtent { start: range.start, len, data: true });
        }
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn copy_from(&self, _: u64, _: &dyn Storage, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn id(&self) -> Option<StorageId> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Inspects the file as [`inspect`] does, then the guest's disk inside it. The guest part is skipped if the file is
/// refused, or if no registered driver opens it without opening another file. The guest part is one level deep,
/// read-only and within the same limits. The verdict stays that of the file, because the guest decides what its disk
/// holds.
///
/// # Errors
/// Returns the same errors as [`inspect`]. If the driver refuses the image while opening or reading it, the report has
/// no guest part.
pub async fn inspect_deep(
    storage: Arc<dyn Storage>,
    options: &InspectOptions,
    registry: &Arc<Registry>,
) -> Result<InspectReport> {
    let mut report = inspect(&*storage, options, registry).await?;
    if report.verdict == Verdict::Refuse || report.probe.is_raw() {
        return Ok(report);
    }
    let driver = report.probe.drivers().iter().find_map(|name| registry.driver(name).ok());
    let Some(driver) = driver else {
        return Ok(report);
    };
    // The context has the default gate, which opens nothing that an image names.
    let cx = OpenContext::new(Arc::clone(registry));
    let uri = storage.uri().to_owned();
    let Ok(device) = driver.open(storage, &Options::new(), Access::Read, &cx).await else {
        return Ok(report);
    };
    let guest = GuestStorage::new(Disk::new(device), &uri);
    let inner = InspectOptions { declared: None, ..options.clone() };
    match inspect(&guest, &inner, registry).await {
        Ok(inner) => report.guest = Some(Box::new(inner)),
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        // The image claims to hold data that it does not, so there is no disk to inspect.
        Err(_) => {}
    }
    Ok(report)
}
