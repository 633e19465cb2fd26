//! Tests of inspection, on hostile images built byte by byte.
#![allow(missing_docs, clippy::unwrap_used)]

mod findings;
#[path = "../images/mod.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod images;
mod vectors;
