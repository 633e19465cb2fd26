//! A pluggable block-driver framework: what an image format has to say about itself, and everything else, once.
#![forbid(unsafe_code)]

pub mod probe;
