//! The on-disk structures: the first sector and the values of block map entries. `FORMAT.md` names the sources.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

use std::mem::offset_of;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// 0x40: the signature of every image.
pub(crate) const SIGNATURE: u32 = 0xBEDA_107F;

/// The version this crate writes: 1.1.
pub(crate) const VERSION_1_1: u32 = 0x0001_0001;

/// The only version below 1.0 that a release ever wrote: 0.2.
pub(crate) const VERSION_0_2: u32 = 0x0000_0002;

/// Size of the main header of version 1.1 in bytes.
pub(crate) const HEADER_SIZE_V1: u32 = 0x180;

/// Size of the main header of version 1.1 with the logical geometry at its end, in bytes.
pub(crate) const HEADER_SIZE_V1_PLUS: u32 = 0x190;

/// Map entry: the block was never written.
pub(crate) const ENTRY_FREE: u32 = 0xFFFF_FFFF;

/// Map entry: the block reads as zeros.
pub(crate) const ENTRY_ZERO: u32 = 0xFFFF_FFFE;

/// Text at offset 0 of the images that this crate creates. Readers ignore it.
pub(crate) const TEXT: &[u8] = b"<<< block-img VirtualBox Disk Image >>>\n";

/// The start of an image of any version.
#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawPreHeader {
    /// 0x00: text for people, padded with NUL.
    pub text: [u8; 64],
    /// 0x40: [`SIGNATURE`].
    pub signature: U32,
    /// 0x44: major version in the upper half, minor in the lower.
    pub version: U32,
}

/// The geometry of an old drive: cylinders, heads and sectors.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawGeometry {
    pub cylinders: U32,
    pub heads: U32,
    pub sectors: U32,
    /// Bytes in a sector: 512.
    pub sector_size: U32,
}

/// The first sector of an image of version 1.x, up to its last field.
#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeaderV1 {
    pub pre: RawPreHeader,
    /// 0x048: bytes of the header from here on.
    pub header_size: U32,
    /// 0x04C: 1 dynamic, 2 static, 3 undo, 4 differencing.
    pub image_type: U32,
    /// 0x050: bit 0 asked old writers to zero new blocks.
    pub flags: U32,
    /// 0x054: comment, ended by NUL.
    pub comment: [u8; 256],
    /// 0x154: offset of the block map.
    pub map_offset: U32,
    /// 0x158: offset of slot 0.
    pub data_offset: U32,
    /// 0x15C: physical geometry. Only its sector size is used.
    pub legacy: RawGeometry,
    /// 0x16C: a BIOS translation mode in the past.
    pub dummy: U32,
    /// 0x170: size of the disk in bytes.
    pub disk_size: U64,
    /// 0x178: bytes in a block, a power of two.
    pub block_size: U32,
    /// 0x17C: private bytes before every block.
    pub block_extra: U32,
    /// 0x180: entries of the block map.
    pub blocks: U32,
    /// 0x184: slots in use.
    pub allocated: U32,
    /// 0x188: identity of the image.
    pub uuid: [u8; 16],
    /// 0x198: identity of its content.
    pub modification_uuid: [u8; 16],
    /// 0x1A8: identity of the parent.
    pub parent_uuid: [u8; 16],
    /// 0x1B8: identity of the parent's content when the child was created.
    pub parent_modification_uuid: [u8; 16],
    /// 0x1C8: logical geometry, present only if `header_size` is 0x190 or more.
    pub lchs: RawGeometry,
}

/// The start of an image of version 0.2, up to its block map.
#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeaderV0 {
    pub pre: RawPreHeader,
    /// 0x048: as in version 1.
    pub image_type: U32,
    /// 0x04C: as in version 1.
    pub flags: U32,
    /// 0x050: comment, ended by NUL.
    pub comment: [u8; 256],
    /// 0x150: physical geometry.
    pub legacy: RawGeometry,
    /// 0x160: size of the disk in bytes.
    pub disk_size: U64,
    /// 0x168: bytes in a block.
    pub block_size: U32,
    /// 0x16C: entries of the block map.
    pub blocks: U32,
    /// 0x170: slots in use.
    pub allocated: U32,
    /// 0x174: identity of the image.
    pub uuid: [u8; 16],
    /// 0x184: identity of its content.
    pub modification_uuid: [u8; 16],
    /// 0x194: identity of the parent.
    pub parent_uuid: [u8; 16],
}

/// Offset of the block map in version 0.2, in bytes.
pub(crate) const MAP_OFFSET_V0: u32 = 0x1A4;

/// End of the version 1 header without the logical geometry, in bytes.
pub(crate) const HEADER_END_V1: u32 = 0x1C8;

/// End of the version 1 header with the logical geometry, in bytes.
pub(crate) const HEADER_END_V1_PLUS: u32 = 0x1D8;

/// Asserts the offsets of fields at compile time.
macro_rules! offsets {
    ($($raw:ident { $($field:ident: $offset:literal,)* } = $size:literal;)*) => {
        $(
            $(const _: () = assert!(offset_of!($raw, $field) == $offset);)*
            const _: () = assert!(size_of::<$raw>() == $size);
        )*
    };
}

offsets! {
    RawPreHeader { text: 0, signature: 0x40, version: 0x44, } = 0x48;
    RawGeometry { cylinders: 0, heads: 4, sectors: 8, sector_size: 12, } = 16;
    RawHeaderV1 {
        pre: 0, header_size: 0x48, image_type: 0x4C, flags: 0x50, comment: 0x54, map_offset: 0x154,
        data_offset: 0x158, legacy: 0x15C, dummy: 0x16C, disk_size: 0x170, block_size: 0x178,
        block_extra: 0x17C, blocks: 0x180, allocated: 0x184, uuid: 0x188, modification_uuid: 0x198,
        parent_uuid: 0x1A8, parent_modification_uuid: 0x1B8, lchs: 0x1C8,
    } = 0x1D8;
    RawHeaderV0 {
        pre: 0, image_type: 0x48, flags: 0x4C, comment: 0x50, legacy: 0x150, disk_size: 0x160,
        block_size: 0x168, blocks: 0x16C, allocated: 0x170, uuid: 0x174, modification_uuid: 0x184,
        parent_uuid: 0x194,
    } = 0x1A4;
}

/// Offset of the signature in the file, in bytes.
pub(crate) const SIGNATURE_OFFSET: u64 = at(offset_of!(RawPreHeader, signature));

/// Offset of the version in the file, in bytes.
pub(crate) const VERSION_OFFSET: u64 = at(offset_of!(RawPreHeader, version));

/// Offset of the major version in the file, in bytes: the upper half of the version.
pub(crate) const MAJOR_OFFSET: u64 = VERSION_OFFSET + 2;

/// Offsets of version 1.x fields in the file, in bytes, for readers of headers that may be cut short.
pub(crate) mod v1 {
    use super::*;

    pub(crate) const HEADER_SIZE: u64 = at(offset_of!(RawHeaderV1, header_size));
    pub(crate) const IMAGE_TYPE: u64 = at(offset_of!(RawHeaderV1, image_type));
    pub(crate) const MAP_OFFSET: u64 = at(offset_of!(RawHeaderV1, map_offset));
    pub(crate) const DATA_OFFSET: u64 = at(offset_of!(RawHeaderV1, data_offset));
    pub(crate) const DISK_SIZE: u64 = at(offset_of!(RawHeaderV1, disk_size));
    pub(crate) const BLOCK_SIZE: u64 = at(offset_of!(RawHeaderV1, block_size));
    pub(crate) const BLOCK_EXTRA: u64 = at(offset_of!(RawHeaderV1, block_extra));
    pub(crate) const BLOCKS: u64 = at(offset_of!(RawHeaderV1, blocks));
    pub(crate) const ALLOCATED: u64 = at(offset_of!(RawHeaderV1, allocated));
    pub(crate) const PARENT_UUID: u64 = at(offset_of!(RawHeaderV1, parent_uuid));
    pub(crate) const PARENT_MODIFICATION_UUID: u64 =
        at(offset_of!(RawHeaderV1, parent_modification_uuid));
    pub(crate) const SECTOR_SIZE: u64 =
        at(offset_of!(RawHeaderV1, legacy) + offset_of!(RawGeometry, sector_size));
}

/// Offsets of version 0.2 fields in the file, in bytes.
pub(crate) mod v0 {
    use super::*;

    pub(crate) const IMAGE_TYPE: u64 = at(offset_of!(RawHeaderV0, image_type));
    pub(crate) const DISK_SIZE: u64 = at(offset_of!(RawHeaderV0, disk_size));
    pub(crate) const BLOCK_SIZE: u64 = at(offset_of!(RawHeaderV0, block_size));
    pub(crate) const BLOCKS: u64 = at(offset_of!(RawHeaderV0, blocks));
    pub(crate) const ALLOCATED: u64 = at(offset_of!(RawHeaderV0, allocated));
}

/// Converts a field's offset to an offset in the file.
#[expect(
    clippy::as_conversions,
    reason = "no other conversion is const; the offset is below 0x1D8"
)]
const fn at(offset: usize) -> u64 {
    offset as u64
}

/// Offsets of one version's fields in bytes, for messages and for patching single fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub image_type: usize,
    pub flags: usize,
    pub comment: usize,
    pub disk_size: usize,
    pub block_size: usize,
    pub blocks: usize,
    pub allocated: usize,
    pub uuid: usize,
    pub modification_uuid: usize,
    pub parent_uuid: usize,
    /// The fields that version 0.2 lacks.
    pub v1: Option<FieldsV1>,
}

/// Offsets of the fields that only version 1 has, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldsV1 {
    pub map_offset: usize,
    pub data_offset: usize,
    pub parent_modification_uuid: usize,
    pub lchs: usize,
}

/// The fields of version 1.x.
pub(crate) const FIELDS_V1: Fields = Fields {
    image_type: offset_of!(RawHeaderV1, image_type),
    flags: offset_of!(RawHeaderV1, flags),
    comment: offset_of!(RawHeaderV1, comment),
    disk_size: offset_of!(RawHeaderV1, disk_size),
    block_size: offset_of!(RawHeaderV1, block_size),
    blocks: offset_of!(RawHeaderV1, blocks),
    allocated: offset_of!(RawHeaderV1, allocated),
    uuid: offset_of!(RawHeaderV1, uuid),
    modification_uuid: offset_of!(RawHeaderV1, modification_uuid),
    parent_uuid: offset_of!(RawHeaderV1, parent_uuid),
    v1: Some(FieldsV1 {
        map_offset: offset_of!(RawHeaderV1, map_offset),
        data_offset: offset_of!(RawHeaderV1, data_offset),
        parent_modification_uuid: offset_of!(RawHeaderV1, parent_modification_uuid),
        lchs: offset_of!(RawHeaderV1, lchs),
    }),
};

/// The fields of version 0.2.
pub(crate) const FIELDS_V0: Fields = Fields {
    image_type: offset_of!(RawHeaderV0, image_type),
    flags: offset_of!(RawHeaderV0, flags),
    comment: offset_of!(RawHeaderV0, comment),
    disk_size: offset_of!(RawHeaderV0, disk_size),
    block_size: offset_of!(RawHeaderV0, block_size),
    blocks: offset_of!(RawHeaderV0, blocks),
    allocated: offset_of!(RawHeaderV0, allocated),
    uuid: offset_of!(RawHeaderV0, uuid),
    modification_uuid: offset_of!(RawHeaderV0, modification_uuid),
    parent_uuid: offset_of!(RawHeaderV0, parent_uuid),
    v1: None,
};
