//! The hard disks that a VirtualBox machine file (`.vbox`) registers: the location of each UUID.
//!
//! A VDI names its parent by UUID only; VirtualBox keeps the path in the machine file. That file comes from the same
//! source as the image, so it is parsed as hostile text. It may have no DTD and only XML's five entities. Its size,
//! elements, attributes and depth are bounded, and one pass takes time and memory in proportion to its size. A location
//! is a hint for a [`Gate`](block_core::Gate), which decides whether the file may be opened. The driver then verifies
//! the file's UUID.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

use block_core::{Error, ErrorKind, Result};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use uuid::Uuid;

/// Greatest size of a machine file in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// Greatest number of elements and attributes in a machine file.
const MAX_NODES: u32 = 200_000;

/// Greatest depth of nested elements: a chain nests as deep as it is long.
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
    /// The UUID of its parent: the medium in which it is nested.
    pub parent: Option<Uuid>,
}

/// Returns the hard disks that a machine file registers.
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
/// `Limit` when the file exceeds [`MAX_BYTES`] or the limits on elements, attributes and depth. `Corrupt` when it is
/// not well-formed, declares a DTD, or a registered disk has no proper UUID.
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
    let mut reader = Reader::from_str(text);
    let mut machine = Machine::default();
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| {
            malformed("the machine file is not well-formed XML").at(at).because(error)
        })?;
        match event {
            Event::Start(tag) => machine.open(&tag, at, true)?,
            Event::Empty(tag) => machine.open(&tag, at, false)?,
            // The reader has checked that the tag closes the innermost open element.
            Event::End(_) => drop(machine.open.pop()),
            Event::DocType(_) => {
                return Err(malformed("the machine file declares a DTD, which none has").at(at));
            }
            Event::GeneralRef(reference) => {
                let known =
                    reference.is_char_ref() || resolve_predefined_entity(&reference).is_some();
                if !known || machine.open.is_empty() {
                    return Err(malformed("the machine file names an entity that XML lacks").at(at));
                }
            }
            Event::Text(text) if machine.open.is_empty() && !text.trim().is_empty() => {
                return Err(malformed("the machine file has text outside of its element").at(at));
            }
            Event::CData(_) if machine.open.is_empty() => {
                return Err(malformed("the machine file has text outside of its element").at(at));
            }
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_) => {}
            Event::Eof => return machine.end(at),
        }
    }
}

/// The state of the parser.
#[derive(Default)]
struct Machine {
    media: Vec<Medium>,
    /// The open elements, outermost first. For each hard disk its offset and its UUID as written.
    open: Vec<Option<(u64, String)>>,
    has_root: bool,
    nodes: u32,
}

/// The attributes of a hard disk.
#[derive(Default)]
struct HardDisk {
    uuid: Option<String>,
    location: Option<String>,
    format: Option<String>,
}

impl Machine {
    /// Handles an element that begins at byte `at`. `has_content` says whether other elements may be nested in it.
    fn open(&mut self, tag: &BytesStart<'_>, at: u64, has_content: bool) -> Result<()> {
        if self.open.is_empty() && self.has_root {
            return Err(malformed("the machine file has more than one outermost element").at(at));
        }
        self.has_root = true;
        self.count(at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the machine file nests deeper than {MAX_DEPTH} elements"),
            )
            .at(at));
        }
        let is_disk = tag.local_name().as_ref() == "HardDisk";
        let mut disk = HardDisk::default();
        // Comparing each attribute with all before it would take quadratic time.
        for attribute in tag.attributes().with_checks(false) {
            self.count(at)?;
            let attribute = attribute.map_err(|error| {
                malformed("an attribute of the machine file is not well-formed")
                    .at(at)
                    .because(error)
            })?;
            let field = match attribute.key.as_ref() {
                "uuid" if is_disk => &mut disk.uuid,
                "location" if is_disk => &mut disk.location,
                "format" if is_disk => &mut disk.format,
                _ => continue,
            };
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| {
                malformed("an attribute of the machine file is not well-formed")
                    .at(at)
                    .because(error)
            })?;
            if field.replace(value.into_owned()).is_some() {
                return Err(malformed("a hard disk has an attribute twice").at(at));
            }
        }
        let uuid = is_disk.then(|| (at, disk.uuid.unwrap_or_default()));
        if let (Some((at, uuid)), Some(location)) = (&uuid, disk.location) {
            let above = self.open.last().and_then(Option::as_ref);
            self.media.push(Medium {
                uuid: parse_uuid(uuid, *at)?,
                location,
                format: disk.format.unwrap_or_default(),
                parent: above.map(|(at, uuid)| parse_uuid(uuid, *at)).transpose()?,
            });
        }
        if has_content {
            self.open.push(uuid);
        }
        Ok(())
    }

    /// Counts an element or an attribute, and refuses more than [`MAX_NODES`].
    fn count(&mut self, at: u64) -> Result<()> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            Err(Error::new(
                ErrorKind::Limit,
                format!("the machine file has more than {MAX_NODES} elements and attributes"),
            )
            .at(at))
        } else {
            Ok(())
        }
    }

    fn end(self, at: u64) -> Result<Vec<Medium>> {
        if self.has_root && self.open.is_empty() {
            Ok(self.media)
        } else {
            Err(malformed("the machine file ends inside an element, or has none").at(at))
        }
    }
}

fn malformed(text: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, text)
}

fn parse_uuid(text: &str, at: u64) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|error| {
        let found = text.escape_debug().take(64).collect::<String>();
        Error::field_mismatch(ErrorKind::Corrupt, "HardDisk uuid", found, "a UUID")
            .at(at)
            .because(error)
    })
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
        assert_eq!(parse(many.as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
        let attributes = (0..MAX_NODES).map(|n| format!(" a{n}=''")).collect::<String>();
        let error = parse(format!("<a{attributes}/>").as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let deepest = format!("{}{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
        assert_eq!(parse(deepest.as_bytes()).unwrap(), []);
    }

    #[test]
    fn no_decoy_hides_how_deep_elements_nest() {
        for decoy in [" b=\"/>\"", " b='</a>'", " b='&lt;/a&gt;'"] {
            for text in ["", "<!-- </a> -->", "<![CDATA[</a>]]>", "<?x </a>?>"] {
                let deep = format!("<a{decoy}>{text}").repeat(MAX_DEPTH + 1);
                let error = parse(deep.as_bytes()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Limit, "{decoy} {text}");
            }
        }
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        for text in [
            "",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>text",
            "text<a/>",
            "<a b=c/>",
            "<a>&unknown;</a>",
            "<HardDisk uuid='x' uuid='y' location='z'/>",
            "<HardDisk location='&unknown;'/>",
            "<a>\u{0}<",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
        for text in ["<a>&amp;&#65;</a>", "\u{feff}<a/>", "<a b='>'/> <!-- end -->\n"] {
            assert_eq!(parse(text.as_bytes()).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn a_location_says_what_xml_means_by_it() {
        let text = format!(
            "<x:r xmlns:x='u'><x:HardDisk uuid='{BASE}' location=\"a &amp; b&#x20;&quot;.vdi\"/></x:r>"
        );
        assert_eq!(parse(text.as_bytes()).unwrap()[0].location, "a & b \".vdi");
    }

    #[test]
    fn a_disk_without_a_proper_uuid_is_named() {
        let error =
            parse(b"<VirtualBox><HardDisk uuid='{x}' location='a.vdi'/></VirtualBox>").unwrap_err();
        assert_eq!(error.field().unwrap().found, "{x}");
        assert!(error.offset().is_some());
    }
}
