//! block-raw
