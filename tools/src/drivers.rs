//! The built-in drivers: the one place that names them.

use block_core::Registry;

/// The scheme of host files, which bare paths name too.
pub(crate) const FILE_SCHEME: &str = "file";

/// The drivers that `block-img` ships with.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    block_file::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    // They stand on the protocol of host files, which is there.
    let filters = block_core::filter::register(&mut registry);
    debug_assert!(filters.is_ok(), "{filters:?}");
    registry
}
