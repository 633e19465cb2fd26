//! The drivers under test, and storages in memory that they reach by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use block_core::{
    Error, ErrorKind, MemStorage, OpenContext, OptionSpec, ProtocolDriver, Registry, Result,
    Storage, StorageOptions,
};

/// A protocol of storages in memory, called `memory:NAME`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory(Arc<Mutex<BTreeMap<String, Arc<MemStorage>>>>);

impl Memory {
    /// Makes `storage` reachable as `memory:NAME`.
    pub fn put(&self, name: &str, storage: Arc<MemStorage>) {
        let mut storages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        storages.insert(name.to_owned(), storage);
    }
}

#[async_trait]
impl ProtocolDriver for Memory {
    fn scheme(&self) -> &'static str {
        "memory"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let storages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match storages.get(location) {
            Some(storage) => Ok(storage.clone()),
            None => Err(Error::new(ErrorKind::NotFound, "no such storage").in_image(location)),
        }
    }
}

/// Returns a registry of the formats, with `memory` as the protocol.
pub(crate) fn registry(memory: &Memory) -> Arc<Registry> {
    let mut registry = Registry::new();
    registry.register_protocol(Arc::new(memory.clone()));
    block_inspect::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    Arc::new(registry)
}

/// Returns a context that opens no file that an image names.
pub(crate) fn closed_context() -> OpenContext {
    OpenContext::new(registry(&Memory::default()))
}

/// Asserts that a refusal blames the image, in the driver's own words.
pub(crate) fn blames_the_image(error: &Error) {
    use ErrorKind::{Ambiguous, Corrupt, Denied, Limit, Unrecognised, Unsupported};
    let kinds = [Ambiguous, Corrupt, Denied, Limit, Unrecognised, Unsupported];
    assert!(kinds.contains(&error.kind()), "an image's fault is reported as {error:?}");
    assert!(!error.message().is_empty(), "an error without a word: {error:?}");
}
