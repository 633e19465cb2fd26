//! block-vdi
