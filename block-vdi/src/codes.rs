//! The codes of errors and check findings of VDI.

use block_core::ErrorCode;

const REPAIRED: &str = "'check -r all' repairs it without losing data. Until then, read the image but do not write it.";
const HEADER: &str =
    "The data is not touched by it. 'check -r all' writes the header that agrees with the map.";
const SPACE: &str = "No data is at risk; the file is larger than it need be. 'check -r leaks' or 'compact' gives the space back.";

/// All of them.
pub(crate) const CODES: &[ErrorCode] = &[
    ErrorCode::new(
        "vdi.map.duplicate",
        "two blocks of the disk are stored at one place of the file",
        "A write to one changes the other. 'check -r all' gives each a copy of its own; which of the two guests' views is the right one, only the guest can say.",
    ),
    ErrorCode::new(
        "vdi.map.past-end",
        "a block is said to be stored behind the end of the file",
        "The file was cut short, or the entry is wrong. 'check -r all' makes the block read as zeros; restore the file from a copy first if there is one.",
    ),
    ErrorCode::new(
        "vdi.map.too-large",
        "a map entry is larger than any place in the file can be",
        REPAIRED,
    ),
    ErrorCode::new(
        "vdi.map.cut-short",
        "the file ends inside the block map",
        "The rest of the map is not in the file. Restore the file from a copy.",
    ),
    ErrorCode::new(
        "vdi.map.surplus",
        "map entries behind the last block of the disk name places in the file",
        SPACE,
    ),
    ErrorCode::new("vdi.slot.unused", "a place in the file belongs to no block", SPACE),
    ErrorCode::new(
        "vdi.header.allocated-small",
        "the header counts fewer blocks than the map stores",
        HEADER,
    ),
    ErrorCode::new(
        "vdi.header.allocated-large",
        "the header counts more blocks than the map stores",
        HEADER,
    ),
    ErrorCode::new(
        "vdi.header.allocated-above-blocks",
        "the header counts more stored blocks than the disk has",
        HEADER,
    ),
    ErrorCode::new(
        "vdi.header.disk-size",
        "the size of the disk and the number of its blocks do not agree",
        HEADER,
    ),
    ErrorCode::new("vdi.header.size", "the header states an unusual size for itself", HEADER),
    ErrorCode::new("vdi.header.version", "the version is an unusual one", HEADER),
    ErrorCode::new("vdi.header.flags", "flags are set that have no meaning here", HEADER),
    ErrorCode::new(
        "vdi.header.geometry-sector",
        "the geometry states sectors of another size than 512 bytes",
        HEADER,
    ),
    ErrorCode::new(
        "vdi.header.link",
        "the image's type and the parent it names do not agree",
        "'amend -o parent_uuid=…' names the right parent; all zeros makes it a base image.",
    ),
    ErrorCode::new(
        "vdi.header.no-identity",
        "the image has no identity, so no child can name it",
        "'check -r all' or 'amend -o uuid=…' gives it one.",
    ),
    ErrorCode::new(
        "vdi.static.order",
        "the blocks of a static image do not lie in the order of the disk",
        "Everything reads as it should; other tools may assume the order. A new static image by 'convert' has it.",
    ),
    ErrorCode::new(
        "vdi.static.unallocated",
        "a static image has blocks without a place",
        "They read as zeros. VirtualBox destroys the header when it writes one of them. 'check -r all' gives each a place full of zeros.",
    ),
    ErrorCode::new(
        "vdi.child.past-parent",
        "the child is larger than its parent and leaves blocks to it that the parent does not hold",
        "They read as they should here and in QEMU; VirtualBox fails to read them. 'check -r all' stores what is needed in the child.",
    ),
    ErrorCode::new("vdi.file.trailing-bytes", "bytes follow behind the last block", SPACE),
    ErrorCode::new(
        "vdi.file.trailing-slots",
        "whole blocks follow behind the last one in use",
        SPACE,
    ),
];
