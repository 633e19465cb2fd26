//! The header: turns raw bytes into checked numbers.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

use std::fmt;

use block_core::{ErrorKind, Identity, Result, SECTOR_SIZE};
use uuid::Uuid;
use zerocopy::FromBytes;

use crate::format::{
    ENTRY_ZERO, FIELDS_V0, FIELDS_V1, Fields, HEADER_END_V1, HEADER_END_V1_PLUS, HEADER_SIZE_V1,
    HEADER_SIZE_V1_PLUS, MAP_OFFSET_V0, RawGeometry, RawHeaderV0, RawHeaderV1, RawPreHeader,
    SIGNATURE, VERSION_0_2,
};
use crate::invalid::InvalidImage;

/// Bytes at the start of a file that are read for its header and written back to change it.
pub(crate) const SECTOR: usize = 512;

/// Least and greatest block size in bytes.
pub(crate) const BLOCK_SIZES: std::ops::RangeInclusive<u32> = (128 << 10)..=(128 << 20);

/// The type of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageType {
    Dynamic,
    Static,
    Undo,
    Differencing,
}

/// The layout of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// 0.2: the map follows the header, the data follows the map.
    V0,
    /// 1.x.
    V1 { minor: u16 },
}

/// Cylinders, heads and sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub cylinders: u32,
    pub heads: u32,
    pub sectors: u32,
}

/// A header whose numbers agree with each other and with the file. All sizes are in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub version: Version,
    /// As stored. `None` in version 0.2.
    pub header_size: Option<u32>,
    pub image_type: ImageType,
    pub flags: u32,
    /// Without its NUL.
    pub text: Vec<u8>,
    /// Without its NUL, at most 255 bytes.
    pub comment: Vec<u8>,
    pub map_offset: u64,
    pub data_offset: u64,
    /// As stored, not always a multiple of 512.
    pub disk_size: u64,
    /// The guest's size: `disk_size` rounded up to whole sectors.
    pub virtual_size: u64,
    pub block_size: u64,
    pub block_extra: u64,
    /// Number of map entries: at least the number of blocks of the disk.
    pub blocks: u64,
    /// As stored. An image in which it exceeds `blocks` is refused for writing.
    pub allocated: u64,
    pub uuid: Uuid,
    pub modification_uuid: Uuid,
    /// Nil in a base image.
    pub parent_uuid: Uuid,
    /// `None` in version 0.2.
    pub parent_modification_uuid: Option<Uuid>,
    /// Physical geometry, when all members are set.
    pub legacy_geometry: Option<Geometry>,
    /// Logical geometry, when all members are set and in range.
    pub geometry: Option<Geometry>,
    /// Irregularities that parsing accepts.
    pub oddities: Vec<Oddity>,
}

/// Something irregular in a header that other tools may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oddity {
    /// As in [`block_core::Finding::code`].
    pub code: &'static str,
    /// Offset of the field in bytes.
    pub offset: u64,
    pub message: String,
}

impl Header {
    /// Checks the first [`SECTOR`] bytes (fewer if the file is shorter) of a file of `file_len` bytes.
    ///
    /// Checks in this order: signature, version, agreement of the numbers with each other, agreement with the file.
    pub(crate) fn parse(head: &[u8], file_len: u64) -> Result<Self> {
        let mut sector = [0; SECTOR];
        sector.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        let version = version(&sector, head.len(), file_len)?;
        let mut oddities = Vec::new();
        let raw = match version {
            Version::V0 => Raw::v0(&sector, file_len)?,
            Version::V1 { .. } => Raw::v1(&sector, file_len, &mut oddities)?,
        };
        if let Version::V1 { minor } = version
            && minor != 1
        {
            let message = format!("the version is 1.{minor}; it is read as 1.1");
            oddities.push(Oddity { code: "vdi.header.version", offset: 0x44, message });
        }
        let (image_type, virtual_size) = raw.check_fields()?;
        raw.check_places(file_len)?;
        raw.look_for_oddities(image_type, &mut oddities);
        Ok(Self {
            version,
            header_size: raw.header_size,
            image_type,
            flags: raw.flags,
            text: until_nul(sector.get(..64).unwrap_or_default()).to_vec(),
            comment: raw.comment,
            map_offset: raw.map_offset,
            data_offset: raw.data_offset,
            disk_size: raw.disk_size,
            virtual_size,
            block_size: u64::from(raw.block_size),
            block_extra: u64::from(raw.block_extra),
            blocks: u64::from(raw.blocks),
            allocated: u64::from(raw.allocated),
            uuid: raw.uuid,
            modification_uuid: raw.modification_uuid,
            parent_uuid: raw.parent_uuid,
            parent_modification_uuid: raw.parent_modification_uuid,
            legacy_geometry: raw.legacy_geometry,
            geometry: raw.geometry,
            oddities,
        })
    }

    /// Returns the offsets of this header's fields.
    pub(crate) fn fields(&self) -> &'static Fields {
        fields(self.version)
    }

    /// Returns the number of blocks of the disk. The last block may be partial, and the map may have more entries.
    pub(crate) fn block_count(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size)
    }

    /// Returns the distance from one slot to the next in bytes.
    pub(crate) fn stride(&self) -> u64 {
        self.block_size.saturating_add(self.block_extra)
    }

    /// Returns whether free blocks show another image.
    pub(crate) fn needs_parent(&self) -> bool {
        !self.parent_uuid.is_nil()
            || matches!(self.image_type, ImageType::Undo | ImageType::Differencing)
    }

    /// Returns whether every block has a slot that it keeps.
    pub(crate) fn is_static(&self) -> bool {
        self.image_type == ImageType::Static && !self.needs_parent()
    }

    /// Returns how many bytes of the first sector belong to the header: the map may begin in that sector.
    pub(crate) fn head_len(&self) -> usize {
        usize::try_from(self.map_offset).unwrap_or(SECTOR).min(SECTOR)
    }

    /// Refuses images that may be read but must not be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.allocated > self.blocks {
            return Err(InvalidImage::Allocated
                .error(
                    ErrorKind::Corrupt,
                    "blocks_allocated",
                    place(self.fields().allocated),
                    self.allocated,
                    format_args!("at most {} for writing", self.blocks),
                )
                .with_hint("repair the image first, or open it for reading"));
        }
        if !self.map_offset.is_multiple_of(4) {
            return Err(InvalidImage::MapUnaligned.error(
                ErrorKind::Unsupported,
                "offset_bmap",
                place(self.fields().v1.map_or(0, |v1| v1.map_offset)),
                format_args!("{:#x}", self.map_offset),
                "a multiple of 4 for writing",
            ));
        }
        Ok(())
    }
}

impl ImageType {
    fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Dynamic,
            2 => Self::Static,
            3 => Self::Undo,
            4 => Self::Differencing,
            _ => return None,
        })
    }

    /// Returns the value on disk.
    pub(crate) fn to_raw(self) -> u32 {
        match self {
            Self::Dynamic => 1,
            Self::Static => 2,
            Self::Undo => 3,
            Self::Differencing => 4,
        }
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
            Self::Undo => "undo",
            Self::Differencing => "differencing",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V0 => f.write_str("0.2"),
            Self::V1 { minor } => write!(f, "1.{minor}"),
        }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cylinders, self.heads, self.sectors)
    }
}

impl Geometry {
    /// Returns the geometry, unless it is unset or out of range.
    fn usable(raw: &RawGeometry, max_heads: u32) -> Option<Self> {
        let geometry = Self {
            cylinders: raw.cylinders.get(),
            heads: raw.heads.get(),
            sectors: raw.sectors.get(),
        };
        let in_range = (1..=max_heads).contains(&geometry.heads)
            && (1..=63).contains(&geometry.sectors)
            && geometry.cylinders > 0;
        in_range.then_some(geometry)
    }
}

/// The unchecked fields of either version in one shape.
struct Raw {
    fields: &'static Fields,
    header_size: Option<u32>,
    header_end: u64,
    image_type: u32,
    flags: u32,
    comment: Vec<u8>,
    map_offset: u64,
    data_offset: u64,
    disk_size: u64,
    block_size: u32,
    block_extra: u32,
    blocks: u32,
    allocated: u32,
    uuid: Uuid,
    modification_uuid: Uuid,
    parent_uuid: Uuid,
    parent_modification_uuid: Option<Uuid>,
    legacy_geometry: Option<Geometry>,
    geometry: Option<Geometry>,
}

impl Raw {
    fn v0(sector: &[u8; SECTOR], file_len: u64) -> Result<Self> {
        check_length(file_len, MAP_OFFSET_V0)?;
        let Ok((raw, _)) = RawHeaderV0::ref_from_prefix(sector) else {
            return Err(too_short(file_len, MAP_OFFSET_V0));
        };
        let map_offset = u64::from(MAP_OFFSET_V0);
        Ok(Self {
            fields: &FIELDS_V0,
            header_size: None,
            header_end: map_offset,
            image_type: raw.image_type.get(),
            flags: raw.flags.get(),
            comment: comment(&raw.comment),
            map_offset,
            data_offset: map_offset.saturating_add(map_bytes(raw.blocks.get())),
            disk_size: raw.disk_size.get(),
            block_size: raw.block_size.get(),
            block_extra: 0,
            blocks: raw.blocks.get(),
            allocated: raw.allocated.get(),
            uuid: Uuid::from_bytes_le(raw.uuid),
            modification_uuid: Uuid::from_bytes_le(raw.modification_uuid),
            parent_uuid: Uuid::from_bytes_le(raw.parent_uuid),
            parent_modification_uuid: None,
            legacy_geometry: Geometry::usable(&raw.legacy, 16),
            geometry: None,
        })
    }

    fn v1(sector: &[u8; SECTOR], file_len: u64, oddities: &mut Vec<Oddity>) -> Result<Self> {
        check_length(file_len, HEADER_END_V1)?;
        let Ok((raw, _)) = RawHeaderV1::ref_from_prefix(sector) else {
            return Err(too_short(file_len, HEADER_END_V1));
        };
        let header_size = raw.header_size.get();
        if header_size < HEADER_SIZE_V1 {
            return Err(InvalidImage::HeaderSize.error(
                ErrorKind::Corrupt,
                "header_size",
                0x48,
                format_args!("{header_size:#x}"),
                "0x180 or more",
            ));
        }
        let is_plus = header_size >= HEADER_SIZE_V1_PLUS;
        let header_end = if is_plus { HEADER_END_V1_PLUS } else { HEADER_END_V1 };
        check_length(file_len, header_end)?;
        let sector_size = raw.legacy.sector_size.get();
        if u64::from(sector_size) != SECTOR_SIZE {
            return Err(InvalidImage::SectorSize.error(
                ErrorKind::Unsupported,
                "sector_size",
                0x168,
                sector_size,
                SECTOR_SIZE,
            ));
        }
        let lchs_sector = raw.lchs.sector_size.get();
        if is_plus && u64::from(lchs_sector) != SECTOR_SIZE {
            let message = format!(
                "the logical geometry has sectors of {lchs_sector} bytes; VirtualBox refuses that"
            );
            oddities.push(Oddity { code: LCHS_SECTOR, offset: 0x1D4, message });
        }
        let map_offset = u64::from(raw.map_offset.get());
        if u64::from(header_size).saturating_add(0x48) > map_offset && is_plus {
            let message =
                format!("the header claims {header_size:#x} bytes and would reach into the map");
            oddities.push(Oddity { code: "vdi.header.size", offset: 0x48, message });
        }
        Ok(Self {
            fields: &FIELDS_V1,
            header_size: Some(header_size),
            header_end: u64::from(header_end),
            image_type: raw.image_type.get(),
            flags: raw.flags.get(),
            comment: comment(&raw.comment),
            map_offset,
            data_offset: u64::from(raw.data_offset.get()),
            disk_size: raw.disk_size.get(),
            block_size: raw.block_size.get(),
            block_extra: raw.block_extra.get(),
            blocks: raw.blocks.get(),
            allocated: raw.allocated.get(),
            uuid: Uuid::from_bytes_le(raw.uuid),
            modification_uuid: Uuid::from_bytes_le(raw.modification_uuid),
            parent_uuid: Uuid::from_bytes_le(raw.parent_uuid),
            parent_modification_uuid: Some(Uuid::from_bytes_le(raw.parent_modification_uuid)),
            legacy_geometry: Geometry::usable(&raw.legacy, 16),
            geometry: Geometry::usable(&raw.lchs, 255).filter(|_| is_plus),
        })
    }

    /// Checks that the numbers agree with each other. Returns the type and the guest's size in bytes.
    fn check_fields(&self) -> Result<(ImageType, u64)> {
        let fields = self.fields;
        let corrupt = ErrorKind::Corrupt;
        let Some(image_type) = ImageType::from_raw(self.image_type) else {
            let at = place(fields.image_type);
            return Err(InvalidImage::ImageType.error(
                corrupt,
                "image_type",
                at,
                self.image_type,
                "1 to 4",
            ));
        };
        if !self.block_size.is_power_of_two() || !BLOCK_SIZES.contains(&self.block_size) {
            let wanted = format_args!(
                "a power of two from {} to {}",
                BLOCK_SIZES.start(),
                BLOCK_SIZES.end()
            );
            let at = place(fields.block_size);
            return Err(InvalidImage::BlockSize.error(
                corrupt,
                "block_size",
                at,
                self.block_size,
                wanted,
            ));
        }
        let extra_is_sound = self.block_extra == 0
            || (self.block_extra.is_power_of_two()
                && (2..=self.block_size).contains(&self.block_extra));
        if !extra_is_sound {
            let wanted = format_args!("0, or a power of two from 2 to {}", self.block_size);
            return Err(InvalidImage::BlockExtra.error(
                corrupt,
                "block_extra",
                0x17C,
                self.block_extra,
                wanted,
            ));
        }
        let at = place(fields.disk_size);
        if self.disk_size > i64::MAX.unsigned_abs() {
            let wanted = format_args!("at most {}", i64::MAX);
            return Err(InvalidImage::DiskSize.error(
                corrupt,
                "disk_size",
                at,
                self.disk_size,
                wanted,
            ));
        }
        let needed = self.disk_size.div_ceil(u64::from(self.block_size));
        let at = place(fields.blocks);
        if u64::from(self.blocks) < needed {
            let wanted = format_args!("at least {needed} for a disk of {} bytes", self.disk_size);
            return Err(InvalidImage::BlocksShort.error(
                corrupt,
                "blocks_in_image",
                at,
                self.blocks,
                wanted,
            ));
        }
        if self.blocks >= ENTRY_ZERO {
            let wanted = format_args!("less than {ENTRY_ZERO}");
            return Err(InvalidImage::BlocksMany.error(
                corrupt,
                "blocks_in_image",
                at,
                self.blocks,
                wanted,
            ));
        }
        // Blocks are whole sectors, so the rounded size still fits in them.
        let virtual_size = self.disk_size.checked_next_multiple_of(SECTOR_SIZE);
        Ok((image_type, virtual_size.unwrap_or(self.disk_size)))
    }

    /// Checks that header, map and data follow each other, and that the map lies inside the file.
    fn check_places(&self, file_len: u64) -> Result<()> {
        let corrupt = ErrorKind::Corrupt;
        let (map_at, data_at) =
            self.fields.v1.map_or((0, 0), |v1| (place(v1.map_offset), place(v1.data_offset)));
        let map_offset = format_args!("{:#x}", self.map_offset).to_string();
        if self.map_offset < self.header_end {
            let wanted = format_args!("{:#x} or more", self.header_end);
            return Err(InvalidImage::MapInHeader.error(
                corrupt,
                "offset_bmap",
                map_at,
                map_offset,
                wanted,
            ));
        }
        if self.map_offset > file_len {
            let wanted = format_args!("inside the file of {file_len:#x} bytes");
            return Err(InvalidImage::MapPastEnd.error(
                corrupt,
                "offset_bmap",
                map_at,
                map_offset,
                wanted,
            ));
        }
        let room = file_len.saturating_sub(self.map_offset) / 4;
        if u64::from(self.blocks) > room {
            let wanted = format_args!("at most {room} in a file of {file_len} bytes");
            return Err(InvalidImage::MapPastEnd.error(
                corrupt,
                "blocks_in_image",
                place(self.fields.blocks),
                self.blocks,
                wanted,
            ));
        }
        let map_end = self.map_offset.saturating_add(map_bytes(self.blocks));
        if self.data_offset < map_end {
            return Err(InvalidImage::DataInMap.error(
                corrupt,
                "offset_data",
                data_at,
                format_args!("{:#x}", self.data_offset),
                format_args!("{map_end:#x} or more, where the block map ends"),
            ));
        }
        Ok(())
    }

    /// Collects irregularities that other tools may refuse.
    fn look_for_oddities(&self, image_type: ImageType, oddities: &mut Vec<Oddity>) {
        let fields = self.fields;
        let mut add = |code: &'static str, field: usize, message: String| {
            oddities.push(Oddity { code, offset: place(field), message });
        };
        if self.flags & !KNOWN_FLAGS != 0 {
            let message = format!(
                "the image flags {:#x} have no known meaning; VirtualBox refuses them",
                self.flags
            );
            add(FLAGS, fields.flags, message);
        }
        if self.allocated > self.blocks {
            let (stored, blocks) = (self.allocated, self.blocks);
            let message = format!("{stored} blocks are said to be stored, of {blocks}");
            add(ALLOCATED_MANY, fields.allocated, message);
        }
        if self.uuid.is_nil() || self.modification_uuid.is_nil() {
            let message = "the image has no identity (nil UUID); VirtualBox refuses that";
            add(NO_IDENTITY, fields.uuid, message.into());
        }
        if !self.disk_size.is_multiple_of(SECTOR_SIZE) {
            let size = self.disk_size;
            let message = format!(
                "the disk size {size} is no multiple of 512; it is rounded up, and VirtualBox rounds it down"
            );
            add(DISK_SIZE, fields.disk_size, message);
        }
        let base_type = matches!(image_type, ImageType::Dynamic | ImageType::Static);
        if base_type && !self.parent_uuid.is_nil() {
            let message = format!("a {image_type} image names a parent");
            add("vdi.header.link", fields.parent_uuid, message);
        }
        if !base_type && self.parent_uuid.is_nil() {
            let message = format!("a {image_type} image names no parent");
            add("vdi.header.link", fields.parent_uuid, message);
        }
    }
}

/// Code of an oddity: the header counts more stored blocks than the map has entries.
pub(crate) const ALLOCATED_MANY: &str = "vdi.header.allocated-above-blocks";

/// The flags that have a meaning: new blocks are filled with zeros.
pub(crate) const KNOWN_FLAGS: u32 = 1;

/// Code of an oddity: flags without a meaning are set.
pub(crate) const FLAGS: &str = "vdi.header.flags";

/// Code of an oddity: the disk size is not a whole number of sectors.
pub(crate) const DISK_SIZE: &str = "vdi.header.disk-size";

/// Code of an oddity: a UUID is nil.
pub(crate) const NO_IDENTITY: &str = "vdi.header.no-identity";

/// Code of an oddity: the logical geometry's sectors are not 512 bytes.
pub(crate) const LCHS_SECTOR: &str = "vdi.header.geometry-sector";

/// Returns the version of a file, or an error if it is not one of ours.
#[inline(always)]
fn version(sector: &[u8; SECTOR], head_len: usize, file_len: u64) -> Result<Version> {
    let Ok((pre, _)) = RawPreHeader::ref_from_prefix(sector) else {
        return Err(too_short(file_len, MAP_OFFSET_V0));
    };
    let signature = pre.signature.get();
    if head_len < 0x44 || signature != SIGNATURE {
        return Err(InvalidImage::Signature.error(
            ErrorKind::Unrecognised,
            "signature",
            0x40,
            format_args!("{signature:#010x}"),
            format_args!("{SIGNATURE:#010x}"),
        ));
    }
    check_length(file_len, 0x48)?;
    let version = pre.version.get();
    let [major_high, major_low, minor_high, minor_low] = version.to_be_bytes();
    match u16::from_be_bytes([major_high, major_low]) {
        1 => Ok(Version::V1 { minor: u16::from_be_bytes([minor_high, minor_low]) }),
        _ if version == VERSION_0_2 => Ok(Version::V0),
        _ => Err(InvalidImage::Version.error(
            ErrorKind::Unsupported,
            "version",
            0x44,
            format_args!("{version:#010x}"),
            "1.x (0x00010001) or 0.2 (0x00000002)",
        )),
    }
}

/// Returns the UUIDs by which children identify an image. Checks only signature and version, because the header's other
/// numbers may be wrong.
pub(crate) fn identity(head: &[u8], file_len: u64) -> Option<Identity> {
    let mut sector = [0; SECTOR];
    sector.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
    let fields = fields(version(&sector, head.len(), file_len).ok()?);
    let uuid = |at: usize| {
        let bytes = head.get(at..at.checked_add(16)?)?;
        Uuid::from_slice_le(bytes).ok().filter(|uuid| !uuid.is_nil())
    };
    Some(Identity { uuid: uuid(fields.uuid)?, modification: uuid(fields.modification_uuid) })
}

/// Returns the offsets of a version's fields.
fn fields(version: Version) -> &'static Fields {
    match version {
        Version::V0 => &FIELDS_V0,
        Version::V1 { .. } => &FIELDS_V1,
    }
}

fn check_length(file_len: u64, wanted: u32) -> Result<()> {
    if file_len < u64::from(wanted) { Err(too_short(file_len, wanted)) } else { Ok(()) }
}

fn too_short(file_len: u64, wanted: u32) -> block_core::Error {
    let wanted = format_args!("at least {wanted} bytes");
    InvalidImage::Truncated.error(ErrorKind::Corrupt, "file length", file_len, file_len, wanted)
}

fn map_bytes(blocks: u32) -> u64 {
    u64::from(blocks).saturating_mul(4)
}

fn place(field: usize) -> u64 {
    u64::try_from(field).unwrap_or(u64::MAX)
}

/// Returns the comment up to its NUL. Its last byte is never part of it, but stands for a missing NUL.
fn comment(raw: &[u8; 256]) -> Vec<u8> {
    until_nul(raw.get(..255).unwrap_or_default()).to_vec()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the header of a dynamic image of `size` bytes with blocks of 1 MiB.
    pub(crate) fn sample(size: u64, map_offset: u32, data_offset: u32) -> Header {
        let mut head = vec![0; SECTOR];
        let blocks = u32::try_from(size.div_ceil(1 << 20)).unwrap();
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x40, &SIGNATURE.to_le_bytes());
        put(0x44, &0x0001_0001u32.to_le_bytes());
        put(0x48, &HEADER_SIZE_V1_PLUS.to_le_bytes());
        put(0x4C, &1u32.to_le_bytes());
        put(0x154, &map_offset.to_le_bytes());
        put(0x158, &data_offset.to_le_bytes());
        put(0x168, &512u32.to_le_bytes());
        put(0x170, &size.to_le_bytes());
        put(0x178, &(1u32 << 20).to_le_bytes());
        put(0x180, &blocks.to_le_bytes());
        put(0x188, &[1; 32]);
        put(0x1D4, &512u32.to_le_bytes());
        Header::parse(&head, 1 << 40).unwrap()
    }

    #[test]
    fn a_sound_header_has_nothing_odd() {
        let header = sample(4 << 20, 0x200, 0x400);
        assert_eq!((header.virtual_size, header.blocks, header.block_count()), (4 << 20, 4, 4));
        assert_eq!(header.oddities, []);
    }
}
