//! A gate for images in files: looks for the files that an image names in approved directories only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use block_core::{
    Advice, Candidate, Candidates, Error, ErrorKind, Gate, Reference, ReferenceBy, Result,
};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::failure::reason;
use crate::names::relative_paths;
use crate::path::{from_text, to_text};

/// Default limit on directory entries per reference.
const MAX_ENTRIES: usize = 200_000;

/// Allows the files that the caller approved: single files, and directories with the files in them.
///
/// * Files that the caller approved one by one come first, for every reference.
/// * A **name** is resolved against the image's directory, then against each approved one. It must be a plain relative
///   name (no `..`, no protocol, no drive). With every symbolic link resolved, it must lead to a regular file inside
///   that directory.
/// * For a **UUID** the candidates are all regular files, whatever their names, of these directories: the image's own,
///   the `Snapshots` beside it or one level above, and each approved one. For an image in `Snapshots`, the directory
///   above it counts too. [`OpenContext::find_parent`](block_core::OpenContext::find_parent) picks the right file.
///
/// The answer lists the places that could not be searched.
///
/// ```
/// use block_file::DirectoryGate;
///
/// let gate = DirectoryGate::new().directory("/srv/images/bases");
/// ```
#[derive(Debug, Clone)]
pub struct DirectoryGate {
    own: bool,
    directories: Vec<PathBuf>,
    files: Vec<Candidate>,
    max_entries: usize,
}

impl Default for DirectoryGate {
    fn default() -> Self {
        Self::new()
    }
}

impl DirectoryGate {
    /// Allows the image's own directory and the directories that belong to it.
    pub fn new() -> Self {
        Self { own: true, directories: Vec::new(), files: Vec::new(), max_entries: MAX_ENTRIES }
    }

    /// Allows only the directories and files that the caller adds.
    pub fn explicit() -> Self {
        Self { own: false, ..Self::new() }
    }

    /// Allows the files of `directory`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directories.push(directory.into());
        self
    }

    /// Allows `candidate`, and tries it before all directories.
    #[must_use]
    pub fn candidate(mut self, candidate: Candidate) -> Self {
        self.files.push(candidate);
        self
    }

    /// Allows `candidates` in this order, before all directories: for example those that a machine's settings file
    /// names.
    #[must_use]
    pub fn candidates_from(mut self, candidates: impl IntoIterator<Item = Candidate>) -> Self {
        self.files.extend(candidates);
        self
    }

    /// Limits the directory entries read for one reference.
    #[must_use]
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    fn by_name(&self, from: &Path, name: &str) -> Result<Candidates> {
        let relative = match relative_paths(name) {
            Ok(relative) => relative,
            Err(_) if !self.files.is_empty() => return Ok(self.files.clone().into()),
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
        if found.is_empty() {
            let text = format!(
                "the image names '{}', and no allowed place holds such a file",
                name.escape_debug()
            );
            return Err(Error::new(ErrorKind::NotFound, text)
                .with_code("reference-not-found")
                .with_hint(Advice::FindReference));
        }
        Ok(found.into())
    }

    fn by_uuid(&self, from: &Path) -> Candidates {
        let mut found = Candidates::from(self.files.clone());
        let mut directories = Directories::default();
        if let Some(own) = self.own.then(|| own_directory(from)).flatten() {
            let above = own.parent().map(Path::to_path_buf);
            let in_snapshots = own.file_name().is_some_and(|name| name == SNAPSHOTS);
            directories.add(&own, true, &mut found.missed);
            directories.add(&own.join(SNAPSHOTS), false, &mut found.missed);
            let beside =
                if in_snapshots { above } else { above.map(|above| above.join(SNAPSHOTS)) };
            if let Some(beside) = beside {
                directories.add(&beside, false, &mut found.missed);
            }
        }
        for directory in &self.directories {
            directories.add(directory, true, &mut found.missed);
        }
        let itself = from.canonicalize().ok();
        let mut budget = self.max_entries;
        for directory in directories.0 {
            let complete = match regular_files(&directory, &mut budget) {
                Ok((mut files, complete)) => {
                    files.retain(|path| Some(path) != itself.as_ref());
                    files.sort();
                    found.places.extend(files.iter().map(|path| Candidate::found(to_text(path))));
                    complete
                }
                Err(error) => {
                    found.missed.push(unreadable(&directory, &error));
                    true
                }
            };
            if !complete {
                let entries = self.max_entries;
                found.missed.push(format!(
                    "only {entries} directory entries were looked at, and '{}' has more",
                    to_text(&directory)
                ));
                break;
            }
        }
        found
    }
}

/// The directories to search, each once.
#[derive(Default)]
struct Directories(Vec<PathBuf>);

impl Directories {
    /// Adds a directory under its canonical path. A missing directory counts as missed only if the caller asked for it.
    fn add(&mut self, directory: &Path, asked_for: bool, missed: &mut Vec<String>) {
        match directory.canonicalize() {
            Ok(real) if self.0.contains(&real) => {}
            Ok(real) if asked_for || real.is_dir() => self.0.push(real),
            Ok(_) => {}
            Err(error) if !asked_for && is_absent(&error) => {}
            Err(error) => missed.push(unreadable(directory, &error)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(directory: &Path, error: &io::Error) -> String {
    let why = error.raw_os_error().map(|errno| reason(Errno::from_raw_os_error(errno)));
    format!(
        "the directory '{}' could not be read: {}",
        to_text(directory),
        why.unwrap_or_else(|| error.to_string())
    )
}

/// Returns a directory's regular files, and whether the list is complete.
fn regular_files(directory: &Path, budget: &mut usize) -> io::Result<(Vec<PathBuf>, bool)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let Some(left) = budget.checked_sub(1) else {
            return Ok((files, false));
        };
        *budget = left;
        let entry = entry?;
        // `file_type` does not follow links, so a link is not a regular file.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            files.push(entry.path());
        }
    }
    Ok((files, true))
}

/// VirtualBox's directory for the images of snapshots.
const SNAPSHOTS: &str = "Snapshots";

/// Returns an image's directory; `None` when the image is not a file of this host.
fn own_directory(from: &Path) -> Option<PathBuf> {
    if !fs::metadata(from).is_ok_and(|metadata| !metadata.is_dir()) {
        return None;
    }
    let parent = from.parent()?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    parent.canonicalize().ok()
}

/// Returns the regular file at `relative`, unless it lies outside `directory` once links are resolved.
fn regular_file_inside(directory: &Path, relative: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let path = directory.join(relative).canonicalize().ok()?;
    let inside = path.starts_with(&directory);
    (inside && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file())).then_some(path)
}

/// Adds the paths that `found` does not contain yet.
fn add(found: &mut Vec<Candidate>, paths: impl IntoIterator<Item = PathBuf>) {
    for path in paths {
        let uri = to_text(&path);
        if !found.iter().any(|known| known.uri == uri) {
            found.push(Candidate::found(uri));
        }
    }
}

#[async_trait]
impl Gate for DirectoryGate {
    async fn candidates(&self, reference: &Reference) -> Result<Candidates> {
        let from = from_text(&reference.from);
        blocking(|| match &reference.by {
            ReferenceBy::Name { name, .. } => self.by_name(&from, name),
            ReferenceBy::Uuid(_) => Ok(self.by_uuid(&from)),
        })
        .map_err(|error| error.in_image(reference.from.clone()))
    }
}
