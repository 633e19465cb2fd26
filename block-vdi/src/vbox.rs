//! The media a VirtualBox machine file (`.vbox`) registers: which UUID lies where.
//!
//! A VDI names its parent by UUID only; the machine file is where VirtualBox keeps the path. The file
//! comes from the same hands as the image, so it is read as hostile text: no DTD, no entities, bounded
//! in size, elements and depth. What it names is a hint for a [`Gate`](block_core::Gate), which decides
//! whether it may be opened, and the driver verifies the UUID of what it finds.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

use block_core::{Error, ErrorKind, Result};
use uuid::Uuid;

/// Bytes of a machine file that are read at most.
pub const MAX_BYTES: usize = 4 << 20;

/// Elements and attributes of a machine file at most.
const MAX_NODES: u32 = 200_000;

/// Elements nested in each other at most: a chain nests as deep as it is long.
const MAX_DEPTH: usize = 512;

/// A registered hard disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// The image's UUID.
    pub uuid: Uuid,
    /// Its path as written: absolute, or relative to the machine file.
    pub location: String,
    /// Its format as written: `VDI`.
    pub format: String,
    /// The UUID of the medium it is nested in: its parent.
    pub parent: Option<Uuid>,
}

/// Reads the registered hard disks of a machine file.
///
/// ```
/// let text = r#"<VirtualBox><Machine><MediaRegistry><HardDisks>
///   <HardDisk uuid="{1c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a}" location="base.vdi" format="VDI"/>
/// </HardDisks></MediaRegistry></Machine></VirtualBox>"#;
/// let media = block_vdi::vbox::parse(text.as_bytes())?;
/// assert_eq!(media[0].location, "base.vdi");
/// # Ok::<(), block_core::Error>(())
/// ```
///
/// # Errors
/// `Limit` when the file is larger or deeper than any machine's, `Corrupt` when it is not well-formed,
/// declares a DTD, or a registered disk has no proper UUID.
pub fn parse(bytes: &[u8]) -> Result<Vec<Medium>> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a machine file of {} bytes; at most {MAX_BYTES} are read", bytes.len()),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "the machine file is not UTF-8").because(error)
    })?;
    bound_depth(text)?;
    let options = roxmltree::ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "the machine file is not well-formed XML").because(error)
    })?;
    let disks = document.descendants().filter(|node| node.tag_name().name() == "HardDisk");
    disks.filter(|node| node.has_attribute("location")).map(medium).collect()
}

fn medium(node: roxmltree::Node<'_, '_>) -> Result<Medium> {
    let parent = node.parent_element().filter(|above| above.tag_name().name() == "HardDisk");
    Ok(Medium {
        uuid: uuid(&node)?,
        location: node.attribute("location").unwrap_or_default().to_owned(),
        format: node.attribute("format").unwrap_or_default().to_owned(),
        parent: parent.map(|above| uuid(&above)).transpose()?,
    })
}

fn uuid(node: &roxmltree::Node<'_, '_>) -> Result<Uuid> {
    let text = node.attribute("uuid").unwrap_or_default();
    Uuid::try_parse(text).map_err(|error| {
        let found = text.escape_debug().take(64).collect::<String>();
        Error::field_mismatch(ErrorKind::Corrupt, "HardDisk uuid", found, "a UUID")
            .at(u64::try_from(node.range().start).unwrap_or(u64::MAX))
            .because(error)
    })
}

/// Refuses what nests so deep that a parser might recurse too far. Counts tags without understanding
/// them, so it may refuse early, never late.
fn bound_depth(text: &str) -> Result<()> {
    let mut depth = 0usize;
    let mut bytes = text.as_bytes().windows(2);
    while let Some(&[first, second]) = bytes.next() {
        match (first, second) {
            (b'<', b'/') => depth = depth.saturating_sub(1),
            (b'<', b'!' | b'?') => {}
            (b'<', _) => depth = depth.saturating_add(1),
            (b'/', b'>') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the machine file nests deeper than {MAX_DEPTH} elements"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "1c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a";
    const CHILD: &str = "2c8b7ca3-d1a0-4fa9-a621-a43d8b77ef8a";

    #[test]
    fn a_nested_disk_has_the_one_around_it_as_parent() {
        let text = format!(
            r#"<?xml version="1.0"?><!-- saved -->
            <VirtualBox xmlns="http://www.virtualbox.org/"><Machine><MediaRegistry><HardDisks>
            <HardDisk uuid="{{{BASE}}}" location="base.vdi" format="VDI" type="Normal">
              <HardDisk uuid="{{{CHILD}}}" location="Snapshots/{{{CHILD}}}.vdi" format="VDI"/>
            </HardDisk></HardDisks></MediaRegistry>
            <AttachedDevice type="HardDisk"><Image uuid="{{{CHILD}}}"/></AttachedDevice>
            </Machine></VirtualBox>"#
        );
        let media = parse(text.as_bytes()).unwrap();
        assert_eq!(media.len(), 2);
        assert_eq!(media[0].parent, None);
        assert_eq!(media[1].parent, Some(BASE.parse().unwrap()));
        assert_eq!(media[1].location, format!("Snapshots/{{{CHILD}}}.vdi"));
    }

    #[test]
    fn a_dtd_with_entities_is_refused() {
        let text =
            r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><VirtualBox>&b;</VirtualBox>"#;
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = "<a>".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
        let long = vec![b' '; MAX_BYTES + 1];
        assert_eq!(parse(&long).unwrap_err().kind(), ErrorKind::Limit);
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES as usize));
        assert_eq!(parse(many.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_disk_without_a_proper_uuid_is_named() {
        let error =
            parse(b"<VirtualBox><HardDisk uuid='{x}' location='a.vdi'/></VirtualBox>").unwrap_err();
        assert_eq!(error.field().unwrap().found, "{x}");
        assert!(error.offset().is_some());
    }
}
