//! The raw format, before a disk is open.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::probe::{Kind, Probe, ProbeInput};
use block_core::{
    Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor, Error,
    ErrorKind, Identity, Measure, OpenContext, OptionKind, OptionSpec, Options, Preallocation,
    Result, Storage, StorageCaps, ZeroMode,
};

use crate::device::{RawDevice, fill, whole_sectors};

/// The driver of the format `raw`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawDriver;

static DESCRIPTOR: Descriptor = Descriptor {
    name: "raw",
    long_name: "raw disk",
    extensions: &["raw", "img", "bin", "dd"],
    can_create: true,
    can_check: false,
    can_repair: false,
    has_parents: false,
    open_options: &[
        OptionSpec {
            name: "offset",
            kind: OptionKind::Size { min: 0, max: i64::MAX as u64 },
            default: Some("0"),
            help: "where in the file the disk starts",
        },
        OptionSpec {
            name: "size",
            kind: OptionKind::Size { min: 0, max: i64::MAX as u64 },
            default: None,
            help: "size of the disk; up to the end of the file if not given",
        },
    ],
    create_options: &[OptionSpec {
        name: "preallocation",
        kind: OptionKind::Choice(&["off", "falloc", "full"]),
        default: Some("off"),
        help: "how much room the new disk takes: none, all of it set aside, or all of it written",
    }],
    amend_options: &[],
};

#[async_trait]
impl BlockDriver for RawDriver {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    /// Returns no evidence, because every file can be a raw disk. The decision itself takes a file for raw if no other
    /// format claims it.
    fn probe(&self, _: &ProbeInput) -> Probe {
        Probe { kind: Kind::Raw, ..Probe::none("raw") }
    }

    /// Returns `None`: a raw disk has no place for an identity.
    async fn identity(&self, _: &dyn Storage) -> Result<Option<Identity>> {
        Ok(None)
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        _: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let offset = options.number("offset").unwrap_or(0);
        let size = options.number("size");
        Ok(Arc::new(RawDevice::open(storage, offset, size, access).await?))
    }

    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        _: &OpenContext,
    ) -> Result<()> {
        if request.parent.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "Backing file not supported for file format 'raw'",
            ));
        }
        let size = whole_sectors(request.size)?;
        if storage.caps().contains(StorageCaps::RESIZE) {
            // Truncate first, so that no old content shows through.
            storage.set_len(0).await?;
            storage.set_len(size).await?;
        } else {
            let room = storage.len().await?;
            if size > room {
                return Err(Error::new(
                    ErrorKind::NoSpace,
                    format!("a disk of {size} bytes does not fit into {room} bytes"),
                )
                .in_image(storage.uri()));
            }
            storage.write_zeroes(0, size, ZeroMode::Deallocate).await?;
        }
        let preallocation = match request.options.text("preallocation") {
            Some("falloc") => Preallocation::Falloc,
            Some("full") => Preallocation::Full,
            _ => Preallocation::Off,
        };
        fill(&*storage, 0..size, preallocation).await
    }

    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        _: CheckMode,
        _: &OpenContext,
    ) -> Result<CheckReport> {
        Err(Error::new(ErrorKind::Unsupported, "This image format does not support checks")
            .in_image(storage.uri()))
    }

    fn measure(&self, size: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
        let size = whole_sectors(size)?;
        Ok(Measure { required: size, fully_allocated: size })
    }
}
