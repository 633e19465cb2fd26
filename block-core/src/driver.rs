//! One format: the trait a format driver implements and registers.

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

/// What a driver is and can do, as data.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// The format's name on the command line: `vdi`.
    pub name: &'static str,
    /// The format's name for people.
    pub long_name: &'static str,
    /// File extensions, without dot.
    pub extensions: &'static [&'static str],
    /// Whether images can be created.
    pub can_create: bool,
    /// Whether images can be checked for consistency.
    pub can_check: bool,
    /// Whether [`BlockDriver::check`] repairs.
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

/// What an image is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading; nothing in the file changes, not even a counter.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// What an image of a given content would need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// Bytes for the content as it is.
    pub required: u64,
    /// Bytes once every block is written.
    #[serde(rename = "fully-allocated")]
    pub fully_allocated: u64,
}

/// The parent of an image to be created.
#[derive(Debug, Clone)]
pub struct NewParent {
    /// The parent, opened for reading.
    pub device: Arc<dyn BlockDevice>,
    /// How the user named it.
    pub reference: String,
}

/// What is to be created.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateRequest {
    /// Size of the disk, bytes; the driver rounds it up to what the format can express.
    pub size: u64,
    /// Parsed against [`Descriptor::create_options`].
    pub options: Options,
    /// Set for a child.
    pub parent: Option<NewParent>,
}

impl CreateRequest {
    /// A base image of `size` bytes with default options.
    pub fn new(size: u64) -> Self {
        Self { size, options: Options::new(), parent: None }
    }

    /// With options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// As a child of `parent`.
    #[must_use]
    pub fn parent(mut self, parent: NewParent) -> Self {
        self.parent = Some(parent);
        self
    }
}

/// A header that a driver has made for an image that lost its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostHeader {
    /// What belongs at the start of the file.
    pub bytes: Vec<u8>,
    /// What it says, by the names of the fields.
    pub facts: Vec<(&'static str, String)>,
}

/// One format. Stateless; registered; many images.
#[async_trait]
pub trait BlockDriver: Send + Sync + fmt::Debug {
    /// What this driver is and can do.
    fn descriptor(&self) -> &'static Descriptor;

    /// Looks for this format in the bounded windows of `input`. Pure: no I/O, cannot fail.
    fn probe(&self, input: &ProbeInput) -> Probe;

    /// Asks for windows beyond the first ones, after seeing those that were read: the probe may look anywhere in the
    /// file, within [`limits`](crate::probe::limits). Called a few times for each file, and at first with none of
    /// them read. By default, no window is asked for.
    fn probe_windows(&self, _input: &ProbeInput, _requests: &mut WindowRequests) {}

    /// Examines the metadata of a file that this format claims, and records what can do harm: names of other files,
    /// tables that lie outside the file or are excessive, structures that overlap. Opens nothing. What the probe's
    /// evidence says against the file is recorded already; by default, nothing is added to it.
    ///
    /// # Errors
    /// Whatever reading gives. What is wrong with the file is a finding.
    async fn inspect(&self, _examination: &mut Examination<'_>) -> Result<()> {
        Ok(())
    }

    /// What children know the image in `storage` by; `None` where the file is not of this format, where the
    /// format has no such thing, or where this image has none. Reads the header and nothing else, opens
    /// nothing, and tells the identity of a damaged image too as long as the header has it: whether the image
    /// can be used is for [`open`](Self::open) to say, after it was chosen.
    async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>>;

    /// Opens an image. `options` are parsed against [`Descriptor::open_options`]; whatever the image
    /// names is opened through `cx` only.
    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>>;

    /// Makes an image in `storage`, whatever it held before. Until this returns, the storage does not
    /// open as a valid image.
    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        cx: &OpenContext,
    ) -> Result<()>;

    /// Examines (and repairs, as `mode` allows) an image, also one that cannot be opened.
    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        mode: CheckMode,
        cx: &OpenContext,
    ) -> Result<CheckReport>;

    /// Makes the header of an image that has lost it, from what is left in the file and from what is `known`: the
    /// size of the disk, and what the image was created with. Writes nothing.
    ///
    /// # Errors
    /// `Unsupported` where the format has no way to, which is the default; `InvalidInput` when the header is there;
    /// `Corrupt` when what is left does not agree with what is known, and `Ambiguous` when it agrees in two ways.
    async fn lost_header(
        &self,
        _storage: Arc<dyn Storage>,
        _known: &CreateRequest,
    ) -> Result<LostHeader> {
        let format = self.descriptor().name;
        let message = format!("a lost header of the format {format} cannot be made anew");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// How large an image with these create options is for a disk of `size` bytes of which
    /// `data_blocks(block_size)` blocks hold data.
    fn measure(
        &self,
        size: u64,
        options: &Options,
        data_blocks: &(dyn Fn(u64) -> u64 + Sync),
    ) -> Result<Measure>;
}
