//! A sound image, spoilt at one place at a time: what is refused, with which words.

mod support;

use std::error::Error as _;

use block_core::{Access, ErrorKind, MemStorage, Result, WriteFlags};
use block_vdi::Refusal;
use support::{FREE, Lab, MIB, ZERO, base4, content, image, poke};

async fn open(bytes: &[u8], access: Access) -> Result<block_core::Disk> {
    Lab::new().open_on(MemStorage::from_bytes(bytes), access, "").await
}

#[derive(Debug)]
struct Row {
    /// Where the image is poked, and with what.
    poke: (usize, Vec<u8>),
    kind: ErrorKind,
    reason: Refusal,
    field: &'static str,
    offset: u64,
    found: &'static str,
    wanted: &'static str,
}

fn row(
    at: usize,
    value: impl Into<Vec<u8>>,
    reason: Refusal,
    field: &'static str,
    found: &'static str,
    wanted: &'static str,
) -> Row {
    let poke = (at, value.into());
    Row { poke, kind: ErrorKind::Corrupt, reason, field, offset: at as u64, found, wanted }
}

fn le32(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

/// One row a field, more where values differ in kind.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Refusal::*;
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

#[tokio::test]
async fn every_field_of_the_header_is_refused_with_what_it_holds_and_what_it_should() {
    for row in rows() {
        let mut bytes = base4();
        poke(&mut bytes, row.poke.0, &row.poke.1);
        for access in [Access::Read, Access::ReadWrite] {
            let error = open(&bytes, access).await.expect_err(&format!("{row:?}"));
            assert_refused(&error, &row);
        }
    }
    let disk = open(&base4(), Access::ReadWrite).await.unwrap();
    disk.write_at(0, b"sound", WriteFlags::empty()).await.unwrap();
}

fn assert_refused(error: &block_core::Error, row: &Row) {
    let field = error.field().unwrap_or_else(|| panic!("{row:?}: {error:?}"));
    let reason = error.source().and_then(|source| source.downcast_ref::<Refusal>());
    assert_eq!(error.kind(), row.kind, "{row:?}");
    assert_eq!(reason, Some(&row.reason), "{row:?}");
    assert_eq!(error.offset(), Some(row.offset), "{row:?}");
    assert_eq!(
        (field.name, field.found.as_str(), field.wanted.as_str()),
        (row.field, row.found, row.wanted)
    );
}

#[tokio::test]
async fn a_file_that_ends_inside_the_header_is_refused() {
    for (len, wanted) in [(70, 72), (72, 456), (455, 456), (471, 472)] {
        let error = open(&base4()[..len], Access::Read).await.unwrap_err();
        let field = error.field().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(field.name, "file length");
        assert_eq!(field.found, len.to_string());
        assert_eq!(field.wanted, format!("at least {wanted} bytes"));
        assert_eq!(error.offset(), Some(len as u64));
    }
    let short = open(&base4()[..67], Access::Read).await.unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Unrecognised);
}

#[tokio::test]
async fn a_file_that_ends_inside_the_map_is_refused() {
    let error = open(&base4()[..0x204], Access::Read).await.unwrap_err();
    let field = error.field().unwrap();
    assert_eq!(
        (field.name, field.wanted.as_str()),
        ("blocks_in_image", "at most 1 in a file of 516 bytes")
    );
}

#[tokio::test]
async fn a_small_file_that_claims_many_blocks_is_refused_before_anything_is_allocated() {
    let mut bytes = base4()[..1024].to_vec();
    poke(&mut bytes, 0x180, &le32(1 << 29));
    let error = open(&bytes, Access::Read).await.unwrap_err();
    let reason = error.source().unwrap().downcast_ref::<Refusal>();
    assert_eq!(reason, Some(&Refusal::MapPastEnd));
    assert_eq!(error.field().unwrap().found, (1u32 << 29).to_string());
}

#[tokio::test]
async fn counts_above_the_number_of_blocks_are_read_and_not_written() {
    for count in [5, 1000, u32::MAX - 1, u32::MAX] {
        let mut bytes = base4();
        poke(&mut bytes, 0x184, &le32(count));
        let error = open(&bytes, Access::ReadWrite).await.unwrap_err();
        let field = error.field().unwrap();
        assert_eq!((field.name, error.offset()), ("blocks_allocated", Some(0x184)));
        assert_eq!(
            (field.found.as_str(), field.wanted.as_str()),
            (&*count.to_string(), "at most 4 for writing")
        );
        let disk = open(&bytes, Access::Read).await.unwrap();
        assert_eq!(disk.info().warnings.len(), 1);
        let mut read = [0; 512];
        disk.read_at(MIB, &mut read).await.unwrap();
        assert_eq!(read, [0xA1; 512]);
    }
}

#[tokio::test]
async fn an_unaligned_map_is_read_and_not_written() {
    let mut bytes = base4();
    bytes.insert(0x200, 0);
    poke(&mut bytes, 0x154, &le32(0x201));
    poke(&mut bytes, 0x158, &le32(0x401));
    let disk = open(&bytes, Access::Read).await.unwrap();
    assert_eq!(content(&disk).await[MIB as usize..][..512], [0xA1; 512]);
    let error = open(&bytes, Access::ReadWrite).await.unwrap_err();
    assert_eq!(error.field().unwrap().wanted, "a multiple of 4 for writing");
}

#[tokio::test]
async fn entries_past_the_end_of_the_file_are_errors_and_not_zeros() {
    for entry in [2, 3, ZERO - 1] {
        let bytes = image(4 * MIB, &[0, entry, FREE, ZERO], 2);
        let disk = open(&bytes, Access::Read).await.unwrap();
        let mut read = [0; 512];
        disk.read_at(0, &mut read).await.unwrap();
        let error = disk.read_at(MIB, &mut read).await.unwrap_err();
        let field = error.field().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!((field.name, error.offset()), ("block map entry", Some(0x204)));
        assert_eq!(field.found, entry.to_string());
        let writer = open(&bytes, Access::ReadWrite).await.unwrap();
        let refused = writer.write_at(2 * MIB, b"x", WriteFlags::empty()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn the_last_block_may_lack_what_the_disk_does_not_need() {
    let mut bytes = image(2 * MIB + 512, &[0, 1, 2], 3);
    bytes.truncate(bytes.len() - MIB as usize + 512);
    let disk = open(&bytes, Access::Read).await.unwrap();
    assert_eq!(content(&disk).await[2 * MIB as usize..], [0xA2; 512]);
    bytes.pop();
    let disk = open(&bytes, Access::Read).await.unwrap();
    assert!(disk.read_at(2 * MIB, &mut [0; 512]).await.is_err());
}

#[tokio::test]
async fn shared_and_oversized_slots_are_read_and_not_written() {
    for (map, second) in [([0, 0, FREE, ZERO], 0xA0), ([0, 4, FREE, ZERO], 0xA4)] {
        let bytes = image(4 * MIB, &map, 5);
        let mut bytes = bytes;
        poke(&mut bytes, 0x184, &le32(4));
        let disk = open(&bytes, Access::Read).await.unwrap();
        let mut read = [0; 512];
        disk.read_at(MIB, &mut read).await.unwrap();
        assert_eq!(read, [second; 512]);
        let writer = open(&bytes, Access::ReadWrite).await.unwrap();
        let error = writer.write_at(0, b"x", WriteFlags::empty()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[tokio::test]
async fn entries_in_use_behind_the_end_of_the_disk_are_not_written_over() {
    let bytes = image(2 * MIB, &[0, FREE, 1], 2);
    assert!(open(&bytes, Access::Read).await.is_ok());
    let error = open(&bytes, Access::ReadWrite).await.unwrap_err();
    assert_eq!((error.offset(), error.kind()), (Some(0x208), ErrorKind::Corrupt));
}

#[tokio::test]
async fn what_is_odd_and_harmless_opens_with_a_warning() {
    for (at, value, word) in [
        (0x44, le32(0x0001_0002), "1.2"),
        (0x48, le32(0xFFFF), "header"),
        (0x50, le32(0x300), "flags"),
        (0x1D4, le32(0), "logical geometry"),
        (0x170, le32(3 * MIB as u32 + 1), "512"),
        (0x188, [0; 4], "nil UUID"),
    ] {
        let mut bytes = base4();
        if at == 0x188 {
            poke(&mut bytes, at, &[0; 16]);
        }
        poke(&mut bytes, at, &value);
        let disk = open(&bytes, Access::ReadWrite).await.unwrap();
        let warnings = disk.info().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(word), "{at:#x}: {warnings:?}");
        disk.write_at(2 * MIB, b"x", WriteFlags::empty()).await.unwrap();
        disk.close().await.unwrap();
    }
}

#[tokio::test]
async fn header_sizes_from_0x180_on_open_and_the_field_is_kept() {
    for size in [0x180, 0x18F, 0x190, 0x1A0] {
        let file = MemStorage::from_bytes(&{
            let mut bytes = base4();
            poke(&mut bytes, 0x48, &le32(size));
            bytes
        });
        let disk = Lab::new().open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
        disk.write_at(2 * MIB, b"x", WriteFlags::empty()).await.unwrap();
        disk.close().await.unwrap();
        assert_eq!(file.to_bytes().unwrap()[0x48..0x4C], le32(size));
    }
}

#[tokio::test]
async fn an_odd_size_is_rounded_up_for_the_guest_and_kept_on_disk() {
    let mut bytes = base4();
    poke(&mut bytes, 0x170, &(3 * MIB + 1).to_le_bytes());
    let file = MemStorage::from_bytes(&bytes);
    let disk = Lab::new().open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    assert_eq!(disk.size(), 3 * MIB + 512);
    disk.write_at(3 * MIB, &[1; 512], WriteFlags::empty()).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!(file.to_bytes().unwrap()[0x170..0x178], (3 * MIB + 1).to_le_bytes());
}
