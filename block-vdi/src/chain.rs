//! The parent of a differencing image: found by its UUID, verified, opened.

use block_core::{
    Candidate, Disk, Error, ErrorKind, OpenContext, Options, ParentInfo, ReferenceBy, Result,
    Sharing, Storage, StorageAccess, StorageOptions,
};
use uuid::Uuid;

use crate::NAME;
use crate::head::Head;
use crate::header::Header;
use crate::refusal::Refusal;

/// What is known of the parent of an opened image.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    pub parent: Option<ParentInfo>,
    /// What is odd but not refused.
    pub warnings: Vec<String>,
}

/// Opens the parent that an image needs, if it needs one.
pub(crate) async fn open(
    storage: &dyn Storage,
    header: &Header,
    options: &Options,
    cx: &OpenContext,
) -> Result<(Option<Disk>, Lineage)> {
    if !header.needs_parent() || options.bool("base").unwrap_or(false) {
        let lineage = Lineage { parent: unopened(header), warnings: Vec::new() };
        return Ok((None, lineage));
    }
    let link = header.parent_uuid;
    let link_at = header.fields().parent_uuid as u64;
    if link.is_nil() {
        return Err(Refusal::NoParent
            .error(ErrorKind::Corrupt, "uuid_link", link_at, link, "the UUID of a parent")
            .with_hint("open it as a base image with the option base=on"));
    }
    if link == header.uuid {
        return Err(Refusal::OwnParent.error(
            ErrorKind::Corrupt,
            "uuid_link",
            link_at,
            link,
            "the UUID of another image",
        ));
    }
    let mut candidates = cx.candidates(storage, ReferenceBy::Uuid(link)).await?;
    // What can be verified comes before what has to be believed.
    candidates.sort_by_key(|candidate| !is_ours(candidate));
    let strict = options.bool("strict").unwrap_or(false);
    let verify = options.bool("verify_parent").unwrap_or(true);
    let count = candidates.len();
    let mut refused = None;
    for candidate in candidates {
        let found = match is_ours(&candidate) {
            true => match peek(&candidate, cx).await {
                Ok(found) => Some(found),
                Err(error) => {
                    refused = Some(error.in_image(candidate.uri));
                    continue;
                }
            },
            // Another format has no identity to compare; the caller vouches for it.
            false => None,
        };
        if let Some(found) = found.as_ref().filter(|found| verify && found.uuid != link) {
            refused = Some(mismatch(link_at, link, found.uuid).in_image(candidate.uri));
            continue;
        }
        let mut warnings = Vec::new();
        if let Some(found) = found {
            let changed = verify_content(header, &found);
            match changed {
                Some(error) if strict => return Err(error),
                Some(error) => warnings.push(format!("{}: {error}", candidate.uri)),
                None => {}
            }
        }
        let (disk, parent) = open_candidate(storage, link, &candidate, options, cx).await?;
        return Ok((Some(disk), Lineage { parent: Some(parent), warnings }));
    }
    Err(refused.filter(|_| count == 1).unwrap_or_else(|| {
        let message = format!("none of {count} places holds the parent, UUID {link}");
        Error::new(ErrorKind::NotFound, message).at(link_at)
    }))
}

/// Whether a candidate is said, or taken, to be in this format.
fn is_ours(candidate: &Candidate) -> bool {
    candidate.format.as_deref().is_none_or(|format| format == NAME)
}

async fn open_candidate(
    storage: &dyn Storage,
    link: Uuid,
    candidate: &Candidate,
    options: &Options,
    cx: &OpenContext,
) -> Result<(Disk, ParentInfo)> {
    let word = |on: bool| String::from(if on { "on" } else { "off" });
    let inherited: Vec<(String, String)> = ["strict", "verify_parent"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), word(options.bool(name)?))))
        .collect();
    let device = cx
        .open_parent(storage, candidate, NAME, &inherited)
        .await
        .map_err(|error| error.in_image(candidate.uri.clone()))?;
    let info = ParentInfo {
        reference: link.to_string(),
        opened: Some(device.storage().uri().to_owned()),
        format: Some(device.info().format.to_owned()),
    };
    Ok((Disk::new(device), info))
}

/// Reads a candidate's header, and nothing that the candidate itself names.
async fn peek(candidate: &Candidate, cx: &OpenContext) -> Result<Header> {
    let request = StorageOptions::new(StorageAccess::Read).sharing(Sharing::Unlocked);
    let storage = cx.registry().open_storage(&candidate.uri, &request).await?;
    let file_len = storage.len().await?;
    let head = Head::read(&*storage, file_len).await?;
    Header::parse(head.bytes(), file_len)
}

fn mismatch(at: u64, wanted: Uuid, found: Uuid) -> Error {
    Refusal::ParentMismatch
        .error(ErrorKind::Corrupt, "uuid_image of the parent", at, found, wanted)
        .with_hint("if this is the parent all the same, say verify_parent=off")
}

/// Whether the parent still holds what it held when the child was made.
fn verify_content(header: &Header, parent: &Header) -> Option<Error> {
    let wanted = header.parent_modification_uuid.filter(|uuid| !uuid.is_nil())?;
    let at = header.fields().v1.map_or(0, |v1| v1.parent_modification_uuid as u64);
    let found = parent.modification_uuid;
    (found != wanted).then(|| {
        Refusal::ParentModified.error(
            ErrorKind::Corrupt,
            "uuid_modify of the parent",
            at,
            found,
            wanted,
        )
    })
}

/// What a child says of its parent when it is opened without it.
fn unopened(header: &Header) -> Option<ParentInfo> {
    (!header.parent_uuid.is_nil()).then(|| ParentInfo {
        reference: header.parent_uuid.to_string(),
        opened: None,
        format: None,
    })
}
