//! The trait that a protocol driver implements to open storages.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{OptionSpec, Options, Result, Storage};

/// Access mode of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageAccess {
    /// Read-only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and write. Creates the storage if it does not exist, and keeps its content if it does.
    Create,
    /// Read and write. Creates the storage, which must not exist yet.
    CreateNew,
}

/// Access that other programs get while a storage is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Others may not write. If this program writes, others may not read either.
    Exclusive,
    /// Others may write while this program reads (`--force-share`).
    Force,
    /// No lock is taken.
    Unlocked,
}

/// How writes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheMode {
    /// Uses the page cache. Flushes reach the disk.
    #[default]
    Writeback,
    /// Bypasses the page cache. Flushes reach the disk.
    None,
    /// Uses the page cache. Each write is durable on return.
    Writethrough,
    /// Bypasses the page cache. Each write is durable on return.
    Directsync,
    /// Uses the page cache. Flushes do nothing.
    Unsafe,
}

/// Parameters for opening a storage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StorageOptions {
    /// Access mode.
    pub access: StorageAccess,
    /// Access that other programs get.
    pub sharing: Sharing,
    /// How writes reach the disk.
    pub cache: CacheMode,
    /// Options, parsed against [`ProtocolDriver::open_options`].
    pub options: Options,
}

impl StorageOptions {
    /// Creates parameters for `access`, exclusive and through the page cache.
    pub fn new(access: StorageAccess) -> Self {
        Self {
            access,
            sharing: Sharing::Exclusive,
            cache: CacheMode::Writeback,
            options: Options::new(),
        }
    }

    /// Sets the sharing.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Sets the cache mode.
    #[must_use]
    pub fn cache(mut self, cache: CacheMode) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the options of the protocol.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

/// One kind of storage. A protocol driver is stateless and registered under a URI scheme.
#[async_trait]
pub trait ProtocolDriver: Send + Sync + fmt::Debug {
    /// Returns the URI scheme without the colon, such as `file`.
    fn scheme(&self) -> &'static str;

    /// Returns the options of [`open`](Self::open).
    fn open_options(&self) -> &'static [OptionSpec];

    /// Opens `location`: the text after the scheme and its colon. The default protocol also gets bare paths.
    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>>;
}
