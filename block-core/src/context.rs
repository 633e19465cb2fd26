//! What a driver may use while it opens an image: the gate, the limits, and where it stands in a chain.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

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
pub struct Candidate {
    /// The URI to open.
    pub uri: String,
    /// The format the caller says it has; `None`: the format of the image that asks.
    pub format: Option<String>,
}

/// Decides what of the things that images name may be opened.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug {
    /// The places that may be tried for `reference`, best first. The driver verifies that what it
    /// finds there is what the image means.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when nothing may be opened.
    async fn candidates(&self, reference: &Reference) -> Result<Vec<Candidate>>;
}

/// The default gate: nothing that an image names is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

#[async_trait]
impl Gate for DenyAll {
    async fn candidates(&self, reference: &Reference) -> Result<Vec<Candidate>> {
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
    async fn candidates(&self, _: &Reference) -> Result<Vec<Candidate>> {
        Ok(self.0.clone())
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
    warnings: Arc<Mutex<Vec<String>>>,
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
            warnings: Arc::default(),
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
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < 1000 {
            warnings.push(warning);
        }
    }

    /// What was odd so far, in all images of the chain.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The places the caller allows for what `storage`'s image names.
    ///
    /// # Errors
    /// `Denied` when nothing may be opened.
    pub async fn candidates(
        &self,
        storage: &dyn Storage,
        by: ReferenceBy,
    ) -> Result<Vec<Candidate>> {
        self.gate.candidates(&Reference { from: storage.uri().to_owned(), by }).await
    }

    /// Opens a candidate as a parent of the image in `child`, with `options` for its driver
    /// (`name=value` texts; those its driver does not know are left out).
    ///
    /// # Errors
    /// `Limit` when the chain is too long, `Corrupt` when it leads back to an image already in it,
    /// and whatever opening gives.
    pub async fn open_parent(
        &self,
        child: &dyn Storage,
        candidate: &Candidate,
        format: &str,
        options: &[(String, String)],
    ) -> Result<Arc<dyn BlockDevice>> {
        let depth = self.depth.saturating_add(1);
        if depth >= self.limits.chain_depth {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the chain has more than {} images", self.limits.chain_depth),
            )
            .in_image(child.uri()));
        }
        let access = self.parent_access;
        let storage_access = match access {
            Access::Read => StorageAccess::Read,
            Access::ReadWrite => StorageAccess::ReadWrite,
        };
        let request = StorageOptions::new(storage_access).sharing(self.sharing).cache(self.cache);
        let storage = self.open_unlike(child, &candidate.uri, &request).await?;
        let format = candidate.format.as_deref().unwrap_or(format);
        let driver = self.registry.driver(format)?;
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
        driver.open(storage, &parsed, access, &below).await
    }

    /// Opens a storage and refuses one that is in the chain already.
    async fn open_unlike(
        &self,
        child: &dyn Storage,
        uri: &str,
        options: &StorageOptions,
    ) -> Result<Arc<dyn Storage>> {
        // The loop is looked for without a lock: our own lock on the child would answer first.
        let peek = options.clone().sharing(Sharing::Unlocked);
        let storage = self.registry.open_storage(uri, &peek).await?;
        let id = storage.id();
        if id.is_some() && (id == child.id() || self.ancestors.iter().any(|a| Some(*a) == id)) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the chain leads back to {}", storage.uri()),
            )
            .in_image(child.uri()));
        }
        drop(storage);
        self.registry.open_storage(uri, options).await
    }
}
