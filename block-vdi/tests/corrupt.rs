//! A sound image broken in one place at a time: what is refused, and with which error.

mod support;

use std::error::Error as _;

use block_core::{Access, ErrorKind, MemStorage, Result, WriteFlags};
use block_vdi::InvalidImage;
use support::rows::{Row, le32, rows};
use support::{FREE, Lab, MIB, ZERO, base4, content, image, poke};

/// The name of a map entry in errors.
const ENTRY: &str = "block map entry";

async fn open(bytes: &[u8], access: Access) -> Result<block_core::Disk> {
    Lab::new().open_on(MemStorage::from_bytes(bytes), access, "").await
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
    let reason = error.source().and_then(|source| source.downcast_ref::<InvalidImage>());
    assert_eq!(error.kind(), row.kind, "{row:?}");
    assert_eq!(reason, Some(&row.reason), "{row:?}");
    assert_eq!(error.offset(), Some(row.offset), "{row:?}");
    assert_eq!(
        (field.name, field.found.as_str(), field.wanted.as_str()),
        (row.field, row.found, row.wanted)
    );
}

/// Asserts the parts of an error about an image's numbers: kind, field, offset, found and wanted.
fn assert_parts(error: &block_core::Error, field: &str, offset: u64, found: &str, wanted: &str) {
    assert_parts_of(ErrorKind::Corrupt, error, field, offset, found, wanted);
}

fn assert_parts_of(
    kind: ErrorKind,
    error: &block_core::Error,
    field: &str,
    offset: u64,
    found: &str,
    wanted: &str,
) {
    let parts = error.field().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.offset(), Some(offset), "{error:?}");
    assert_eq!((parts.name, &*parts.found, &*parts.wanted), (field, found, wanted), "{error:?}");
}

#[tokio::test]
async fn a_file_that_ends_inside_the_header_is_refused() {
    for (len, wanted) in [(70, 72), (72, 456), (455, 456), (471, 472)] {
        let error = open(&base4()[..len], Access::Read).await.unwrap_err();
        let wanted = format!("at least {wanted} bytes");
        assert_parts(&error, "file length", len as u64, &len.to_string(), &wanted);
    }
    let short = open(&base4()[..67], Access::Read).await.unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Unrecognised);
}

#[tokio::test]
async fn a_file_that_ends_inside_the_map_is_refused() {
    for (len, room) in [(0x204, 1), (0x20C, 3), (0x20F, 3)] {
        let error = open(&base4()[..len], Access::Read).await.unwrap_err();
        let wanted = format!("at most {room} in a file of {len} bytes");
        assert_parts(&error, "blocks_in_image", 0x180, "4", &wanted);
    }
}

#[tokio::test]
async fn a_small_file_that_claims_many_blocks_is_refused_before_anything_is_allocated() {
    let mut bytes = base4()[..1024].to_vec();
    poke(&mut bytes, 0x180, &le32(1 << 29));
    let error = open(&bytes, Access::Read).await.unwrap_err();
    let reason = error.source().unwrap().downcast_ref::<InvalidImage>();
    assert_eq!(reason, Some(&InvalidImage::MapPastEnd));
    assert_eq!(error.field().unwrap().found, (1u32 << 29).to_string());
}

#[tokio::test]
async fn counts_above_the_number_of_blocks_are_read_and_not_written() {
    for count in [5, 1000, u32::MAX - 1, u32::MAX] {
        let mut bytes = base4();
        poke(&mut bytes, 0x184, &le32(count));
        let error = open(&bytes, Access::ReadWrite).await.unwrap_err();
        assert_parts(
            &error,
            "blocks_allocated",
            0x184,
            &count.to_string(),
            "at most 4 for writing",
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
    let wanted = "a multiple of 4 for writing";
    assert_parts_of(ErrorKind::Unsupported, &error, "offset_bmap", 0x154, "0x201", wanted);
}

#[tokio::test]
async fn entries_past_the_end_of_the_file_are_errors_and_not_zeros() {
    for entry in [2, 3, ZERO - 1] {
        let bytes = image(4 * MIB, &[0, entry, FREE, ZERO], 2);
        let disk = open(&bytes, Access::Read).await.unwrap();
        let mut read = [0; 512];
        disk.read_at(0, &mut read).await.unwrap();
        let error = disk.read_at(MIB, &mut read).await.unwrap_err();
        let wanted = "a slot inside the file of 0x200400 bytes for block 1";
        assert_parts(&error, ENTRY, 0x204, &entry.to_string(), wanted);
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
    let error = disk.read_at(2 * MIB, &mut [0; 512]).await.unwrap_err();
    let wanted = "a slot inside the file of 0x2005ff bytes for block 2";
    assert_parts(&error, ENTRY, 0x208, "2", wanted);
}

#[tokio::test]
async fn shared_and_oversized_slots_are_read_and_not_written() {
    let own = "a slot that holds no other block, for writing";
    for (map, at, found, wanted) in [
        ([0, 0, FREE, ZERO], 0x204, "0", own),
        ([0, 1, FREE, 1], 0x20C, "1", own),
        ([1, 2, 1, 2], 0x208, "1", own),
        ([0, 4, FREE, ZERO], 0x204, "4", "less than 4 for block 1"),
        ([0, 1, 5, ZERO], 0x208, "5", "less than 4 for block 2"),
        ([0, 3, 4, ZERO], 0x208, "4", "less than 4 for block 2"),
    ] {
        let mut bytes = image(4 * MIB, &map, 6);
        poke(&mut bytes, 0x184, &le32(4));
        let disk = open(&bytes, Access::Read).await.unwrap();
        let read = content(&disk).await;
        for (block, entry) in map.iter().enumerate() {
            let value = if *entry >= ZERO { 0 } else { 0xA0 + *entry as u8 };
            assert_eq!(read[block << 20], value, "block {block} of {map:?}");
        }
        let file = MemStorage::from_bytes(&bytes);
        let writer = Lab::new().open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
        for _ in 0..2 {
            let error = writer.write_at(0, b"x", WriteFlags::empty()).await.unwrap_err();
            assert_parts(&error, ENTRY, at, found, wanted);
        }
        assert!(file.to_bytes().unwrap() == bytes, "a refused write changes nothing");
    }
}

#[tokio::test]
async fn entries_in_use_behind_the_end_of_the_disk_are_not_written_over() {
    let bytes = image(2 * MIB, &[0, FREE, 1], 2);
    assert!(open(&bytes, Access::Read).await.is_ok());
    let error = open(&bytes, Access::ReadWrite).await.unwrap_err();
    assert_parts(&error, ENTRY, 0x208, "1", "free, behind the end of the disk");
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
