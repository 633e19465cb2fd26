//! What two formats claiming one file are to each other.

use crate::probe::claim::Probe;
use crate::probe::hint::Hint;
use crate::probe::report::RelationKind;

/// Formats whose trailer makes a disk out of everything before it.
const TRAILERS: &[&str] = &["vhd-fixed", "dmg"];
/// Formats that any file system or partition table may stand beside or inside without contradiction.
const CARRIERS: &[&str] = &["vhd-fixed", "dmg", "iso9660", "udf", "high-sierra", "iso-raw-2352"];
/// Content a trailer format carries as the disk itself.
const CONTENT: &[&str] = &["iso9660", "udf", "high-sierra", "squashfs", "zlib"];
/// Containers with a header of their own.
const HEADED: &[&str] =
    &["qcow1", "qcow2", "vdi", "vhdx", "avhdx", "vmdk", "vmdk-stream", "qed", "parallels"];
/// File systems whose boot sector ends as a partition table does.
const BOOT_SECTORS: &[&str] = &["fat", "exfat", "ntfs", "refs", "bitlocker"];

/// Whether the format is a disk from the first byte on, with a trailer behind it.
pub(in crate::probe) fn is_trailer(id: &str) -> bool {
    TRAILERS.contains(&id)
}

/// Whether the hint `inner` is but another name for bytes of `outer`.
pub(in crate::probe) fn same_bytes(outer: &Hint, inner: &Hint) -> bool {
    inner.id == "mbr" && (outer.id == "gpt" || BOOT_SECTORS.contains(&outer.id.as_ref()))
}

/// Whether partition tables and file systems seen with `probe` are part of what it describes.
pub(in crate::probe) fn carries_hints(probe: &Probe) -> bool {
    CARRIERS.contains(&probe.id.as_ref())
}

/// The relation of two claims, with the outer and the inner one. The order of the arguments does not matter.
pub(in crate::probe) fn relation<'a>(
    a: &'a Probe,
    b: &'a Probe,
) -> (RelationKind, &'a str, &'a str) {
    directed(a, b).or_else(|| directed(b, a)).unwrap_or_else(|| {
        let (first, second) = if a.id <= b.id { (a, b) } else { (b, a) };
        (RelationKind::Ambiguous, first.id.as_ref(), second.id.as_ref())
    })
}

fn directed<'a>(outer: &'a Probe, inner: &'a Probe) -> Option<(RelationKind, &'a str, &'a str)> {
    let (a, b) = (outer.id.as_ref(), inner.id.as_ref());
    let kind = if TRAILERS.contains(&a) && CONTENT.contains(&b) {
        RelationKind::Carrier
    } else if TRAILERS.contains(&a) && HEADED.contains(&b) {
        RelationKind::NestedContainer
    } else if a == "udf" && b == "iso9660" {
        // A bridge disc: one set of files under two file systems.
        RelationKind::Carrier
    } else {
        return None;
    };
    Some((kind, a, b))
}
