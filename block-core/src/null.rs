//! A storage that holds nothing: `null-co://` and `null-aio://`, which QEMU has for measuring everything but
//! the disk.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Error, ErrorKind, OptionKind, OptionSpec, Options, ProtocolDriver, Registry, Result, Storage,
    StorageCaps, StorageExtent, StorageId, StorageLimits, StorageOptions, ZeroMode,
};

/// URI schemes. In QEMU they differ in how a request is completed; here they are the same.
pub const SCHEMES: [&str; 2] = ["null-co", "null-aio"];

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "size",
        kind: OptionKind::Size { min: 0, max: i64::MAX as u64 },
        default: Some("1G"),
        help: "how long it is, bytes",
    },
    OptionSpec {
        name: "read-zeroes",
        kind: OptionKind::Bool,
        default: Some("off"),
        help: "whether it says that it reads as zeros, which it does",
    },
];

/// Registers both schemes.
pub fn register(registry: &mut Registry) {
    for scheme in SCHEMES {
        registry.register_protocol(Arc::new(NullProtocol { scheme }));
    }
}

#[derive(Debug)]
struct NullProtocol {
    scheme: &'static str,
}

#[async_trait]
impl ProtocolDriver for NullProtocol {
    fn scheme(&self) -> &'static str {
        self.scheme
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        if !matches!(location, "" | "//") {
            let message = format!("{}: names nothing but itself, not '{location}'", self.scheme);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Arc::new(NullStorage::new(self.scheme, &options.options)))
    }
}

/// Reads as zeros and discards writes. Its length is fixed.
#[derive(Debug)]
struct NullStorage {
    uri: String,
    len: u64,
    /// Whether its extents are reported as holes.
    is_hole: bool,
}

impl NullStorage {
    fn new(scheme: &str, options: &Options) -> Self {
        Self {
            uri: format!("{scheme}://"),
            len: options.number("size").unwrap_or(1 << 30),
            is_hole: options.bool("read-zeroes").unwrap_or(false),
        }
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => {
                let message = format!("{len} bytes go past the end at {:#x}", self.len);
                Err(Error::new(ErrorKind::OutOfRange, message).at(offset).in_image(&self.uri))
            }
        }
    }
}

#[async_trait]
impl Storage for NullStorage {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn caps(&self) -> StorageCaps {
        if self.is_hole { StorageCaps::WRITE | StorageCaps::SPARSE } else { StorageCaps::WRITE }
    }

    fn limits(&self) -> StorageLimits {
        StorageLimits::default()
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        buf.fill(0);
        Ok(())
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        Some(self.check(offset, buf.len() as u64).map(|()| buf.fill(0)))
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.check(offset, buf.len() as u64)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<()> {
        self.check(offset, len)
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.check(offset, len)
    }

    async fn set_len(&self, _: u64) -> Result<()> {
        let message = "the length of nothing cannot be changed";
        Err(Error::new(ErrorKind::Unsupported, message).in_image(&self.uri))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let end = range.end.min(self.len);
        if let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) {
            out.push(StorageExtent { start: range.start, len, data: !self.is_hole });
        }
        Ok(())
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        Ok(Some(0))
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
