//! block-file
