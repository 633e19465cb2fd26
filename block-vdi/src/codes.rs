//! The codes of errors and check findings of VDI.

use block_core::{Advice, ErrorCode};

const REPAIRED: &str = "The repair loses no data. Until then, read the image but do not write it.";
const HEADER: &str =
    "The data is not touched by it. A repair writes the header that agrees with the map.";

/// Returns a code whose remedy is a repair.
const fn repaired(code: &'static str, meaning: &'static str, remedy: &'static str) -> ErrorCode {
    ErrorCode::new(code, meaning, remedy).advice(&[Advice::Repair])
}

/// Returns a code for space that no block uses.
const fn reclaimed(code: &'static str, meaning: &'static str) -> ErrorCode {
    let remedy = "No data is at risk; the file is larger than it need be.";
    ErrorCode::new(code, meaning, remedy).advice(&[Advice::Reclaim])
}

/// All codes of this crate.
pub(crate) const CODES: &[ErrorCode] = &[
    repaired(
        "vdi.map.duplicate",
        "two blocks of the disk are stored at one place of the file",
        "A write to one changes the other. A repair gives each a copy of its own; which of the two guests' views is the right one, only the guest can say.",
    ),
    repaired(
        "vdi.map.past-end",
        "a block is said to be stored behind the end of the file",
        "The file was cut short, or the entry is wrong. A repair makes the block read as zeros; restore the file from a copy first if there is one.",
    ),
    repaired(
        "vdi.map.too-large",
        "a map entry is larger than any place in the file can be",
        REPAIRED,
    ),
    ErrorCode::new(
        "vdi.map.cut-short",
        "the file ends inside the block map",
        "The rest of the map is not in the file. Restore the file from a copy.",
    ),
    reclaimed(
        "vdi.map.surplus",
        "map entries behind the last block of the disk name places in the file",
    ),
    reclaimed("vdi.slot.unused", "a place in the file belongs to no block"),
    repaired(
        "vdi.header.allocated-small",
        "the header counts fewer blocks than the map stores",
        HEADER,
    ),
    repaired(
        "vdi.header.allocated-large",
        "the header counts more blocks than the map stores",
        HEADER,
    ),
    repaired(
        "vdi.header.allocated-above-blocks",
        "the header counts more stored blocks than the disk has",
        HEADER,
    ),
    repaired(
        "vdi.header.disk-size",
        "the size of the disk and the number of its blocks do not agree",
        HEADER,
    ),
    repaired("vdi.header.size", "the header states an unusual size for itself", HEADER),
    repaired("vdi.header.version", "the version is an unusual one", HEADER),
    repaired("vdi.header.flags", "flags are set that have no meaning here", HEADER),
    repaired(
        "vdi.header.geometry-sector",
        "the geometry states sectors of another size than 512 bytes",
        HEADER,
    ),
    ErrorCode::new(
        "vdi.header.link",
        "the image's type and the parent it names do not agree",
        "Name the right parent; all zeros makes it a base image.",
    )
    .advice(&[Advice::Amend("parent_uuid")]),
    ErrorCode::new(
        "vdi.header.no-identity",
        "the image has no identity, so no child can name it",
        "A repair gives it one.",
    )
    .advice(&[Advice::Repair, Advice::Amend("uuid")]),
    ErrorCode::new(
        "vdi.static.order",
        "the blocks of a static image do not lie in the order of the disk",
        "Everything reads as it should; other tools may assume the order. A new static image by 'convert' has it.",
    ),
    repaired(
        "vdi.static.unallocated",
        "a static image has blocks without a place",
        "They read as zeros. VirtualBox destroys the header when it writes one of them. A repair gives each a place full of zeros.",
    ),
    repaired(
        "vdi.child.past-parent",
        "the child is larger than its parent and leaves blocks to it that the parent does not hold",
        "They read as they should here and in QEMU; VirtualBox fails to read them. A repair stores what is needed in the child.",
    ),
    ErrorCode::new(
        "vdi.child.unchecked",
        "the parent cannot be opened, so the child is not checked against it",
        "All that the child itself holds is checked. The message says why the parent cannot be opened; make it available and check again.",
    )
    .advice(&[Advice::FindReference]),
    reclaimed("vdi.file.trailing-bytes", "bytes follow behind the last block"),
    reclaimed("vdi.file.trailing-slots", "whole blocks follow behind the last one in use"),
];
