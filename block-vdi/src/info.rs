//! What there is to tell about an image.

use block_core::{Access, DeviceCaps, ImageInfo, InfoValue};
use uuid::Uuid;

use crate::chain::Lineage;
use crate::header::Header;

/// The name under which an image's identity is among its details; chains are verified by it.
pub(crate) const UUID: &str = "uuid";

/// The name of the identity of its content.
pub(crate) const MODIFICATION_UUID: &str = "modification-uuid";

/// All facts of the header, in the order to show them.
pub(crate) fn image_info(header: &Header, access: Access, lineage: &Lineage) -> ImageInfo {
    let mut caps = DeviceCaps::SPARSE | DeviceCaps::MAP;
    if access == Access::ReadWrite {
        caps |= DeviceCaps::WRITE | DeviceCaps::GROW | DeviceCaps::SHRINK | DeviceCaps::AMEND;
        // Where every block has its place for good there is nothing to give up.
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

/// Text from an image, fit for a terminal: control characters and broken encodings are escaped.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for c in text.trim_end().chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}
