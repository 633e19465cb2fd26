//! The facts about an image that are shown to the user.

use block_core::{Access, DeviceCaps, ImageInfo, InfoValue};
use uuid::Uuid;

use crate::chain::Lineage;
use crate::header::Header;

/// Name of the image's UUID among its details. Chains are verified by it.
pub(crate) const UUID: &str = "uuid";

/// Name of the modification UUID among an image's details.
pub(crate) const MODIFICATION_UUID: &str = "modification-uuid";

/// Returns all facts of the header in display order.
pub(crate) fn image_info(header: &Header, access: Access, lineage: &Lineage) -> ImageInfo {
    let mut caps = DeviceCaps::SPARSE | DeviceCaps::MAP;
    if access == Access::ReadWrite {
        caps |= DeviceCaps::WRITE | DeviceCaps::GROW | DeviceCaps::SHRINK | DeviceCaps::AMEND;
        // Blocks of a static image keep their slots, so there is nothing to free.
        if !header.is_static() {
            caps |= DeviceCaps::COMPACT | DeviceCaps::MAKE_EMPTY;
        }
    }
    let mut info = ImageInfo::new("vdi", header.virtual_size, caps);
    info.block_size = Some(header.block_size);
    info.parent.clone_from(&lineage.parent);
    info.warnings = header.oddities.iter().map(|oddity| oddity.message.clone()).collect();
    info.warnings.extend_from_slice(&lineage.warnings);
    info.details = details(header);
    info
}

fn details(header: &Header) -> Vec<(&'static str, InfoValue)> {
    let text = |value: String| InfoValue::Text(value);
    let number = InfoValue::Number;
    let mut details = vec![
        ("variant", text(header.image_type.to_string())),
        ("version", text(header.version.to_string())),
        ("creator", text(printable(&header.text))),
        (UUID, InfoValue::Uuid(header.uuid)),
        (MODIFICATION_UUID, InfoValue::Uuid(header.modification_uuid)),
    ];
    if !header.parent_uuid.is_nil() {
        details.push(("parent-uuid", InfoValue::Uuid(header.parent_uuid)));
    }
    if let Some(uuid) = header.parent_modification_uuid.filter(|uuid| !Uuid::is_nil(uuid)) {
        details.push(("parent-modification-uuid", InfoValue::Uuid(uuid)));
    }
    if !header.comment.is_empty() {
        details.push(("comment", text(printable(&header.comment))));
    }
    if let Some(size) = header.header_size {
        details.push(("header-size", number(u64::from(size))));
    }
    details.extend([
        ("flags", number(u64::from(header.flags))),
        ("stored-size", number(header.disk_size)),
        ("block-size", number(header.block_size)),
        ("block-extra", number(header.block_extra)),
        ("blocks", number(header.blocks)),
        ("allocated-blocks", number(header.allocated)),
        ("map-offset", number(header.map_offset)),
        ("data-offset", number(header.data_offset)),
    ]);
    if let Some(geometry) = header.geometry {
        details.push(("geometry", text(geometry.to_string())));
    }
    if let Some(geometry) = header.legacy_geometry {
        details.push(("legacy-geometry", text(geometry.to_string())));
    }
    details
}

/// Returns text from an image that is safe for a terminal, with control characters and broken encodings escaped.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for c in text.trim_end().chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
