//! One row for each header field that can hold a value it must not.

use block_core::ErrorKind;
use block_vdi::InvalidImage;

use super::MIB;

/// A changed field and the refusal that it causes.
#[derive(Debug)]
pub struct Row {
    /// The offset that is overwritten, and the bytes.
    pub poke: (usize, Vec<u8>),
    pub kind: ErrorKind,
    pub reason: InvalidImage,
    pub field: &'static str,
    pub offset: u64,
    pub found: &'static str,
    pub wanted: &'static str,
}

fn row(
    at: usize,
    value: impl Into<Vec<u8>>,
    reason: InvalidImage,
    field: &'static str,
    found: &'static str,
    wanted: &'static str,
) -> Row {
    let poke = (at, value.into());
    Row { poke, kind: ErrorKind::Corrupt, reason, field, offset: at as u64, found, wanted }
}

pub fn le32(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

/// Returns one row per field, or more where values differ in kind.
#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    use InvalidImage::*;
    let block_size = "a power of two from 131072 to 134217728";
    let version = "1.x (0x00010001) or 0.2 (0x00000002)";
    let extra = "0, or a power of two from 2 to 1048576";
    let unknown = |mut row: Row, kind| { row.kind = kind; row };
    vec![
        unknown(row(0x40, [0], Signature, "signature", "0xbeda1000", "0xbeda107f"), ErrorKind::Unrecognised),
        unknown(row(0x44, le32(0x0002_0001), Version, "version", "0x00020001", version), ErrorKind::Unsupported),
        unknown(row(0x44, le32(0), Version, "version", "0x00000000", version), ErrorKind::Unsupported),
        unknown(row(0x44, le32(1), Version, "version", "0x00000001", version), ErrorKind::Unsupported),
        row(0x48, le32(0), HeaderSize, "header_size", "0x0", "0x180 or more"),
        row(0x48, le32(0x100), HeaderSize, "header_size", "0x100", "0x180 or more"),
        row(0x48, le32(0x17F), HeaderSize, "header_size", "0x17f", "0x180 or more"),
        row(0x4C, le32(0), ImageType, "image_type", "0", "1 to 4"),
        row(0x4C, le32(5), ImageType, "image_type", "5", "1 to 4"),
        row(0x4C, le32(u32::MAX), ImageType, "image_type", "4294967295", "1 to 4"),
        row(0x154, le32(0), MapInHeader, "offset_bmap", "0x0", "0x1d8 or more"),
        row(0x154, le32(0x48), MapInHeader, "offset_bmap", "0x48", "0x1d8 or more"),
        row(0x154, le32(0x1C7), MapInHeader, "offset_bmap", "0x1c7", "0x1d8 or more"),
        row(0x154, le32(0xFFFF_FE00), MapPastEnd, "offset_bmap", "0xfffffe00", "inside the file of 0x200400 bytes"),
        row(0x158, le32(0x200), DataInMap, "offset_data", "0x200", "0x210 or more, where the block map ends"),
        row(0x158, le32(0x20F), DataInMap, "offset_data", "0x20f", "0x210 or more, where the block map ends"),
        unknown(row(0x168, le32(0), SectorSize, "sector_size", "0", "512"), ErrorKind::Unsupported),
        unknown(row(0x168, le32(256), SectorSize, "sector_size", "256", "512"), ErrorKind::Unsupported),
        unknown(row(0x168, le32(4096), SectorSize, "sector_size", "4096", "512"), ErrorKind::Unsupported),
        row(0x170, [0xFF; 8], DiskSize, "disk_size", "18446744073709551615", "at most 9223372036854775807"),
        row(0x170, (1u64 << 63).to_le_bytes(), DiskSize, "disk_size", "9223372036854775808", "at most 9223372036854775807"),
        Row { offset: 0x180, ..row(0x170, (4 * MIB + 1).to_le_bytes(), BlocksShort, "blocks_in_image", "4", "at least 5 for a disk of 4194305 bytes") },
        row(0x178, le32(0), BlockSize, "block_size", "0", block_size),
        row(0x178, le32(1), BlockSize, "block_size", "1", block_size),
        row(0x178, le32(512), BlockSize, "block_size", "512", block_size),
        row(0x178, le32(3 << 20), BlockSize, "block_size", "3145728", block_size),
        row(0x178, le32((1 << 20) + 1), BlockSize, "block_size", "1048577", block_size),
        row(0x178, le32(256 << 20), BlockSize, "block_size", "268435456", block_size),
        row(0x178, le32(1 << 31), BlockSize, "block_size", "2147483648", block_size),
        row(0x17C, le32(1), BlockExtra, "block_extra", "1", extra),
        row(0x17C, le32(3), BlockExtra, "block_extra", "3", extra),
        row(0x17C, le32(1 << 31), BlockExtra, "block_extra", "2147483648", extra),
        row(0x180, le32(3), BlocksShort, "blocks_in_image", "3", "at least 4 for a disk of 4194304 bytes"),
        row(0x180, le32(0), BlocksShort, "blocks_in_image", "0", "at least 4 for a disk of 4194304 bytes"),
        row(0x180, le32(0x1FFF_FF80), MapPastEnd, "blocks_in_image", "536870784", "at most 524416 in a file of 2098176 bytes"),
        row(0x180, le32(u32::MAX), BlocksMany, "blocks_in_image", "4294967295", "less than 4294967294"),
    ]
}
