//! Text files that name other files: VISO, OVF, VirtualBox machines, bundles, cue sheets, import manifests.

use block_core::probe::Location;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::{contains_ignoring_case, find};
use block_core::probe::{Kind, Probe};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("viso", viso),
    Recogniser::new("parallels-bundle", parallels),
    Recogniser::new("ovf", ovf),
    Recogniser::new("vbox", vbox),
    Recogniser::new("sparsebundle", sparsebundle),
    Recogniser::new("cue", cue),
    Recogniser::new("import-manifest", manifest),
];

/// Bytes examined of a text.
const WINDOW: usize = 0x1_0000;

fn at(offset: usize, len: u32) -> Location {
    Location::start(u64::try_from(offset).unwrap_or(0), len)
}

fn viso(input: &ProbeInput) -> Probe {
    const MARKER: &[u8] = b"--iprt-iso-maker-file-marker";
    let head = input.prefix(0, 1023);
    let start = head.len().saturating_sub(head.trim_ascii_start().len());
    let text = head.trim_ascii_start();
    let tail = text.strip_prefix(MARKER).unwrap_or_default();
    let tail = [&b"-bourne-sh"[..], b"-bourne", b"-ms"]
        .iter()
        .find_map(|suffix| tail.strip_prefix(*suffix))
        .unwrap_or(tail);
    let (separator, uuid) = tail.split_first().unwrap_or((&0, &[]));
    let marked = text.starts_with(MARKER) && [b'=', b':', b' ', b'\t'].contains(separator);
    let uuid = uuid
        .get(..36)
        .is_some_and(|uuid| uuid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'));
    Probe::of("viso", input)
        .kind(Kind::Descriptor)
        .signed_if("marker", at(start, 28), "--iprt-iso-maker-file-marker", marked, false)
        .structure("UUID", at(start, 68), "a UUID behind the marker", uuid)
        .at_most(90)
        .name(&["viso"])
        .done()
}

/// Returns the XML root element: its offset, its name, and the text from it on. Only bytes already read are searched
/// and no entity is expanded.
fn xml_root(input: &ProbeInput) -> Option<(usize, &[u8], &[u8])> {
    let text = input.prefix(0, WINDOW);
    let mut rest = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for _ in 0..64 {
        rest = rest.trim_ascii_start();
        let inner = rest.strip_prefix(b"<")?;
        let skip: &[u8] = if inner.starts_with(b"!--") {
            b"-->"
        } else if inner.starts_with(b"?") || inner.starts_with(b"!") {
            b">"
        } else {
            let end = inner.iter().position(|b| b.is_ascii_whitespace() || b"/>".contains(b))?;
            let name = inner.get(..end)?;
            // VirtualBox images begin with `<<<`, which is no element.
            name.first().filter(|first| first.is_ascii_alphabetic() || **first == b'_')?;
            let local = name.rsplit(|byte| *byte == b':').next()?;
            return Some((text.len().saturating_sub(rest.len()), local, inner));
        };
        let end = find(inner, skip)?;
        rest = inner.get(end..)?.get(skip.len()..)?;
    }
    None
}

fn parallels(input: &ProbeInput) -> Probe {
    let root = xml_root(input);
    let named = matches!(root, Some((_, name, _)) if name == b"Parallels_disk_image");
    let images = root.is_some_and(|(_, _, text)| {
        find(text, b"<StorageData").is_some() || find(text, b"<Image").is_some()
    });
    Probe::of("parallels-bundle", input)
        .kind(Kind::Descriptor)
        .signed_if(
            "root element",
            at(root.map_or(0, |root| root.0), 21),
            "Parallels_disk_image",
            named,
            false,
        )
        .structure("images", (0, 0), "Image elements", images)
        .at_most(85)
        .driver("parallels")
        .done()
}

fn ovf(input: &ProbeInput) -> Probe {
    let root = xml_root(input);
    let named = matches!(root, Some((_, name, _)) if name == b"Envelope");
    let space =
        root.is_some_and(|(_, _, text)| find(text, b"schemas.dmtf.org/ovf/envelope").is_some());
    Probe::of("ovf", input)
        .kind(Kind::Descriptor)
        .signed_if(
            "root element",
            at(root.map_or(0, |root| root.0), 9),
            "Envelope of OVF",
            named && space,
            false,
        )
        .structure("namespace", (0, 0), "the OVF envelope", space)
        .at_most(80)
        .name(&["ovf"])
        .done()
}

/// Recognises a VirtualBox machine definition. Its disks are in other files.
fn vbox(input: &ProbeInput) -> Probe {
    let root = xml_root(input);
    let named = matches!(root, Some((_, name, _)) if name == b"VirtualBox");
    let space = root.is_some_and(|(_, _, text)| find(text, b"virtualbox.org/").is_some());
    Probe::of("vbox", input)
        .kind(Kind::Descriptor)
        .signed_if(
            "root element",
            at(root.map_or(0, |root| root.0), 11),
            "VirtualBox",
            named && space,
            false,
        )
        .structure("namespace", (0, 0), "that of VirtualBox", space)
        .at_most(80)
        .name(&["vbox", "vbox-prev"])
        .done()
}

fn sparsebundle(input: &ProbeInput) -> Probe {
    let root = xml_root(input);
    let plist = matches!(root, Some((_, name, _)) if name == b"plist");
    let kind = root.is_some_and(|(_, _, text)| {
        find(text, b"diskimage-bundle-type").is_some()
            && find(text, b"com.apple.diskimage.sparsebundle").is_some()
    });
    Probe::of("sparsebundle", input)
        .kind(Kind::Descriptor)
        .signed_if(
            "bundle type",
            at(root.map_or(0, |root| root.0), 6),
            "com.apple.diskimage.sparsebundle",
            plist && kind,
            false,
        )
        .structure("bundle type", (0, 0), "diskimage-bundle-type", kind)
        .at_most(80)
        .done()
}

fn cue(input: &ProbeInput) -> Probe {
    let text = input.prefix(0, 4096);
    let head = text.trim_ascii_start();
    let cue = head.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"FILE "))
        || head.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"REM "));
    let file =
        cue && contains_ignoring_case(head, b"FILE \"") && contains_ignoring_case(head, b" BINARY");
    Probe::of("cue", input)
        .kind(Kind::Descriptor)
        .text("file", (0, 5), "FILE \"...\" BINARY", file)
        .text("track", (0, 0), "TRACK", file && contains_ignoring_case(head, b"TRACK "))
        .at_most(45)
        .name(&["cue"])
        .done()
}

fn manifest(input: &ProbeInput) -> Probe {
    let root = xml_root(input);
    let named = matches!(root, Some((_, name, _)) if name == b"manifest");
    let has = |tag: &[u8]| named && root.is_some_and(|(_, _, text)| find(text, tag).is_some());
    Probe::of("import-manifest", input)
        .kind(Kind::Descriptor)
        .text("importer", (0, 9), "an importer element", has(b"<importer"))
        .text("parts", (0, 9), "a parts element", has(b"<parts"))
        .at_most(45)
        .done()
}
