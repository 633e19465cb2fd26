//! A new image that a command fills: created beside its final name, opened, and renamed at the end.

use std::sync::Arc;

use block_core::{
    BlockDriver, CacheMode, CreateRequest, Disk, OpenContext, OpenRequest, Options, Registry,
    Storage,
};
use block_file::output::Settings;

use crate::args::Cache;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::OpenMode;
use crate::target::{Target, TargetName, files_of};
use block_jobs::Source;

/// An image being filled.
#[derive(Debug)]
pub(crate) struct Output<'c> {
    name: String,
    target: Target<'c>,
    /// The image, opened for writing. It reads as zeros or as its parent, even if the storage held other data.
    pub disk: Disk,
    content: Option<FixedContent>,
}

/// The content identity that the user asked for. It is set last, because filling the image changes it.
#[derive(Debug)]
struct FixedContent {
    registry: Arc<Registry>,
    opening: OpenRequest,
    amendment: Options,
}

/// Name of the option for the identity of an image's content.
const CONTENT: &str = "modification_uuid";

impl FixedContent {
    fn wanted(
        cx: &Context,
        driver: &Arc<dyn BlockDriver>,
        request: &CreateRequest,
        opening: &OpenRequest,
    ) -> Result<Option<Self>> {
        let specs = driver.descriptor().amend_options;
        let wanted = request.options.uuid(CONTENT).filter(|uuid| !uuid.is_nil());
        let Some(uuid) = wanted.filter(|_| specs.iter().any(|spec| spec.name == CONTENT)) else {
            return Ok(None);
        };
        let mut amendment = Options::new();
        amendment.set(specs, CONTENT, &uuid.to_string())?;
        Ok(Some(Self { registry: cx.registry.clone(), opening: opening.clone(), amendment }))
    }

    /// Sets the identity of a finished image.
    async fn set(self, storage: Arc<dyn Storage>) -> block_core::Result<()> {
        let disk = self.registry.open_on(storage, &self.opening).await?;
        disk.device().amend(&self.amendment).await?;
        disk.close().await
    }
}

/// The content of an output, and how to write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Making<'a> {
    /// Source to copy. `None` if it is only known after the source has been read.
    pub source: Option<&'a Source>,
    /// Whether zeros are written too.
    pub dense: bool,
    /// Cache mode for writes.
    pub cache: CacheMode,
    /// Whether to print how the target is written.
    pub verbose: bool,
}

impl<'c> Output<'c> {
    /// Creates and opens an image.
    pub async fn create(
        cx: &'c Context,
        name: &str,
        driver: &Arc<dyn BlockDriver>,
        request: &CreateRequest,
        how: &OpenMode,
        making: Making<'_>,
    ) -> Result<Self> {
        let format = driver.descriptor().name;
        let failed = |failure: Failure| Failure {
            message: format!("{name}: error while converting {format}: {}", failure.message),
            ..failure
        };
        let place = TargetName::look(cx, name).map_err(failed)?;
        let sources = making.source.iter().flat_map(|source| source.disks()).flat_map(files_of);
        let parents = request.parent.iter().map(|parent| Disk::new(parent.device.clone()));
        let settings = Settings {
            cache: making.cache,
            refused: sources.chain(parents.flat_map(|parent| files_of(&parent))).collect(),
            two_fit: two_fit(&place, &**driver, request, making).await?,
        };
        let target = place.begin(&settings, making.verbose).await.map_err(failed)?;
        let open = OpenContext::new(cx.registry.clone()).gate(how.gate(cx).await?);
        driver
            .create(target.storage(), request, &open)
            .await
            .map_err(|error| failed(target.explain(Failure::from(error))))?;
        for warning in open.warnings() {
            cx.console.say(format_args!("warning: {name}: {warning}"));
        }
        let mut opening = OpenRequest::new(name, block_core::Access::ReadWrite)
            .format(format)
            .gate(how.gate(cx).await?);
        opening.cache = making.cache;
        let disk = cx.registry.open_on(target.storage(), &opening).await;
        let disk = disk.map_err(|error| Failure::open(name, &error))?;
        let content = FixedContent::wanted(cx, driver, request, &opening)?;
        Ok(Self { name: name.to_owned(), target, disk, content })
    }

    /// Adds the state of the target to a failure of the copy.
    pub fn explain(&self, failure: Failure) -> Failure {
        self.target.explain(failure)
    }

    /// Closes the image and renames it. With a durable cache mode, all of it survives a power failure.
    pub async fn finish(self, cache: Cache) -> Result<()> {
        let failed = |error| {
            let failure = Failure::because(format!("error while writing {}", self.name), &error);
            self.target.explain(failure)
        };
        if cache.is_durable() {
            self.disk.flush().await.map_err(failed)?;
        }
        self.disk.close().await.map_err(failed)?;
        if let Some(content) = self.content {
            content.set(self.target.storage()).await.map_err(failed)?;
        }
        self.target.finish(cache.is_durable())
    }
}

/// Whether the new image fits beside the file that it replaces, as estimated before it is created. Also `true` if it
/// fits neither beside nor in place of the old file: then the old file is better kept.
async fn two_fit(
    place: &TargetName<'_>,
    driver: &dyn BlockDriver,
    request: &CreateRequest,
    making: Making<'_>,
) -> Result<bool> {
    let Some(room) = place.room() else { return Ok(true) };
    let measure = |blocks: &(dyn Fn(u64) -> u64 + Sync)| {
        driver.measure(request.size, &request.options, blocks).ok()
    };
    let Some(most) = measure(&|_| u64::MAX).map(|measure| measure.fully_allocated) else {
        return Ok(true);
    };
    if most <= room.free {
        return Ok(true);
    }
    let options = &request.options;
    let preallocates = options.bool("static").unwrap_or(false)
        || options.text("preallocation").is_some_and(|mode| mode != "off");
    let (bytes, extents) = match making.source {
        Some(source) => stored(source).await?,
        None => (0, 0),
    };
    let needed = if making.dense || preallocates {
        most
    } else {
        // An extent touches at most one more block at each end than it fills.
        let blocks = |block: u64| (bytes / block.max(1)).saturating_add(extents.saturating_mul(2));
        let measured = measure(&blocks).map_or(most, |measure| measure.required);
        measured.min(bytes.saturating_add(request.size / METADATA_PART).saturating_add(METADATA))
    };
    Ok(needed <= room.free || needed > room.free.saturating_add(room.held))
}

/// An image's metadata takes less than the disk's size divided by this, plus [`METADATA`] bytes.
const METADATA_PART: u64 = 1024;
/// Constant part, in bytes, of the bound on an image's metadata.
const METADATA: u64 = 4 << 20;

/// Returns the bytes that the source stores and the number of their extents.
async fn stored(source: &Source) -> Result<(u64, u64)> {
    let (mut bytes, mut extents) = (0u64, 0u64);
    let mut walk = source.walk();
    let failed = |error| Failure::because("Could not read the map", &error);
    while let Some((_, extent)) = walk.next().await.map_err(failed)? {
        if extent.is_data() {
            bytes = bytes.saturating_add(extent.len);
            extents = extents.saturating_add(1);
        }
    }
    Ok((bytes, extents))
}
