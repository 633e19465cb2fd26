//! A gate for images in files: what an image names is looked for in approved directories only.

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use block_core::{Candidate, Error, ErrorKind, Gate, Reference, ReferenceBy, Result};
use uuid::Uuid;

use crate::blocking::blocking;
use crate::names::relative_paths;

/// How many directory entries one reference may cost, unless told otherwise.
const MAX_ENTRIES: usize = 4096;

/// What an image names may be opened when it is one of the files, or lies in one of the directories,
/// that the caller approved.
///
/// * Files that the caller named come first, whatever the reference.
/// * A **name** is taken relative to the image's directory, then to each approved one. It must be a
///   plain relative name (no `..`, no protocol, no drive), and what it leads to must be a regular file
///   inside that directory once every symbolic link is resolved.
/// * A **UUID** is answered with the regular files of the image's directory, of the `Snapshots`
///   directory beside it or above it (and of the directory above, for an image in `Snapshots`), and of
///   each approved one: those whose names contain the UUID first. The driver looks which one it is.
///
/// ```
/// use block_file::DirectoryGate;
///
/// let gate = DirectoryGate::new().directory("/srv/images/bases").extensions(["vdi"]);
/// ```
#[derive(Debug, Clone)]
pub struct DirectoryGate {
    own: bool,
    directories: Vec<PathBuf>,
    files: Vec<Candidate>,
    extensions: Option<Vec<String>>,
    max_entries: usize,
}

impl Default for DirectoryGate {
    fn default() -> Self {
        Self::new()
    }
}

impl DirectoryGate {
    /// Allows the image's own directory and those that belong to it.
    pub fn new() -> Self {
        Self {
            own: true,
            directories: Vec::new(),
            files: Vec::new(),
            extensions: None,
            max_entries: MAX_ENTRIES,
        }
    }

    /// Allows only what the caller names.
    pub fn explicit() -> Self {
        Self { own: false, ..Self::new() }
    }

    /// Allows the files of a directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directories.push(directory.into());
        self
    }

    /// Allows a place, before all others.
    #[must_use]
    pub fn candidate(mut self, candidate: Candidate) -> Self {
        self.files.push(candidate);
        self
    }

    /// Allows places, in this order, before all directories: those a machine's settings file names, say.
    #[must_use]
    pub fn candidates_from(mut self, candidates: impl IntoIterator<Item = Candidate>) -> Self {
        self.files.extend(candidates);
        self
    }

    /// Answers UUIDs with files of these extensions (without dot, case ignored) only, in place of files
    /// with the extension of the image that asks.
    #[must_use]
    pub fn extensions<E: Into<String>>(mut self, extensions: impl IntoIterator<Item = E>) -> Self {
        self.extensions = Some(extensions.into_iter().map(Into::into).collect());
        self
    }

    /// Looks at no more directory entries than this for one reference.
    #[must_use]
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    fn by_name(&self, from: &Path, name: &str) -> Result<Vec<Candidate>> {
        let relative = match relative_paths(name) {
            Ok(relative) => relative,
            Err(_) if !self.files.is_empty() => return Ok(self.files.clone()),
            Err(why) => {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!(
                        "the image names '{}', which is not opened: {why}",
                        name.escape_debug()
                    ),
                ));
            }
        };
        let mut found = self.files.clone();
        let own = self.own.then(|| own_directory(from)).flatten();
        for directory in own.iter().chain(&self.directories) {
            let paths = relative.iter().filter_map(|path| regular_file_inside(directory, path));
            add(&mut found, paths);
        }
        Ok(found)
    }

    fn by_uuid(&self, from: &Path, uuid: Uuid) -> Vec<Candidate> {
        let mut directories = Vec::new();
        if let Some(own) = self.own.then(|| own_directory(from)).flatten() {
            let above = own.parent().map(Path::to_path_buf);
            let in_snapshots = own.file_name().is_some_and(|name| name == SNAPSHOTS);
            directories.push(own.clone());
            directories.push(own.join(SNAPSHOTS));
            directories.extend(match in_snapshots {
                true => above,
                false => above.map(|above| above.join(SNAPSHOTS)),
            });
        }
        directories.extend(self.directories.iter().cloned());

        let itself = from.canonicalize().ok();
        let mut budget = self.max_entries;
        let mut files = Vec::new();
        for directory in directories {
            let Ok(directory) = directory.canonicalize() else {
                continue;
            };
            let mut here = self.images_in(&directory, from, &mut budget);
            here.retain(|path| Some(path) != itself.as_ref());
            here.sort();
            files.append(&mut here);
        }
        if budget == 0 {
            tracing::warn!(
                "{}: only {} directory entries were looked at for UUID {uuid}",
                from.display(),
                self.max_entries
            );
        }
        let text = uuid.to_string();
        let named = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
            name.is_some_and(|name| name.contains(&text))
        };
        // Stable: within each half the order of the directories stays.
        files.sort_by_key(|path| !named(path));
        let mut found = self.files.clone();
        add(&mut found, files);
        found
    }

    /// The regular files of a directory with an extension that is asked for.
    fn images_in(&self, directory: &Path, from: &Path, budget: &mut usize) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(directory) else {
            return Vec::new();
        };
        let mut images = Vec::new();
        for entry in entries.flatten() {
            let Some(left) = budget.checked_sub(1) else {
                break;
            };
            *budget = left;
            // Not followed: a link is no regular file.
            let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
            let path = entry.path();
            if regular && self.wanted(&path, from) {
                images.push(path);
            }
        }
        images
    }

    fn wanted(&self, path: &Path, from: &Path) -> bool {
        let extension = path.extension().unwrap_or_default();
        match &self.extensions {
            Some(known) => known.iter().any(|known| extension.eq_ignore_ascii_case(known)),
            None => extension.eq_ignore_ascii_case(from.extension().unwrap_or_default()),
        }
    }
}

/// Where VirtualBox keeps the images of snapshots.
const SNAPSHOTS: &str = "Snapshots";

/// The directory of an image; `None` where the image is no file of this host.
fn own_directory(from: &Path) -> Option<PathBuf> {
    if !fs::metadata(from).is_ok_and(|metadata| !metadata.is_dir()) {
        return None;
    }
    let parent = from.parent()?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    parent.canonicalize().ok()
}

/// The regular file that `relative` leads to, unless that is outside the directory.
fn regular_file_inside(directory: &Path, relative: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let path = directory.join(relative).canonicalize().ok()?;
    let inside = path.starts_with(&directory);
    (inside && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file())).then_some(path)
}

/// Adds paths that are not there yet. A path that is no UTF-8 cannot be a URI and is left out.
fn add(found: &mut Vec<Candidate>, paths: impl IntoIterator<Item = PathBuf>) {
    for path in paths {
        let Some(uri) = path.to_str().map(str::to_owned) else {
            continue;
        };
        if !found.iter().any(|known| known.uri == uri) {
            found.push(Candidate { uri, format: None });
        }
    }
}

#[async_trait]
impl Gate for DirectoryGate {
    async fn candidates(&self, reference: &Reference) -> Result<Vec<Candidate>> {
        let from = Path::new(&reference.from);
        let found = blocking(|| match &reference.by {
            ReferenceBy::Name { name, .. } => self.by_name(from, name),
            ReferenceBy::Uuid(uuid) => Ok(self.by_uuid(from, *uuid)),
        })
        .map_err(|error| error.in_image(reference.from.clone()))?;
        if found.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "the image needs {}, and no allowed place holds a file it can be",
                    reference.by
                ),
            )
            .in_image(reference.from.clone())
            .with_hint("name the file, or a directory to look in"));
        }
        Ok(found)
    }
}
