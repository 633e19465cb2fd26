//! Opening the images that a command line names.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use block_core::options::nearest;
use block_core::{
    Access, CacheMode, Candidate, Disk, ErrorKind, Gate, OpenRequest, Registry, Sharing, Storage,
};
use block_file::path::{from_text, to_text};
use block_inspect::GuestStorage;

use crate::args::{AllowArgs, ImageSpec, ShareArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::file_path;
use crate::machine;
use crate::way_on;

/// Settings for opening an image.
#[derive(Debug, Clone)]
pub(crate) struct OpenMode {
    /// Whether the image is opened for reading, or also for writing.
    pub access: Access,
    /// What other programs may do with the image while it is open.
    pub sharing: Sharing,
    /// Cache mode for writes.
    pub cache: CacheMode,
    /// Files and folders, besides the image's own folder, from which parents are allowed.
    pub allowed: AllowArgs,
    /// Images that may be parents. They are tried before all others.
    pub parents: Vec<ImageSpec>,
    /// Access with which the direct parent is opened.
    pub parent_access: Access,
    /// Whether the command accepts `-U` and the user did not give it.
    pub may_be_shared: bool,
    /// Whether other programs are kept from writing while the image is open, even if it is a raw disk.
    pub steady: bool,
}

impl OpenMode {
    /// Returns settings for reading.
    pub fn reading(sharing: Sharing) -> Self {
        Self {
            access: Access::Read,
            sharing,
            cache: CacheMode::Writeback,
            allowed: AllowArgs::default(),
            parents: Vec::new(),
            parent_access: Access::Read,
            may_be_shared: false,
            steady: false,
        }
    }

    /// Returns settings for reading, in a command that accepts `-U`.
    pub fn shared(share: ShareArgs) -> Self {
        Self { may_be_shared: !share.force_share, ..Self::reading(share.sharing()) }
    }

    /// Keeps other programs from writing while the image is open, even if it is a raw disk.
    pub fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    /// Returns settings for reading and writing, with no other program writing.
    pub fn writing() -> Self {
        Self { access: Access::ReadWrite, ..Self::reading(Sharing::Exclusive) }
    }

    /// Sets the cache mode.
    pub fn cache(mut self, cache: CacheMode) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the files and folders from which parents are allowed.
    pub fn allow(mut self, allowed: &AllowArgs) -> Self {
        self.allowed = allowed.clone();
        self
    }

    /// Adds an image that may be a parent.
    pub fn parent(mut self, parent: ImageSpec) -> Self {
        self.parents.push(parent);
        self
    }

    /// Returns the gate that decides which files the image may name.
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

    /// Returns the request for the registry.
    pub async fn request(&self, cx: &Context, spec: &ImageSpec) -> Result<OpenRequest> {
        let mut request = self.request_of_file(spec)?;
        request.gate = self.gate(cx).await?;
        Ok(request)
    }

    /// Like [`request`](Self::request), but without a gate, for a file that is opened alone.
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

/// Returns a file that the caller names as a parent, with its format. A driver that stores parent identities verifies
/// it. For other drivers the caller vouches for it.
async fn candidate(cx: &Context, spec: &ImageSpec) -> Result<Candidate> {
    let failed = |error| Failure::open(&spec.shown, &error);
    let format = match &spec.format {
        Some(format) => cx.registry.driver(format).map_err(failed)?.descriptor().name.to_owned(),
        None => {
            let storage = open_storage(cx, spec, &OpenMode::reading(Sharing::Unlocked)).await?;
            driver(cx, spec, &*storage).await?.descriptor().name.to_owned()
        }
    };
    Ok(Candidate::named(spec.uri.clone(), format))
}

/// Opens an image and prints its warnings.
pub(crate) async fn open(cx: &Context, spec: &ImageSpec, how: &OpenMode) -> Result<Disk> {
    let disk = open_silently(cx, spec, how).await?;
    for warning in disk.info().warnings {
        cx.console.say(format_args!("warning: {}: {warning}", spec.shown));
    }
    Ok(disk)
}

/// Opens an image without printing its warnings.
pub(crate) async fn open_silently(cx: &Context, spec: &ImageSpec, how: &OpenMode) -> Result<Disk> {
    check_uri(cx, spec)?;
    let request = how.request(cx, spec).await?;
    let storage = file_of(cx, spec, how, &request).await?;
    let disk = match cx.registry.open_on(Arc::clone(&storage), &request).await {
        Ok(disk) => disk,
        Err(error) => return Err(not_opened(cx, spec, how, &*storage, &error).await),
    };
    if disk.info().format == RAW {
        if spec.format.is_none() && is_detected_raw(cx, spec, &*storage).await {
            tell_of_another_name(cx, spec);
        }
        if how.access == Access::Read
            && !how.steady
            && let Some(file) = storage.as_any().downcast_ref::<block_file::FileStorage>()
        {
            file.let_others_write().map_err(|error| Failure::open(&spec.shown, &error))?;
        }
    }
    Ok(disk)
}

/// Adds `spec` to the possible parents in `how`, if the image has an identity to verify it by.
pub(crate) async fn name_verifiable_parent(
    cx: &Context,
    spec: &ImageSpec,
    how: OpenMode,
) -> Result<OpenMode> {
    let storage = open_storage(cx, spec, &OpenMode::reading(Sharing::Unlocked)).await?;
    let identity = driver(cx, spec, &*storage).await?.identity(&*storage).await;
    match identity.map_err(|error| Failure::open(&spec.shown, &error))? {
        Some(_) => Ok(how.parent(spec.clone())),
        None => Ok(how),
    }
}

/// Returns why an image was not opened. If its format is the reason, adds what the format is and a hint.
async fn not_opened(
    cx: &Context,
    spec: &ImageSpec,
    how: &OpenMode,
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
    shared_hint(Failure::open(&spec.shown, error), how, error)
}

/// Suffixes of image formats without a driver here. Raw disks do not use them.
const SUFFIXES: [&str; 6] = ["qcow2", "qcow", "qed", "vmdk", "vhd", "vhdx"];

/// Whether detection, rather than a driver that serves raw disks, takes the file for raw although its suffix differs.
async fn is_detected_raw(cx: &Context, spec: &ImageSpec, storage: &dyn Storage) -> bool {
    format_by_name(cx, spec).is_some()
        && cx.registry.probe(storage).await.is_ok_and(|report| report.is_raw())
}

/// Returns the format, other than raw, to which the file's suffix belongs.
fn format_by_name<'a>(cx: &'a Context, spec: &ImageSpec) -> Option<&'a str> {
    let path = file_path(&spec.uri);
    let (stem, suffix) = (path.file_stem()?, path.extension()?);
    // The data files of a split VMDK are raw by design.
    if to_text(stem).ends_with("-flat") {
        return None;
    }
    let drivers = cx.registry.drivers().into_iter().map(|driver| driver.descriptor());
    let formats = drivers.filter(|descriptor| descriptor.name != RAW);
    let mut known = formats.flat_map(|descriptor| descriptor.extensions).chain(&SUFFIXES).copied();
    known.find(|known| suffix.eq_ignore_ascii_case(known))
}

/// Prints a note about a file whose suffix belongs to another format but whose content was taken for raw. A crash or a
/// failed download can leave nothing of the format in the file.
pub(crate) fn tell_of_another_name(cx: &Context, spec: &ImageSpec) {
    if let Some(format) = format_by_name(cx, spec) {
        cx.console.note(format_args!(
            "note: '{}' is named as {format} and holds nothing of that format; it is taken for raw",
            spec.shown
        ));
    }
}

/// Opens the file of an image, and no file that the image names.
pub(crate) async fn open_storage(
    cx: &Context,
    spec: &ImageSpec,
    how: &OpenMode,
) -> Result<Arc<dyn Storage>> {
    check_uri(cx, spec)?;
    file_of(cx, spec, how, &how.request_of_file(spec)?).await
}

/// Opens the storage of an image: a file, or the disk of another image.
async fn file_of(
    cx: &Context,
    spec: &ImageSpec,
    how: &OpenMode,
    request: &OpenRequest,
) -> Result<Arc<dyn Storage>> {
    if let Some(below) = &spec.below {
        let disk = Box::pin(open(cx, below, how)).await?;
        return Ok(Arc::new(GuestStorage::new(disk, &below.uri)));
    }
    let storage = open_file(cx, how, request).await;
    storage.map_err(|error| not_there(spec, how, &error))
}

/// Name of the format whose guest data is the file itself.
const RAW: &str = "raw";

/// Opens a file. A raw disk may be read while another program writes it, because it has no metadata that could change.
async fn open_file(
    cx: &Context,
    how: &OpenMode,
    request: &OpenRequest,
) -> Result<Arc<dyn Storage>, block_core::Error> {
    let opened = cx.registry.open_file(request).await;
    let busy = match opened {
        Err(error) if error.code() == Some("image-locked") => error,
        opened => return opened,
    };
    let another = request.format.as_deref().is_some_and(|format| format != RAW);
    if request.access != Access::Read || how.steady || another {
        return Err(busy);
    }
    let mut shared = request.clone();
    shared.sharing = Sharing::Force;
    let storage = cx.registry.open_file(&shared).await?;
    if request.format.is_none() && !cx.registry.probe(&*storage).await?.is_raw() {
        return Err(busy);
    }
    Ok(storage)
}

/// Returns why the file of an image was not opened, with a hint.
fn not_there(spec: &ImageSpec, how: &OpenMode, error: &block_core::Error) -> Failure {
    let failure = Failure::open(&spec.shown, error);
    match (error.kind(), &failure.hint) {
        (ErrorKind::NotFound, None) if spec.uri == "-" => {
            failure.hint("'-' is standard input and output for 'convert' alone")
        }
        (ErrorKind::NotFound, None) => match similar_file(&spec.uri) {
            Some(near) => failure.hint(format!("did you mean '{near}'?")),
            None => failure,
        },
        (ErrorKind::InvalidInput, None) if is_stream(&spec.uri) => failure.hint(
            "'convert' takes '-' for its source or its target, and streams standard input or output",
        ),
        _ => shared_hint(failure, how, error),
    }
}

/// Adds the hint about `-U` if another program has locked the image.
fn shared_hint(failure: Failure, how: &OpenMode, error: &block_core::Error) -> Failure {
    if error.code() == Some("image-locked") && how.may_be_shared {
        return failure.also("-U reads it all the same, and may see it half written");
    }
    failure
}

/// Whether `uri` names a pipe, a socket or a character device such as a terminal.
fn is_stream(uri: &str) -> bool {
    std::fs::metadata(file_path(uri)).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_char_device()
    })
}

/// Returns the file in the same folder whose name is nearest to that of the missing file.
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

/// Refuses a URI whose protocol is not registered, because it would otherwise be taken for a path.
pub(crate) fn check_uri(cx: &Context, spec: &ImageSpec) -> Result<()> {
    let Some((scheme, _)) = spec.uri.split_once("://") else { return Ok(()) };
    let known = cx.registry.protocols().iter().any(|protocol| protocol.scheme() == scheme);
    if is_scheme(scheme) && !known {
        Err(Failure::new(format!("Could not open '{}': Unknown protocol '{scheme}'", spec.shown)))
    } else {
        Ok(())
    }
}

/// Protocols of stock `qemu-img`, which takes a name that begins with one and a colon for no local file.
const STOCK_PROTOCOLS: [&str; 25] = [
    "blkdebug",
    "blkverify",
    "fat",
    "ftp",
    "ftps",
    "gluster",
    "gluster+rdma",
    "gluster+tcp",
    "gluster+unix",
    "host_cdrom",
    "host_device",
    "http",
    "https",
    "iscsi",
    "iser",
    "json",
    "nbd",
    "nbd+tcp",
    "nbd+unix",
    "nfs",
    "null-aio",
    "null-co",
    "nvme",
    "rbd",
    "ssh",
];

/// Refuses a target whose name begins with a protocol that is not registered, unless a file of that name exists. A path
/// that begins with `./` is always a path.
pub(crate) fn check_target_name(registry: &Registry, name: &str) -> Result<()> {
    let Some((scheme, rest)) = name.split_once(':') else { return Ok(()) };
    let is_known = registry.protocols().iter().any(|protocol| protocol.scheme() == scheme);
    let means_a_protocol =
        STOCK_PROTOCOLS.contains(&scheme) || (rest.starts_with("//") && is_scheme(scheme));
    if is_known || !means_a_protocol || from_text(name).symlink_metadata().is_ok() {
        return Ok(());
    }
    Err(Failure::new(format!("Could not create '{name}': Unknown protocol '{scheme}'"))
        .hint(format!("for a file of this name, write './{name}'")))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Prints the warning that a raw image about to be written was only guessed to be raw.
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

/// Makes a child open without its parent, which may be missing, if its driver supports that.
pub(crate) async fn without_parent(cx: &Context, spec: &mut ImageSpec) -> Result<()> {
    turn_on(cx, spec, "base").await
}

/// Makes a damaged image readable as far as its file goes, if its driver supports that.
pub(crate) async fn as_far_as_it_goes(cx: &Context, spec: &mut ImageSpec) -> Result<()> {
    turn_on(cx, spec, "damaged").await
}

/// Turns on an open option if the image's driver has it and the user did not set it.
async fn turn_on(cx: &Context, spec: &mut ImageSpec, option: &str) -> Result<()> {
    let storage = open_storage(cx, spec, &OpenMode::reading(Sharing::Unlocked)).await?;
    let descriptor = driver(cx, spec, &*storage).await?.descriptor();
    let is_known = descriptor.open_options.iter().any(|spec| spec.name == option);
    if is_known && !spec.options.iter().any(|(name, _)| name == option) {
        spec.options.push((option.to_owned(), "on".to_owned()));
    }
    Ok(())
}

/// Returns the driver of an image without opening it: the one the user named, or the one that probing selects.
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
