//! block-core
