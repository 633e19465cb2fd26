//! The built-in drivers: the one place that names them.

use block_core::{Registry, Result};

/// The scheme of host files, which bare paths name too.
pub(crate) const FILE_SCHEME: &str = "file";

/// The drivers that `block-img` ships with.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    block_file::register(&mut registry);
    block_inspect::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    block_core::null::register(&mut registry);
    // They stand on the protocol of host files, which is there.
    let filters = block_core::filter::register(&mut registry);
    debug_assert!(filters.is_ok(), "{filters:?}");
    registry
}

/// Bytes of a machine file that are looked at.
pub(crate) const MACHINE_FILE_BYTES: usize = block_vdi::vbox::MAX_BYTES;

/// Where the disks lie that a machine file of VirtualBox registers, as it is written there, in any format.
pub(crate) fn registered_disks(machine: &[u8]) -> Result<Vec<String>> {
    let media = block_vdi::vbox::parse(machine)?;
    Ok(media.into_iter().map(|medium| medium.location).collect())
}
