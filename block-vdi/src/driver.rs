//! The driver: recognises, opens, creates and checks images.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::engine::Mapped;
use block_core::inspect::Examination;
use block_core::probe::{Probe, ProbeInput};
use block_core::{
    Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor, Error,
    ErrorKind, Identity, LostHeader, Measure, OpenContext, OptionKind, OptionSpec, Options, Result,
    Storage,
};

use crate::header::{self, Header};
use crate::header_sector::HeaderSector;
use crate::map::VdiMap;
use crate::{NAME, amend, chain, check, create, inspect, probe, rebuild};

/// The driver of VirtualBox Disk Images.
#[derive(Debug, Clone, Copy, Default)]
pub struct VdiDriver;

const DESCRIPTOR: Descriptor = Descriptor {
    name: NAME,
    long_name: "VirtualBox Disk Image",
    extensions: &["vdi"],
    can_create: true,
    can_check: true,
    can_repair: true,
    has_parents: true,
    open_options: &[
        OptionSpec {
            name: "strict",
            kind: OptionKind::Bool,
            default: Some("off"),
            help: "refuse a parent that has been written to since the child was made",
        },
        OptionSpec {
            name: "verify_parent",
            kind: OptionKind::Bool,
            default: Some("on"),
            help: "refuse a parent that was named and has another UUID than the image wants",
        },
        OptionSpec {
            name: "base",
            kind: OptionKind::Bool,
            default: Some("off"),
            help: "open a child without its parent: blocks it does not hold read as zeros",
        },
        OptionSpec {
            name: "damaged",
            kind: OptionKind::Bool,
            default: Some("off"),
            help: "read what is there of blocks that the file does not hold whole; not for writing",
        },
    ],
    create_options: create::OPTIONS,
    amend_options: amend::OPTIONS,
};

#[async_trait]
impl BlockDriver for VdiDriver {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn probe(&self, input: &ProbeInput) -> Probe {
        probe::probe(input)
    }

    async fn inspect(&self, examination: &mut Examination<'_>) -> Result<()> {
        inspect::examine(examination);
        Ok(())
    }

    async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>> {
        let file_len = storage.len().await?;
        let head = HeaderSector::read(storage, file_len).await?;
        Ok(header::identity(head.bytes(), file_len))
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let file_len = storage.len().await?;
        let head = HeaderSector::read(&*storage, file_len).await?;
        let header = Header::parse(head.bytes(), file_len)?;
        let damaged = options.bool("damaged").unwrap_or(false);
        if access == Access::ReadWrite {
            if damaged {
                let message = "damaged=on can only be used with read-only images";
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            header.check_writable()?;
        }
        let (parent, lineage) = chain::open(&*storage, &header, options, cx).await?;
        let oddities = header.oddities.iter().map(|oddity| &oddity.message);
        for warning in oddities.chain(&lineage.warnings) {
            cx.warn(format!("{}: {warning}", storage.uri()));
        }
        let cache = cx.limits_in_force().metadata_bytes;
        let mut map = VdiMap::new(storage, head, header, file_len, access, cache, lineage);
        if damaged {
            map.read_damaged();
        }
        if access == Access::ReadWrite {
            map.check_surplus().await?;
        }
        Ok(Mapped::open(Arc::new(map), access, parent)?)
    }

    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        cx: &OpenContext,
    ) -> Result<()> {
        create::create(&*storage, request).await?;
        if request.size == 0 {
            cx.warn("VirtualBox refuses a disk of 0 bytes");
        }
        if let Some(parent) = &request.parent
            && parent.device.info().format != NAME
        {
            let format = parent.device.info().format;
            cx.warn(format!(
                "the parent is {format}: the child opens nowhere else, and here only with the parent named"
            ));
        }
        Ok(())
    }

    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        mode: CheckMode,
        cx: &OpenContext,
    ) -> Result<CheckReport> {
        check::check(&storage, mode, cx).await
    }

    async fn lost_header(
        &self,
        storage: Arc<dyn Storage>,
        known: &CreateRequest,
    ) -> Result<LostHeader> {
        rebuild::lost_header(&storage, known).await
    }

    fn measure(
        &self,
        size: u64,
        options: &Options,
        data_blocks: &(dyn Fn(u64) -> u64 + Sync),
    ) -> Result<Measure> {
        create::measure(size, options, data_blocks)
    }
}
