//! The built-in drivers. No other module names them.

use block_core::{Registry, Result};

/// Scheme of host files. Bare paths belong to it too.
pub(crate) const FILE_SCHEME: &str = "file";

/// Returns a registry of the drivers that `block-img` ships with.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    block_file::register(&mut registry);
    block_inspect::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    block_core::null::register(&mut registry);
    // The filters need the protocol of host files, which is registered above.
    let filters = block_core::filter::register(&mut registry);
    debug_assert!(filters.is_ok(), "{filters:?}");
    registry
}

/// Maximum size in bytes of a machine file.
pub(crate) const MACHINE_FILE_BYTES: usize = block_vdi::vbox::MAX_BYTES;

/// Returns the locations, as written there, of the disks that a VirtualBox machine file registers, in any format.
pub(crate) fn registered_disks(machine: &[u8]) -> Result<Vec<String>> {
    let media = block_vdi::vbox::parse(machine)?;
    Ok(media.into_iter().map(|medium| medium.location).collect())
}
