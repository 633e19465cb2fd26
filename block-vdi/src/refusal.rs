//! Why an image is refused: what would go wrong if it were not.

use block_core::{Error, ErrorKind};

/// The reason behind an error about an image's own numbers; the error itself says which field, what it
/// holds and what it would have to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file is shorter than its header.
    #[error("the file ends inside the header")]
    Truncated,
    /// The signature is missing.
    #[error("this is not a VDI image")]
    Signature,
    /// A version whose layout nobody has described.
    #[error("only versions 1.x and 0.2 are known")]
    Version,
    /// The header is smaller than its fields.
    #[error("the header would end before its last field")]
    HeaderSize,
    /// The type has no meaning.
    #[error("what a free block means depends on the type")]
    ImageType,
    /// Blocks of a size no writer makes.
    #[error("block arithmetic needs a size that VirtualBox accepts")]
    BlockSize,
    /// Private bytes that no writer makes.
    #[error("the distance between blocks would be undefined")]
    BlockExtra,
    /// Sectors of another size.
    #[error("a disk with other sectors was never defined")]
    SectorSize,
    /// A disk beyond 63 bits.
    #[error("the disk is larger than file offsets can express")]
    DiskSize,
    /// Fewer map entries than blocks.
    #[error("the end of the disk would have no map entries")]
    BlocksShort,
    /// More entries than entry values.
    #[error("the last blocks could not be told from the special entries")]
    BlocksMany,
    /// The map and the header share bytes.
    #[error("writing map entries would destroy the header")]
    MapInHeader,
    /// The map does not lie in the file.
    #[error("missing map entries would all show the first stored block")]
    MapPastEnd,
    /// The data and the map share bytes.
    #[error("writing data would destroy the block map")]
    DataInMap,
    /// More blocks in use than there are; for writing only.
    #[error("a new block would be stored at an absurd place")]
    Allocated,
    /// Entries that straddle sectors; for writing only.
    #[error("a power cut could tear a map entry in two")]
    MapUnaligned,
    /// A map entry that points nowhere.
    #[error("the block's content is not in the file")]
    EntryPastEnd,
    /// A map entry above the number of blocks.
    #[error("other tools refuse or misread such an entry")]
    EntryTooLarge,
    /// Map entries behind the end of the disk that hold data; for writing only.
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

impl Refusal {
    /// The error for a field that holds `found`, wanted `wanted`, at byte `offset` of the file.
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
