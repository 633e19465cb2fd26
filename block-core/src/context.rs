//! What a driver may use while it opens an image: the gate, the limits, and where it stands in a chain.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use crate::parent::{self, ParentFile, ParentRecord};
use crate::{
    Access, BlockDevice, CacheMode, Error, ErrorKind, Options, Registry, Result, Sharing, Storage,
    StorageAccess, StorageId, StorageOptions,
};

/// How an image names another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceBy {
    /// By file name or URI, as it stands in the image.
    Name {
        /// The name, undecoded and untrusted.
        name: String,
        /// The format recorded with it.
        format: Option<String>,
    },
    /// By identity only; where it lies is for the gate to know.
    Uuid(Uuid),
}

impl fmt::Display for ReferenceBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, .. } => f.write_str(&name.escape_debug().to_string()),
            Self::Uuid(uuid) => write!(f, "UUID {uuid}"),
        }
    }
}

/// Something that an image names and that is needed to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The storage of the image that names it.
    pub from: String,
    /// The name.
    pub by: ReferenceBy,
}

/// A place the caller allows to be tried for a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The URI to open.
    pub uri: String,
    /// The format the caller says it has; `None`: the file itself tells.
    pub format: Option<String>,
    /// Whether the caller named this very file, and vouches for it. A file that was found in a folder, or
    /// that a machine's settings register, is not the caller's word.
    pub named: bool,
}

impl Candidate {
    /// A file that lies where the caller allows to look.
    pub fn found(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), format: None, named: false }
    }

    /// A file that the caller named, with the format that the caller says it has.
    pub fn named(uri: impl Into<String>, format: impl Into<String>) -> Self {
        Self { uri: uri.into(), format: Some(format.into()), named: true }
    }
}

/// What a gate answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The places that may be tried, best first.
    pub places: Vec<Candidate>,
    /// What was allowed and could not be looked at, each as a clause: places may be missing.
    pub missed: Vec<String>,
}

impl From<Vec<Candidate>> for Candidates {
    fn from(places: Vec<Candidate>) -> Self {
        Self { places, missed: Vec::new() }
    }
}

/// Decides what of the things that images name may be opened.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug {
    /// The places that may be tried for `reference`. Whether one of them is what the image means is not for
    /// the gate to say: [`OpenContext::find_parent`] looks at all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when nothing may be opened.
    async fn candidates(&self, reference: &Reference) -> Result<Candidates>;
}

/// The default gate: nothing that an image names is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

#[async_trait]
impl Gate for DenyAll {
    async fn candidates(&self, reference: &Reference) -> Result<Candidates> {
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the image needs {}, and opening what an image names is not allowed",
                reference.by
            ),
        )
        .in_image(reference.from.clone()))
    }
}

/// A gate that answers every reference with a list the caller made.
#[derive(Debug, Clone, Default)]
pub struct FixedGate(pub Vec<Candidate>);

#[async_trait]
impl Gate for FixedGate {
    async fn candidates(&self, _: &Reference) -> Result<Candidates> {
        Ok(self.0.clone().into())
    }
}

/// How much an image may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of metadata that one image may keep in memory.
    pub metadata_bytes: u64,
    /// Images in one chain.
    pub chain_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { metadata_bytes: 16 << 20, chain_depth: 300 }
    }
}

/// What a driver may use while it opens, creates or checks an image. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OpenContext {
    registry: Arc<Registry>,
    gate: Arc<dyn Gate>,
    limits: Limits,
    sharing: Sharing,
    cache: CacheMode,
    parent_access: Access,
    ancestors: Vec<StorageId>,
    depth: u32,
    chain: Arc<Chain>,
}

/// What the images of one chain share.
#[derive(Debug, Default)]
struct Chain {
    /// What is odd but not refused.
    warnings: Mutex<Vec<String>>,
    /// What was seen in the files that may be parents.
    seen: parent::Seen,
}

impl OpenContext {
    /// A context that opens nothing an image names.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            gate: Arc::new(DenyAll),
            limits: Limits::default(),
            sharing: Sharing::Exclusive,
            cache: CacheMode::Writeback,
            parent_access: Access::Read,
            ancestors: Vec::new(),
            depth: 0,
            chain: Arc::default(),
        }
    }

    /// With a gate.
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = gate;
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With another sharing and cache mode for the files of parents.
    #[must_use]
    pub fn files(mut self, sharing: Sharing, cache: CacheMode) -> Self {
        self.sharing = sharing;
        self.cache = cache;
        self
    }

    /// Opens the direct parent for writing too, to commit into it. Its own parents stay read-only.
    #[must_use]
    pub fn parent_access(mut self, access: Access) -> Self {
        self.parent_access = access;
        self
    }

    /// The drivers to open other images with.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// How much an image may cost.
    pub fn limits_in_force(&self) -> &Limits {
        &self.limits
    }

    /// Says that something is odd but not refused.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        tracing::warn!("{warning}");
        let mut warnings = self.chain.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < 1000 {
            warnings.push(warning);
        }
    }

    /// What was odd so far, in all images of the chain.
    pub fn warnings(&self) -> Vec<String> {
        self.chain.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The places the caller allows for what `storage`'s image names.
    ///
    /// # Errors
    /// `Denied` when nothing may be opened.
    pub async fn candidates(&self, storage: &dyn Storage, by: ReferenceBy) -> Result<Candidates> {
        self.gate.candidates(&Reference { from: storage.uri().to_owned(), by }).await
    }

    /// Finds the parent that the image in `child` means, among all places that the gate allows, and opens
    /// its storage. [`open_parent`](Self::open_parent) opens the image in it.
    ///
    /// # Errors
    /// `NotFound` where no place holds it, `Ambiguous` where several do and nothing tells which one is meant,
    /// `Denied` where it is opened for writing and is not surely the one, `Corrupt` where the chain leads back
    /// to an image already in it or the caller named another image, `Busy` where it changed while it was
    /// looked at, `Limit` where the chain is too long.
    pub async fn find_parent(
        &self,
        child: &dyn Storage,
        record: &ParentRecord,
    ) -> Result<ParentFile> {
        self.check_depth(child)?;
        parent::find(self, child, record).await
    }

    /// Opens the image in a storage that [`find_parent`](Self::find_parent) opened, as a parent of the image in
    /// `child`, with `options` for its driver (`name=value` texts; those its driver does not know are left out).
    ///
    /// # Errors
    /// `Limit` when the chain is too long, and whatever opening gives.
    pub async fn open_parent(
        &self,
        child: &dyn Storage,
        parent: ParentFile,
        options: &[(String, String)],
    ) -> Result<Arc<dyn BlockDevice>> {
        let depth = self.check_depth(child)?;
        let driver = self.registry.driver(&parent.format)?;
        let mut parsed = Options::new();
        let specs = driver.descriptor().open_options;
        for (name, value) in options {
            if specs.iter().any(|spec| spec.name == name) {
                parsed.set(specs, name, value)?;
            }
        }
        let mut below = self.clone();
        below.depth = depth;
        below.parent_access = Access::Read;
        below.ancestors.extend(child.id());
        let uri = parent.storage.uri().to_owned();
        let opened = driver.open(parent.storage, &parsed, self.parent_access, &below).await;
        opened.map_err(|error| error.in_image(uri))
    }

    /// The depth of a parent of the image in `child`.
    fn check_depth(&self, child: &dyn Storage) -> Result<u32> {
        let depth = self.depth.saturating_add(1);
        if depth >= self.limits.chain_depth {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the chain has more than {} images", self.limits.chain_depth),
            )
            .in_image(child.uri()));
        }
        Ok(depth)
    }

    /// How the file of a parent is opened for its use.
    pub(crate) fn parent_storage_options(&self) -> StorageOptions {
        let access = match self.parent_access {
            Access::Read => StorageAccess::Read,
            Access::ReadWrite => StorageAccess::ReadWrite,
        };
        StorageOptions::new(access).sharing(self.sharing).cache(self.cache)
    }

    /// Whether a parent is opened for writing too.
    pub(crate) fn writes_into_parent(&self) -> bool {
        self.parent_access == Access::ReadWrite
    }

    /// Whether a storage is that of `child`, or of an image above it.
    pub(crate) fn is_in_chain(&self, child: &dyn Storage, id: Option<StorageId>) -> bool {
        id.is_some() && (id == child.id() || self.ancestors.iter().any(|above| Some(*above) == id))
    }

    /// What was seen in the places that were looked at for the images above.
    pub(crate) fn seen(&self) -> &parent::Seen {
        &self.chain.seen
    }
}
