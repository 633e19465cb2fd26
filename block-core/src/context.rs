//! What a driver may use while it opens an image: the gate, the limits, and its position in a chain.

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
    /// By file name or URI, as stored in the image.
    Name {
        /// The name, undecoded and untrusted.
        name: String,
        /// The format that the image records with the name.
        format: Option<String>,
    },
    /// By identity only. The gate has to know the location.
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

/// A file that an image names and needs in order to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// URI of the storage of the referring image.
    pub from: String,
    /// How the image names the file.
    pub by: ReferenceBy,
}

/// A location that the caller allows to be tried for a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The URI to open.
    pub uri: String,
    /// The format declared by the caller. `None`: detect it from the file.
    pub format: Option<String>,
    /// Whether the caller named this very file and vouches for it. It is `false` for a file that was found in
    /// a folder or registered in a machine's settings.
    pub named: bool,
}

impl Candidate {
    /// A file found in a location that the caller allows.
    pub fn found(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), format: None, named: false }
    }

    /// A file named by the caller, with the format that the caller declares.
    pub fn named(uri: impl Into<String>, format: impl Into<String>) -> Self {
        Self { uri: uri.into(), format: Some(format.into()), named: true }
    }
}

/// The answer of a gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Locations that may be tried, best first.
    pub places: Vec<Candidate>,
    /// Allowed locations that could not be examined, each as a clause. If there are any, `places` may be
    /// incomplete.
    pub missed: Vec<String>,
}

impl From<Vec<Candidate>> for Candidates {
    fn from(places: Vec<Candidate>) -> Self {
        Self { places, missed: Vec::new() }
    }
}

/// Decides which files named by images may be opened.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug {
    /// Returns the locations that may be tried for `reference`. The gate does not decide whether one of them
    /// is the right file: [`OpenContext::find_parent`] examines all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if nothing may be opened.
    async fn candidates(&self, reference: &Reference) -> Result<Candidates>;
}

/// The default gate: opens nothing that an image names.
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

/// A gate that answers every reference with a fixed list from the caller.
#[derive(Debug, Clone, Default)]
pub struct FixedGate(pub Vec<Candidate>);

#[async_trait]
impl Gate for FixedGate {
    async fn candidates(&self, _: &Reference) -> Result<Candidates> {
        Ok(self.0.clone().into())
    }
}

/// Resource limits for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum bytes of metadata that one image may keep in memory.
    pub metadata_bytes: u64,
    /// Maximum number of images in one chain.
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

/// State that the images of one chain share.
#[derive(Debug, Default)]
struct Chain {
    /// Irregularities that were tolerated.
    warnings: Mutex<Vec<String>>,
    /// Results of examining candidate parents.
    seen: parent::Seen,
}

impl OpenContext {
    /// Creates a context whose gate opens nothing that an image names.
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

    /// Sets the gate.
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = gate;
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the sharing and cache mode for the files of parents.
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

    /// Returns the drivers for opening other images.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns the resource limits for one image.
    pub fn limits_in_force(&self) -> &Limits {
        &self.limits
    }

    /// Records and logs an irregularity that is tolerated. Keeps at most 1000 warnings.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        tracing::warn!("{warning}");
        let mut warnings = self.chain.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < 1000 {
            warnings.push(warning);
        }
    }

    /// Returns the warnings so far, from all images of the chain.
    pub fn warnings(&self) -> Vec<String> {
        self.chain.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the locations that the caller allows for a file named by `storage`'s image.
    ///
    /// # Errors
    /// `Denied` if nothing may be opened.
    pub async fn candidates(&self, storage: &dyn Storage, by: ReferenceBy) -> Result<Candidates> {
        self.gate.candidates(&Reference { from: storage.uri().to_owned(), by }).await
    }

    /// Finds the parent of the image in `child` among all locations that the gate allows, and opens its
    /// storage. Call [`open_parent`](Self::open_parent) to open the image in it.
    ///
    /// # Errors
    /// `NotFound` if no location holds the parent. `Ambiguous` if several do and nothing tells which one is
    /// meant. `Denied` if the parent is to be written and its identity is not certain. `Corrupt` if the chain
    /// leads back to an image already in it, or if the caller named another image. `Busy` if the file changed
    /// while it was examined. `Limit` if the chain is too long.
    pub async fn find_parent(
        &self,
        child: &dyn Storage,
        record: &ParentRecord,
    ) -> Result<ParentFile> {
        self.check_depth(child)?;
        parent::find(self, child, record).await
    }

    /// Opens the image in a storage that [`find_parent`](Self::find_parent) opened, as a parent of the image
    /// in `child`. `options` are `name=value` texts for its driver; options that this driver does not have
    /// are ignored.
    ///
    /// # Errors
    /// `Limit` if the chain is too long, and any error of opening the image.
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

    /// Returns the depth of a parent of the image in `child`, or `Limit` if the chain would be too long.
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

    /// Returns the options for opening the file of a parent.
    pub(crate) fn parent_storage_options(&self) -> StorageOptions {
        let access = match self.parent_access {
            Access::Read => StorageAccess::Read,
            Access::ReadWrite => StorageAccess::ReadWrite,
        };
        StorageOptions::new(access).sharing(self.sharing).cache(self.cache)
    }

    /// Returns whether parents are opened for writing too.
    pub(crate) fn writes_into_parent(&self) -> bool {
        self.parent_access == Access::ReadWrite
    }

    /// Returns whether `id` is the storage of `child` or of an image above it.
    pub(crate) fn is_in_chain(&self, child: &dyn Storage, id: Option<StorageId>) -> bool {
        id.is_some() && (id == child.id() || self.ancestors.iter().any(|above| Some(*above) == id))
    }

    /// Returns the results of examining candidates for the images above.
    pub(crate) fn seen(&self) -> &parent::Seen {
        &self.chain.seen
    }
}
