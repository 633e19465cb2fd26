//! The parent of a differencing image: finds it by its UUID, verifies it and opens it.

use std::sync::Arc;

use block_core::{
    BlockDevice, Disk, Error, ErrorKind, OpenContext, Options, ParentFile, ParentInfo,
    ParentRecord, Result, Storage,
};

use crate::header::Header;
use crate::invalid::InvalidImage;

/// The known facts about the parent of an open image.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    pub parent: Option<ParentInfo>,
    /// The parent, if it is open.
    pub device: Option<Arc<dyn BlockDevice>>,
    /// Irregularities that only cause a warning.
    pub warnings: Vec<String>,
}

/// Opens the parent if the image needs one.
pub(crate) async fn open(
    storage: &dyn Storage,
    header: &Header,
    options: &Options,
    cx: &OpenContext,
) -> Result<(Option<Disk>, Lineage)> {
    if !header.needs_parent() || options.bool("base").unwrap_or(false) {
        let lineage = Lineage { parent: unopened(header), ..Lineage::default() };
        return Ok((None, lineage));
    }
    let link = header.parent_uuid;
    let link_at = header.fields().parent_uuid as u64;
    if link.is_nil() {
        return Err(InvalidImage::NoParent
            .error(ErrorKind::Corrupt, "uuid_link", link_at, link, "the UUID of a parent")
            .with_hint("open it as a base image with the option base=on"));
    }
    if link == header.uuid {
        return Err(InvalidImage::OwnParent.error(
            ErrorKind::Corrupt,
            "uuid_link",
            link_at,
            link,
            "the UUID of another image",
        ));
    }
    let record = ParentRecord {
        uuid: link,
        modification: header.parent_modification_uuid.filter(|uuid| !uuid.is_nil()),
        verify: options.bool("verify_parent").unwrap_or(true),
    };
    let parent = cx.find_parent(storage, &record).await.map_err(|error| explain(error, link_at))?;
    let mut warnings = parent.warnings.clone();
    if let Some(error) = verify_content(header, &record, &parent) {
        if options.bool("strict").unwrap_or(false) {
            return Err(error.in_image(storage.uri()));
        }
        warnings.push(format!("{}: {error}", parent.storage.uri()));
    }
    let word = |on: bool| String::from(if on { "on" } else { "off" });
    let inherited: Vec<(String, String)> = ["strict", "verify_parent", "damaged"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), word(options.bool(name)?))))
        .collect();
    let device = cx.open_parent(storage, parent, &inherited).await?;
    let info = ParentInfo {
        reference: link.to_string(),
        opened: Some(device.storage().uri().to_owned()),
        format: Some(device.info().format.to_owned()),
    };
    let lineage = Lineage { parent: Some(info), device: Some(Arc::clone(&device)), warnings };
    Ok((Some(Disk::new(device)), lineage))
}

/// Adds to an error the field that it concerns, the consequence and a hint.
fn explain(error: Error, link_at: u64) -> Error {
    let error = match error.kind() {
        ErrorKind::NotFound if error.code().is_some() => error.at(link_at),
        _ => error,
    };
    match error.code() {
        Some("parent-mismatch") => error
            .at(link_at)
            .because(InvalidImage::ParentMismatch)
            .with_hint("if this is the parent all the same, say verify_parent=off"),
        _ => error,
    }
}

/// Returns an error if the parent's content has changed since the child was created.
fn verify_content(header: &Header, record: &ParentRecord, parent: &ParentFile) -> Option<Error> {
    let wanted = record.modification?;
    let identity = parent.identity.as_ref().filter(|identity| identity.uuid == record.uuid)?;
    let found = identity.modification.unwrap_or_default();
    let at = header.fields().v1.map_or(0, |v1| v1.parent_modification_uuid as u64);
    (found != wanted).then(|| {
        InvalidImage::ParentModified.error(
            ErrorKind::Corrupt,
            "uuid_modify of the parent",
            at,
            found,
            wanted,
        )
    })
}

/// Returns what a child records about its parent, which is not open.
fn unopened(header: &Header) -> Option<ParentInfo> {
    (!header.parent_uuid.is_nil()).then(|| ParentInfo {
        reference: header.parent_uuid.to_string(),
        opened: None,
        format: None,
    })
}
