//! Tests of format recognition, on images built byte by byte.
#![allow(missing_docs, clippy::unwrap_used)]

mod complete;
mod containers;
mod hints;
#[path = "../images/mod.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod images;
mod relations;
mod robust;
mod stock;
mod wrappers;
