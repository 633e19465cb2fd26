//! Changes to facts about an image: identity, parent, comment, geometry.

use block_core::engine::BlockMapper;
use block_core::{Error, ErrorKind, OptionKind, OptionSpec, Options, Result};
use uuid::Uuid;

use crate::format::HEADER_END_V1_PLUS;
use crate::header::{Geometry, ImageType};
use crate::map::VdiMap;

/// The options of [`amend`].
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "uuid",
        kind: OptionKind::NewUuid,
        default: None,
        help: "identity of the image; children know it by that",
    },
    OptionSpec {
        name: "modification_uuid",
        kind: OptionKind::NewUuid,
        default: None,
        help: "identity of its content",
    },
    OptionSpec {
        name: "parent_uuid",
        kind: OptionKind::Uuid,
        default: None,
        help: "identity of the parent; all zeros makes it a base image",
    },
    OptionSpec {
        name: "parent_modification_uuid",
        kind: OptionKind::Uuid,
        default: None,
        help: "identity of the parent's content",
    },
    OptionSpec {
        name: "comment",
        kind: OptionKind::Text,
        default: None,
        help: "a note of at most 255 bytes",
    },
    OptionSpec {
        name: "geometry",
        kind: OptionKind::Text,
        default: None,
        help: "logical cylinders/heads/sectors, or 'none'",
    },
];

/// Changes the facts that `options` name in one header write, and makes it durable.
pub(crate) async fn amend(map: &VdiMap, options: &Options) -> Result<()> {
    map.rewrite_head(|head, header| {
        let v1 = header.fields().v1.as_ref();
        let v1_only = |what: &str| {
            v1.ok_or_else(|| {
                let message = format!("an image of version 0.2 has no {what} to set");
                Error::new(ErrorKind::Unsupported, message)
            })
        };
        if let Some(uuid) = not_nil(options, "uuid")? {
            head.set_uuid(header, uuid)?;
        }
        if let Some(uuid) = not_nil(options, "modification_uuid")? {
            head.put_modification_uuid(header, uuid)?;
        }
        if let Some(uuid) = options.uuid("parent_uuid") {
            head.set_parent_uuid(header, uuid)?;
            match (uuid.is_nil(), header.image_type) {
                (true, ImageType::Undo | ImageType::Differencing) => {
                    head.set_image_type(header, ImageType::Dynamic)?;
                    if let Some(v1) = v1 {
                        head.set_parent_modification_uuid(v1, Uuid::nil())?;
                    }
                }
                (false, ImageType::Dynamic) => {
                    head.set_image_type(header, ImageType::Differencing)?;
                }
                (false, ImageType::Static) => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "a static image cannot have a parent",
                    ));
                }
                _ => {}
            }
        }
        if let Some(uuid) = options.uuid("parent_modification_uuid") {
            match v1 {
                // A caller that names a parent passes all it knows of it, and version 0.2 stores what it can.
                None if options.uuid("parent_uuid").is_some() => {}
                _ => {
                    head.set_parent_modification_uuid(v1_only("parent modification UUID")?, uuid)?
                }
            }
        }
        if let Some(comment) = options.text("comment") {
            v1_only("comment")?;
            head.set_comment(header, checked_comment(comment)?)?;
        }
        if let Some(geometry) = options.text("geometry") {
            let v1 = v1_only("geometry")?;
            if header.map_offset < u64::from(HEADER_END_V1_PLUS) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the block map begins where the geometry would lie",
                ));
            }
            head.set_geometry(v1, parse_geometry(geometry)?)?;
        }
        Ok(())
    })
    .await?;
    map.storage().flush().await
}

/// Returns the bytes of a comment that fits its field.
pub(crate) fn checked_comment(comment: &str) -> Result<&[u8]> {
    let len = comment.len();
    if len > 255 || comment.contains('\0') {
        let message = format!("a comment has at most 255 bytes and no NUL, this one has {len}");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(comment.as_bytes())
}

/// Parses cylinders, heads (1 to 255) and sectors (1 to 63). Returns `None` for `none`.
pub(crate) fn parse_geometry(text: &str) -> Result<Option<Geometry>> {
    if text == "none" {
        return Ok(None);
    }
    let mut parts = text.split('/').map(str::parse::<u32>);
    let geometry = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(cylinders)), Some(Ok(heads)), Some(Ok(sectors)), None) => {
            Some(Geometry { cylinders, heads, sectors })
        }
        _ => None,
    };
    let sound = geometry.filter(|g| {
        g.cylinders > 0 && (1..=255).contains(&g.heads) && (1..=63).contains(&g.sectors)
    });
    match sound {
        Some(geometry) => Ok(Some(geometry)),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "'{text}' is no geometry; cylinders/heads/sectors are wanted, as in 1024/255/63"
            ),
        )),
    }
}

/// Returns a UUID option, and refuses the nil UUID.
fn not_nil(options: &Options, name: &str) -> Result<Option<Uuid>> {
    match options.uuid(name) {
        Some(uuid) if uuid.is_nil() => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("Parameter '{name}' expects a UUID that is not all zeros"),
        )),
        other => Ok(other),
    }
}
