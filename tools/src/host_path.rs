//! Host paths and the names that storages have for them.

use std::path::{Path, PathBuf};

use crate::drivers::FILE_SCHEME;

/// The path of a host file's name or URI.
pub(crate) fn file_path(uri: &str) -> PathBuf {
    let path = uri.strip_prefix(FILE_SCHEME).and_then(|rest| rest.strip_prefix(':'));
    PathBuf::from(path.unwrap_or(uri))
}

/// A storage's name without the scheme of plain files.
pub(crate) fn display_name(uri: &str) -> String {
    file_path(uri).to_string_lossy().into_owned()
}

/// The URI of a host path, whatever characters it has.
pub(crate) fn path_uri(path: &Path) -> String {
    format!("{FILE_SCHEME}:{}", path.to_string_lossy())
}
