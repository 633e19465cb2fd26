//! Where storages come from: the trait a protocol driver implements.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{OptionSpec, Options, Result, Storage};

/// What a storage is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageAccess {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and writing; it is made if it does not exist, and keeps its content if it does.
    Create,
    /// Reading and writing; it must not exist yet.
    CreateNew,
}

/// What others may do while a storage is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Nobody else may write, and nobody else may read if we write.
    Exclusive,
    /// Others may write while we read (`--force-share`).
    Force,
    /// No lock is taken at all.
    Unlocked,
}

/// How writes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheMode {
    /// Through the page cache; flushes are real.
    #[default]
    Writeback,
    /// Past the page cache; flushes are real.
    None,
    /// Through the page cache; each write is durable on return.
    Writethrough,
    /// Past the page cache; each write is durable on return.
    Directsync,
    /// Through the page cache; flushes do nothing.
    Unsafe,
}

/// How a storage is to be opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StorageOptions {
    /// What for.
    pub access: StorageAccess,
    /// What others may do.
    pub sharing: Sharing,
    /// How writes reach the disk.
    pub cache: CacheMode,
    /// Parsed against [`ProtocolDriver::open_options`].
    pub options: Options,
}

impl StorageOptions {
    /// For `access`, exclusive, through the page cache.
    pub fn new(access: StorageAccess) -> Self {
        Self {
            access,
            sharing: Sharing::Exclusive,
            cache: CacheMode::Writeback,
            options: Options::new(),
        }
    }

    /// With another sharing.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// With another cache mode.
    #[must_use]
    pub fn cache(mut self, cache: CacheMode) -> Self {
        self.cache = cache;
        self
    }

    /// With options of the protocol.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

/// One way to reach bytes. Stateless; registered under a URI scheme.
#[async_trait]
pub trait ProtocolDriver: Send + Sync + fmt::Debug {
    /// The URI scheme, without colon: `file`.
    fn scheme(&self) -> &'static str;

    /// The options [`open`](Self::open) understands.
    fn open_options(&self) -> &'static [OptionSpec];

    /// Opens `location`: what follows the scheme and its colon, or the bare path for the driver that is
    /// registered as the default.
    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>>;
}
