//! A new image that a command fills: made beside its name, opened, and given the name at the end.

use std::sync::Arc;

use block_core::{
    BlockDriver, CacheMode, CreateRequest, Disk, OpenContext, OpenRequest, Options, Registry,
    Storage,
};

use crate::args::Cache;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::How;
use crate::target::Target;

/// An image being filled.
#[derive(Debug)]
pub(crate) struct Output {
    name: String,
    target: Target,
    /// The image, opened for writing. Whatever the storage held, it reads as zeros, or as its parent.
    pub disk: Disk,
    content: Option<FixedContent>,
}

/// The identity of the content that was asked for: filling the image gives it others meanwhile.
#[derive(Debug)]
struct FixedContent {
    registry: Arc<Registry>,
    opening: OpenRequest,
    amendment: Options,
}

/// What a format calls the identity of an image's content.
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

    /// Gives a finished image the identity.
    async fn set(self, storage: Arc<dyn Storage>) -> block_core::Result<()> {
        let disk = self.registry.open_on(storage, &self.opening).await?;
        disk.device().amend(&self.amendment).await?;
        disk.close().await
    }
}

impl Output {
    /// Makes an image.
    pub async fn create(
        cx: &Context,
        name: &str,
        driver: &Arc<dyn BlockDriver>,
        request: &CreateRequest,
        cache: CacheMode,
        how: &How,
    ) -> Result<Self> {
        let format = driver.descriptor().name;
        let failed = |failure: Failure| Failure {
            message: format!("{name}: error while converting {format}: {}", failure.message),
            ..failure
        };
        let target = Target::begin(&cx.registry, name, cache).await.map_err(failed)?;
        let open = OpenContext::new(cx.registry.clone()).gate(how.gate(cx).await?);
        driver
            .create(target.storage(), request, &open)
            .await
            .map_err(|error| failed(Failure::from(error)))?;
        for warning in open.warnings() {
            cx.console.say(format_args!("warning: {name}: {warning}"));
        }
        let mut opening = OpenRequest::new(name, block_core::Access::ReadWrite)
            .format(format)
            .gate(how.gate(cx).await?);
        opening.cache = cache;
        let disk = cx.registry.open_on(target.storage(), &opening).await;
        let disk = disk.map_err(|error| Failure::open(name, &error))?;
        let content = FixedContent::wanted(cx, driver, request, &opening)?;
        Ok(Self { name: name.to_owned(), target, disk, content })
    }

    /// Ends the image; with a durable cache mode, everything survives a power cut.
    pub async fn finish(self, cache: Cache) -> Result<()> {
        let failed = |error| Failure::because(format!("error while writing {}", self.name), &error);
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
