//! One format: the trait that a format driver implements and registers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::inspect::Examination;
use crate::probe::{Probe, ProbeInput, WindowRequests};
use crate::{
    BlockDevice, CheckMode, CheckReport, Error, ErrorKind, Identity, OpenContext, OptionSpec,
    Options, Result, Storage,
};

/// Static description of a driver and its capabilities.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// The format's name on the command line: `vdi`.
    pub name: &'static str,
    /// Display name of the format.
    pub long_name: &'static str,
    /// File extensions without the dot.
    pub extensions: &'static [&'static str],
    /// Whether the driver can create images.
    pub can_create: bool,
    /// Whether the driver can check images for consistency.
    pub can_check: bool,
    /// Whether [`BlockDriver::check`] can repair images.
    pub can_repair: bool,
    /// Whether images can have parents.
    pub has_parents: bool,
    /// Options of [`BlockDriver::open`].
    pub open_options: &'static [OptionSpec],
    /// Options of [`BlockDriver::create`]; `size` is not among them.
    pub create_options: &'static [OptionSpec],
    /// Options of [`BlockDevice::amend`].
    pub amend_options: &'static [OptionSpec],
}

/// Access mode of an opened image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read-only: nothing in the file changes, not even a counter.
    Read,
    /// Read and write.
    ReadWrite,
}

/// File size that an image would need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// Bytes needed for the current content.
    pub required: u64,
    /// Bytes needed once every block is allocated.
    #[serde(rename = "fully-allocated")]
    pub fully_allocated: u64,
}

/// The parent of an image to be created.
#[derive(Debug, Clone)]
pub struct NewParent {
    /// The parent, opened for reading.
    pub device: Arc<dyn BlockDevice>,
    /// The name that the user gave.
    pub reference: String,
}

/// Parameters of an image to create.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateRequest {
    /// Size of the disk in bytes. The driver rounds it up to a size that the format can express.
    pub size: u64,
    /// Options, parsed against [`Descriptor::create_options`].
    pub options: Options,
    /// The parent, if the new image is a child.
    pub parent: Option<NewParent>,
}

impl CreateRequest {
    /// Requests a base image of `size` bytes with default options.
    pub fn new(size: u64) -> Self {
        Self { size, options: Options::new(), parent: None }
    }

    /// Sets the options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Makes the image a child of `parent`.
    #[must_use]
    pub fn parent(mut self, parent: NewParent) -> Self {
        self.parent = Some(parent);
        self
    }
}

/// A reconstructed header for an image that lost its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostHeader {
    /// Bytes to write at the start of the file.
    pub bytes: Vec<u8>,
    /// Field names and values of the header.
    pub facts: Vec<(&'static str, String)>,
}

/// One format. A driver is stateless: one registered instance serves all images.
#[async_trait]
pub trait BlockDriver: Send + Sync + fmt::Debug {
    /// Returns the static description of this driver.
    fn descriptor(&self) -> &'static Descriptor;

    /// Looks for this format in the bounded windows of `input`. Does no I/O and cannot fail.
    fn probe(&self, input: &ProbeInput) -> Probe;

    /// Requests further windows anywhere in the file, within [`limits`](crate::probe::limits), after looking
    /// at those already read. The framework calls this a few times for each file, the first time before any
    /// requested window is read. The default requests none.
    fn probe_windows(&self, _input: &ProbeInput, _requests: &mut WindowRequests) {}

    /// Examines the metadata of a file that this format claims, and records what can do harm: names of other
    /// files, tables that lie outside the file or are excessive, structures that overlap. Opens no other
    /// file. The probe's evidence against the file is already recorded; the default adds nothing.
    ///
    /// # Errors
    /// Returns the error of a failed read. Defects of the file are findings, not errors.
    async fn inspect(&self, _examination: &mut Examination<'_>) -> Result<()> {
        Ok(())
    }

    /// Returns the identity by which children refer to the image in `storage`. Returns `None` if the file is
    /// not of this format, if the format has no identities, or if this image has none.
    ///
    /// Reads only the header and opens nothing else. Also returns the identity of a damaged image if the
    /// header still has it. Whether the image is usable is decided by [`open`](Self::open), after the image
    /// was chosen.
    async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>>;

    /// Opens an image. `options` were parsed against [`Descriptor::open_options`]. The driver opens other
    /// files that the image names only through `cx`.
    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>>;

    /// Creates an image in `storage`, replacing any content. Until this returns, the storage does not open as
    /// a valid image.
    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        cx: &OpenContext,
    ) -> Result<()>;

    /// Checks an image, and repairs it as far as `mode` allows. Works on images that cannot be opened, too.
    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        mode: CheckMode,
        cx: &OpenContext,
    ) -> Result<CheckReport>;

    /// Reconstructs a lost header from the rest of the file and from `known`: the size of the disk and the
    /// create options. Writes nothing.
    ///
    /// # Errors
    /// `Unsupported` if the format cannot reconstruct headers, which is the default. `InvalidInput` if the
    /// header is present. `Corrupt` if the file contradicts `known`, and `Ambiguous` if it agrees in two
    /// ways.
    async fn lost_header(
        &self,
        _storage: Arc<dyn Storage>,
        _known: &CreateRequest,
    ) -> Result<LostHeader> {
        let format = self.descriptor().name;
        let message = format!("a lost header of the format {format} cannot be made anew");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Returns the size of an image with these create options, for a disk of `size` bytes with data in
    /// `data_blocks(block_size)` blocks.
    fn measure(
        &self,
        size: u64,
        options: &Options,
        data_blocks: &(dyn Fn(u64) -> u64 + Sync),
    ) -> Result<Measure>;
}
