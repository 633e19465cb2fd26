//! Conversions between host paths and storage names.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use block_file::path::{from_text, to_text};

use crate::drivers::FILE_SCHEME;

/// Returns the path for a host file's name or URI.
pub(crate) fn file_path(uri: &str) -> PathBuf {
    from_text(without_scheme(uri))
}

/// Returns a storage's name without the scheme of host files.
pub(crate) fn display_name(uri: &str) -> String {
    without_scheme(uri).to_owned()
}

/// Returns the URI of a host path, which may hold any characters.
pub(crate) fn path_uri(path: &Path) -> String {
    format!("{FILE_SCHEME}:{}", to_text(path))
}

/// Reads an argument that is a path of this host, never a URI.
pub(crate) fn path_argument(text: &str) -> Result<PathBuf, Infallible> {
    Ok(from_text(text))
}

fn without_scheme(uri: &str) -> &str {
    let path = uri.strip_prefix(FILE_SCHEME).and_then(|rest| rest.strip_prefix(':'));
    path.unwrap_or(uri)
}
