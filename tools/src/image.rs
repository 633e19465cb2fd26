//! Opening the images that a command line names.

use std::path::Path;
use std::sync::Arc;

use block_core::options::nearest;
use block_core::{
    Access, CacheMode, Candidate, Disk, ErrorKind, Gate, OpenRequest, Sharing, Storage,
};
use block_file::path::{from_text, to_text};

use crate::args::{AllowArgs, ImageSpec};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::file_path;
use crate::machine;
use crate::way_on;

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
        let drivers = cx.registry.drivers();
        let extensions = drivers.iter().flat_map(|driver| driver.descriptor().extensions).copied();
        let mut gate = block_file::DirectoryGate::new().extensions(extensions);
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
    Ok(Candidate { uri: spec.uri.clone(), format: Some(format) })
}

/// Opens an image.
pub(crate) async fn open(cx: &Context, spec: &ImageSpec, how: &How) -> Result<Disk> {
    check_uri(cx, spec)?;
    let request = how.request(cx, spec).await?;
    let storage = cx.registry.open_file(&request).await;
    let storage = storage.map_err(|error| {
        let failure = Failure::open(&spec.shown, &error);
        match (error.kind(), &failure.hint) {
            (ErrorKind::NotFound, None) => match similar_file(&spec.uri) {
                Some(near) => failure.hint(format!("did you mean '{near}'?")),
                None => failure,
            },
            _ => failure,
        }
    })?;
    let disk = match cx.registry.open_on(Arc::clone(&storage), &request).await {
        Ok(disk) => disk,
        Err(error) => return Err(not_opened(cx, spec, &*storage, &error).await),
    };
    if spec.format.is_none() && disk.info().format == "raw" {
        tell_of_another_name(cx, spec);
    }
    for warning in disk.info().warnings {
        cx.console.say(format_args!("warning: {}: {warning}", spec.shown));
    }
    Ok(disk)
}

/// Says why an image was not opened. Where its format is the reason, says what it is and what helps.
async fn not_opened(
    cx: &Context,
    spec: &ImageSpec,
    storage: &dyn Storage,
    error: &block_core::Error,
) -> Failure {
    let about_the_format = spec.format.is_none()
        && error.image() == Some(storage.uri())
        && matches!(
            error.kind(),
            ErrorKind::Unsupported | ErrorKind::Unrecognised | ErrorKind::Ambiguous
        );
    if about_the_format
        && let Ok(report) = cx.registry.probe(storage).await
        && cx.registry.driver_of(&report, storage.uri()).is_err()
    {
        return way_on::not_opened(cx, spec, &report, error);
    }
    Failure::open(&spec.shown, error)
}

/// Suffixes of formats that have no driver here and that raw disks do not have.
const SUFFIXES: [&str; 6] = ["qcow2", "qcow", "qed", "vmdk", "vhd", "vhdx"];

/// Tells of a file that was taken for raw, although its name is that of an image of another format: after a crash
/// or a failed download, nothing of the format is left in it.
pub(crate) fn tell_of_another_name(cx: &Context, spec: &ImageSpec) {
    let path = file_path(&spec.uri);
    let (Some(stem), Some(suffix)) = (path.file_stem(), path.extension()) else { return };
    let drivers = cx.registry.drivers();
    let formats = drivers.iter().filter(|driver| driver.descriptor().name != "raw");
    let mut known = formats.flat_map(|driver| driver.descriptor().extensions).chain(&SUFFIXES);
    // The data of a split VMDK are raw by design.
    let flat = to_text(stem).ends_with("-flat");
    if let Some(format) = known.find(|known| suffix.eq_ignore_ascii_case(known)).filter(|_| !flat) {
        cx.console.note(format_args!(
            "note: '{}' is named as {format} and holds nothing of that format; it is taken for raw",
            spec.shown
        ));
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
    let wanted = to_text(path.file_name()?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> =
        entries.flatten().take(ENTRIES).map(|entry| to_text(entry.file_name())).collect();
    let near = nearest(&wanted, names.iter().map(String::as_str)).filter(|near| *near != wanted)?;
    Some(to_text(path.with_file_name(from_text(near))))
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
            "WARNING: Image format was not specified for '{}' and probing guessed raw.",
            spec.shown
        ));
        cx.console.note(
            "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.",
        );
        cx.console.note("         Specify the 'raw' format explicitly to remove the restrictions.");
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
    let driver = cx.registry.driver_of(&report, storage.uri());
    driver.map_err(|error| way_on::not_opened(cx, spec, &report, &error))
}
