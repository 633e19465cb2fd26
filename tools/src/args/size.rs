//! Sizes on the command line.

use crate::error::{Failure, Result};

/// A size for clap.
pub(crate) fn size(text: &str) -> std::result::Result<u64, String> {
    block_core::size::parse(text).map_err(|_| {
        "a size is a number of bytes, or a number and one of b, k, M, G, T, P, E".to_owned()
    })
}

/// A size for a command that refuses it in its own words.
pub(crate) fn size_or_failure(text: &str) -> Result<u64> {
    block_core::size::parse(text).map_err(|_| {
        Failure::new(format!("Invalid image size specified: '{text}'."))
            .hint("a size is a number of bytes, or a number and one of b, k, M, G, T, P, E")
    })
}
