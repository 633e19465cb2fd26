//! Opening the images that a command line names.

use std::path::Path;
use std::sync::Arc;

use block_core::options::nearest;
use block_core::{
    Access, CacheMode, Candidate, Disk, ErrorKind, Gate, OpenRequest, Sharing, Storage,
};

use crate::args::{AllowArgs, ImageSpec};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::file_path;
use crate::machine;

/// How an image is to be opened.
#[derive(Debug, Clone)]
pub(crate) struct How {
    /// Reading, or writing too.
    pub access: Access,
    /// What others may do meanwhile.
    pub sharing: Sharing,
    /// How writes reach the disk.
    pub cache: CacheMode,
    /// Where its parents may lie, besides its own folder.
    pub allowed: AllowArgs,
    /// Images that may be parents, tried before all others.
    pub parents: Vec<ImageSpec>,
    /// What the direct parent is opened for.
    pub parent_access: Access,
}

impl How {
    /// For reading.
    pub fn reading(sharing: Sharing) -> Self {
        Self {
            access: Access::Read,
            sharing,
            cache: CacheMode::Writeback,
            allowed: AllowArgs::default(),
            parents: Vec::new(),
            parent_access: Access::Read,
        }
    }

    /// For writing, while nobody else does.
    pub fn writing() -> Self {
        Self { access: Access::ReadWrite, ..Self::reading(Sharing::Exclusive) }
    }

    /// With a cache mode.
    pub fn cache(mut self, cache: CacheMode) -> Self {
        self.cache = cache;
        self
    }

    /// With places where parents may lie.
    pub fn allow(mut self, allowed: &AllowArgs) -> Self {
        self.allowed = allowed.clone();
        self
    }

    /// With an image that may be a parent.
    pub fn parent(mut self, parent: ImageSpec) -> Self {
        self.parents.push(parent);
        self
    }

    /// The gate for what the image names.
    pub async fn gate(&self, cx: &Context) -> Result<Arc<dyn Gate>> {
        let mut gate = block_file::DirectoryGate::new();
        for spec in &self.parents {
            gate = gate.candidate(candidate(cx, spec).await?);
        }
        for name in &self.allowed.parent_files {
            let spec = ImageSpec::parse(name, false, None)?;
            gate = gate.candidate(candidate(cx, &spec).await?);
        }
        for machine in &self.allowed.machine_files {
            gate = gate.candidates_from(machine::registered_disks(machine)?);
        }
        let folders = &self.allowed.allowed_folders;
        Ok(Arc::new(folders.iter().fold(gate, |gate, folder| gate.directory(folder))))
    }

    /// What to ask the registry for.
    pub async fn request(&self, cx: &Context, spec: &ImageSpec) -> Result<OpenRequest> {
        let mut request = self.request_of_file(spec)?;
        request.gate = self.gate(cx).await?;
        Ok(request)
    }

    /// As [`request`](Self::request), for a file of which nothing that it names is opened.
    fn request_of_file(&self, spec: &ImageSpec) -> Result<OpenRequest> {
        spec.permit(self.access)?;
        let mut request = OpenRequest::new(&spec.uri, self.access);
        request.format.clone_from(&spec.format);
        request.options.clone_from(&spec.options);
        request.storage_options.clone_from(&spec.storage_options);
        request.sharing = spec.general.sharing(self.sharing);
        request.cache = spec.general.cache(self.cache);
        request.parent_access = self.parent_access;
        Ok(request)
    }
}

/// A file that the caller names as a parent, with the format it has: a driver that has an identity to
/// compare compares it, and for the others the caller vouches.
async fn candidate(cx: &Context, spec: &ImageSpec) -> Result<Candidate> {
    let failed = |error| Failure::open(&spec.shown, &error);
    let format = match &spec.format {
        Some(format) => cx.registry.driver(format).map_err(failed)?.descriptor().name.to_owned(),
        None => {
            let storage = open_storage(cx, spec, &How::reading(Sharing::Unlocked)).await?;
            driver(cx, spec, &*storage).await?.descriptor().name.to_owned()
        }
    };
    Ok(Candidate::named(spec.uri.clone(), format))
}

/// Opens an image.
pub(crate) async fn open(cx: &Context, spec: &ImageSpec, how: &How) -> Result<Disk> {
    let disk = open_silently(cx, spec, how).await?;
    for warning in disk.info().warnings {
        cx.console.say(format_args!("warning: {}: {warning}", spec.shown));
    }
    Ok(disk)
}

/// Opens an image, and keeps its warnings.
pub(crate) async fn open_silently(cx: &Context, spec: &ImageSpec, how: &How) -> Result<Disk> {
    check_uri(cx, spec)?;
    let request = how.request(cx, spec).await?;
    let disk = cx.registry.open(&request).await;
    disk.map_err(|error| {
        let failure = Failure::open(&spec.shown, &error);
        match (error.kind(), &failure.hint) {
            (ErrorKind::NotFound, None) => match similar_file(&spec.uri) {
                Some(near) => failure.hint(format!("did you mean '{near}'?")),
                None => failure,
            },
            _ => failure,
        }
    })
}

/// Names an image as a parent, if it has an identity to verify it by.
pub(crate) async fn name_verifiable_parent(
    cx: &Context,
    spec: &ImageSpec,
    how: How,
) -> Result<How> {
    let storage = open_storage(cx, spec, &How::reading(Sharing::Unlocked)).await?;
    let identity = driver(cx, spec, &*storage).await?.identity(&*storage).await;
    match identity.map_err(|error| Failure::open(&spec.shown, &error))? {
        Some(_) => Ok(how.parent(spec.clone())),
        None => Ok(how),
    }
}

/// Opens the file of an image, and nothing that it names.
pub(crate) async fn open_storage(
    cx: &Context,
    spec: &ImageSpec,
    how: &How,
) -> Result<Arc<dyn Storage>> {
    check_uri(cx, spec)?;
    let storage = cx.registry.open_file(&how.request_of_file(spec)?).await;
    storage.map_err(|error| Failure::open(&spec.shown, &error))
}

/// The file in the same folder whose name is nearest to that of a file that is not there.
fn similar_file(uri: &str) -> Option<String> {
    const ENTRIES: usize = 4096;
    let path = file_path(uri);
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> = entries
        .flatten()
        .take(ENTRIES)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let near = nearest(wanted, names.iter().map(String::as_str)).filter(|near| *near != wanted)?;
    Some(path.with_file_name(near).to_string_lossy().into_owned())
}

/// Refuses a URI whose protocol nobody registered, which would otherwise be taken for a path.
pub(crate) fn check_uri(cx: &Context, spec: &ImageSpec) -> Result<()> {
    let Some((scheme, _)) = spec.uri.split_once("://") else { return Ok(()) };
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let known = cx.registry.protocols().iter().any(|protocol| protocol.scheme() == scheme);
    match is_scheme && !known {
        true => Err(Failure::new(format!(
            "Could not open '{}': Unknown protocol '{scheme}'",
            spec.shown
        ))),
        false => Ok(()),
    }
}

/// Says that a raw image about to be written was only guessed to be one.
pub(crate) fn warn_if_guessed_raw(cx: &Context, spec: &ImageSpec, disk: &Disk) {
    if spec.format.is_none() && disk.info().format == "raw" {
        cx.console.note(format_args!(
            "WARNING: Image format was not specified for '{}' and probing guessed raw.\n         \
             Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n         \
             Specify the 'raw' format explicitly to remove the restrictions.",
            spec.shown
        ));
    }
}

/// Has a child opened without its parent, which may be missing, where its driver can do that.
pub(crate) async fn without_parent(cx: &Context, spec: &mut ImageSpec) -> Result<()> {
    const ALONE: &str = "base";
    let storage = open_storage(cx, spec, &How::reading(Sharing::Unlocked)).await?;
    let descriptor = driver(cx, spec, &*storage).await?.descriptor();
    if descriptor.open_options.iter().any(|option| option.name == ALONE) {
        spec.options.push((ALONE.to_owned(), "on".to_owned()));
    }
    Ok(())
}

/// The driver of an image that is not opened: the one named, or the one that probing selects.
pub(crate) async fn driver<'c>(
    cx: &'c Context,
    spec: &ImageSpec,
    storage: &dyn block_core::Storage,
) -> Result<&'c Arc<dyn block_core::BlockDriver>> {
    let failed = |error| Failure::open(&spec.shown, &error);
    if let Some(format) = &spec.format {
        return cx.registry.driver(format).map_err(failed);
    }
    let report = cx.registry.probe(storage).await.map_err(failed)?;
    let known = report.drivers().iter().find_map(|name| cx.registry.driver(name).ok());
    known.ok_or_else(|| {
        Failure::new(format!("Could not open '{}': {}", spec.shown, report.explain()))
            .hint(format!("name the format with -f, or ask '{} probe'", cx.console.program()))
    })
}
