//! The codes of errors and of check findings, with what each means and what to do.

/// One code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Explanation {
    /// As it stands in messages and reports.
    pub code: &'static str,
    /// What it means, a clause.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

const fn on(code: &'static str, meaning: &'static str, remedy: &'static str) -> Explanation {
    Explanation { code, meaning, remedy }
}

const REPAIRED: &str = "'check -r all' repairs it without losing data. Until then, read the image but do not write it.";
const HEADER: &str =
    "The data is not touched by it. 'check -r all' writes the header that agrees with the map.";
const SPACE: &str = "No data is at risk; the file is larger than it need be. 'check -r leaks' or 'compact' gives the space back.";

/// All codes of errors and of check findings. What `inspect` finds has its own list.
pub(crate) const EXPLANATIONS: &[Explanation] = &[
    on(
        "driver-unknown",
        "no driver is registered under the name that was given",
        "'formats' lists the names. Without -f the format is found out from the file itself.",
    ),
    on(
        "image-locked",
        "another program has the image open in a way that excludes this use",
        "Stop that program, a virtual machine as a rule. Reading while it writes is possible with -U where the result may be stale; writing is not.",
    ),
    on(
        "image-needs-repair",
        "the image can be read, and writing to it could damage data",
        "Run 'check' to see what is wrong and 'check -r all' to repair it, then write.",
    ),
    on(
        "raw-guard",
        "the format was guessed to be raw, and the write would make the file look like another format",
        "A guest that writes an image header to its disk could otherwise choose what the next program opens. Where the disk is raw, say so with '-f raw'.",
    ),
    on(
        "vdi.map.duplicate",
        "two blocks of the disk are stored at one place of the file",
        "A write to one changes the other. 'check -r all' gives each a copy of its own; which of the two guests' views is the right one, only the guest can say.",
    ),
    on(
        "vdi.map.past-end",
        "a block is said to be stored behind the end of the file",
        "The file was cut short, or the entry is wrong. 'check -r all' makes the block read as zeros; restore the file from a copy first if there is one.",
    ),
    on("vdi.map.too-large", "a map entry is larger than any place in the file can be", REPAIRED),
    on(
        "vdi.map.cut-short",
        "the file ends inside the block map",
        "The rest of the map is not in the file. Restore the file from a copy.",
    ),
    on(
        "vdi.map.surplus",
        "map entries behind the last block of the disk name places in the file",
        SPACE,
    ),
    on("vdi.slot.unused", "a place in the file belongs to no block", SPACE),
    on("vdi.header.allocated-small", "the header counts fewer blocks than the map stores", HEADER),
    on("vdi.header.allocated-large", "the header counts more blocks than the map stores", HEADER),
    on(
        "vdi.header.allocated-above-blocks",
        "the header counts more stored blocks than the disk has",
        HEADER,
    ),
    on(
        "vdi.header.disk-size",
        "the size of the disk and the number of its blocks do not agree",
        HEADER,
    ),
    on("vdi.header.size", "the header states an unusual size for itself", HEADER),
    on("vdi.header.version", "the version is an unusual one", HEADER),
    on("vdi.header.flags", "flags are set that have no meaning here", HEADER),
    on(
        "vdi.header.geometry-sector",
        "the geometry states sectors of another size than 512 bytes",
        HEADER,
    ),
    on(
        "vdi.header.link",
        "the image's type and the parent it names do not agree",
        "'amend -o parent_uuid=…' names the right parent; all zeros makes it a base image.",
    ),
    on(
        "vdi.header.no-identity",
        "the image has no identity, so no child can name it",
        "'check -r all' or 'amend -o uuid=…' gives it one.",
    ),
    on(
        "vdi.static.order",
        "the blocks of a static image do not lie in the order of the disk",
        "Everything reads as it should; other tools may assume the order. A new static image by 'convert' has it.",
    ),
    on(
        "vdi.static.unallocated",
        "a static image has blocks without a place",
        "They read as zeros. VirtualBox destroys the header when it writes one of them. 'check -r all' gives each a place full of zeros.",
    ),
    on(
        "vdi.child.past-parent",
        "the child is larger than its parent and leaves blocks to it that the parent does not hold",
        "They read as they should here and in QEMU; VirtualBox fails to read them. 'check -r all' stores what is needed in the child.",
    ),
    on("vdi.file.trailing-bytes", "bytes follow behind the last block", SPACE),
    on("vdi.file.trailing-slots", "whole blocks follow behind the last one in use", SPACE),
    on(
        "parent-not-found",
        "none of the files that may be opened is the parent that the image needs",
        "A VDI knows its parent by UUID. '--parent FILE' names it, '--allow DIR' a folder to look in, '--vbox FILE' a machine file that registers it.",
    ),
    on(
        "reference-not-found",
        "no file that may be opened has the name that the image needs",
        "'--parent FILE' names it, '--allow DIR' a folder to look in, '--vbox FILE' a machine file that registers it.",
    ),
    on(
        "parent-ambiguous",
        "several files can be the parent of the image, and nothing tells which one is meant",
        "Copies of an image have its UUID. The one whose modification UUID is the one that the child recorded is taken; here none is known to have it, or several have. Name the right one with '--parent FILE', or put the others into another folder.",
    ),
    on(
        "parent-stale",
        "the parent is not known to hold what the child recorded, and it would be written into",
        "The parent was written to after the child was made, an interrupted commit wrote into it, or the file is a copy of it. Find out which; then name it with '--parent FILE'.",
    ),
    on(
        "parent-mismatch",
        "the file that was named as the parent is another image",
        "Its UUID is not the one that the child recorded. Name the right file, or use the option 'verify_parent=off' of the child where it is the parent all the same.",
    ),
    on(
        "reference-denied",
        "the image names a file that lies outside its own folder",
        "Opening whatever an image names would hand it any file you can read. If you trust the image, add --allow with that file's folder.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        for (index, explanation) in EXPLANATIONS.iter().enumerate() {
            assert!(!explanation.meaning.ends_with('.') && explanation.remedy.ends_with('.'));
            let again = EXPLANATIONS.iter().skip(index + 1);
            assert!(again.clone().all(|other| other.code != explanation.code), "{explanation:?}");
        }
    }
}
