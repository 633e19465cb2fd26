//! The reasons for refusing an image: the damage that accepting it would do.

use block_core::{Error, ErrorKind};

/// Why an image's numbers are refused. The error that carries it names the field, its value and the wanted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidImage {
    /// The file ends inside the header.
    #[error("the file ends inside the header")]
    Truncated,
    /// The signature is missing.
    #[error("this is not a VDI image")]
    Signature,
    /// The layout of this version is not documented.
    #[error("only versions 1.x and 0.2 are known")]
    Version,
    /// The header size does not cover the header's fields.
    #[error("the header would end before its last field")]
    HeaderSize,
    /// The image type has no meaning.
    #[error("what a free block means depends on the type")]
    ImageType,
    /// No writer makes blocks of this size.
    #[error("block arithmetic needs a size that VirtualBox accepts")]
    BlockSize,
    /// No writer makes this number of private bytes per block.
    #[error("the distance between blocks would be undefined")]
    BlockExtra,
    /// The sector size is not 512 bytes.
    #[error("a disk with other sectors was never defined")]
    SectorSize,
    /// The disk size exceeds 63 bits.
    #[error("the disk is larger than file offsets can express")]
    DiskSize,
    /// The map has fewer entries than the disk has blocks.
    #[error("the end of the disk would have no map entries")]
    BlocksShort,
    /// The map has more entries than there are slot numbers.
    #[error("the last blocks could not be told from the special entries")]
    BlocksMany,
    /// The map overlaps the header.
    #[error("writing map entries would destroy the header")]
    MapInHeader,
    /// The map does not lie inside the file.
    #[error("missing map entries would all show the first stored block")]
    MapPastEnd,
    /// The data overlaps the map.
    #[error("writing data would destroy the block map")]
    DataInMap,
    /// The header counts more blocks in use than the map has entries. Refused for writing only.
    #[error("a new block would be stored at an absurd place")]
    Allocated,
    /// Map entries straddle sectors. Refused for writing only.
    #[error("a power cut could tear a map entry in two")]
    MapUnaligned,
    /// A map entry points past the end of the file.
    #[error("the block's content is not in the file")]
    EntryPastEnd,
    /// A map entry is not below the number of map entries.
    #[error("other tools refuse or misread such an entry")]
    EntryTooLarge,
    /// Map entries past the end of the disk hold data. Refused for writing only.
    #[error("the place it names could be given to another block")]
    SurplusEntry,
    /// A differencing image that names no parent.
    #[error("what its free blocks show is not known")]
    NoParent,
    /// The image is its own parent.
    #[error("the chain would never end")]
    OwnParent,
    /// The candidate for the parent is another image.
    #[error("its free blocks would show the data of an unrelated disk")]
    ParentMismatch,
    /// The parent has changed since the child was made.
    #[error("the parent has been written to since the child was made")]
    ParentModified,
}

impl InvalidImage {
    /// Returns the error for a field at byte `offset` of the file that holds `found` instead of `wanted`.
    pub(crate) fn error(
        self,
        kind: ErrorKind,
        field: &'static str,
        offset: u64,
        found: impl std::fmt::Display,
        wanted: impl std::fmt::Display,
    ) -> Error {
        Error::field_mismatch(kind, field, found, wanted).at(offset).because(self)
    }
}
