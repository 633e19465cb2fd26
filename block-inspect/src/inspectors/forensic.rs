//! Forensic evidence files: the section chains of both EWF versions, and segments in other files.

use crate::checksum::adler32;
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;

/// Most sections that are followed. A segment of a real image has a few dozen.
const MOST_SECTIONS: usize = 256;
/// Largest chunk in bytes. Writers use 32 KiB.
const LARGEST_CHUNK: u64 = 32 << 20;

pub(super) async fn ewf(cx: &mut Examination<'_>) -> Result<()> {
    let segment = cx.input.u16_le(9).unwrap_or(0);
    cx.find_if(
        segment > 1,
        Code::ExtExtent,
        (9, 2),
        format!("this is segment {segment} of several"),
    );
    let mut at = 13u64;
    for _ in 0..MOST_SECTIONS {
        if !cx.need(at, 76).await? {
            cx.find(Code::OutOfBounds, (at, 76), "a section lies past the end of the file");
            return Ok(());
        }
        if cx.input.has(at, b"next\0") {
            cx.find(Code::ExtExtent, (at, 16), "the evidence goes on in another file");
        }
        if cx.input.has(at, b"volume\0") || cx.input.has(at, b"disk\0") {
            volume(cx, at.saturating_add(76)).await?;
        }
        if cx.input.has(at, b"next\0") || cx.input.has(at, b"done\0") {
            return Ok(());
        }
        let next = cx.input.u64_le(at.saturating_add(16)).unwrap_or(0);
        if next <= at {
            let message =
                format!("the section after {at:#x} is at {next:#x}, wanted a later place");
            cx.find(Code::Loop, (at.saturating_add(16), 8), message);
            return Ok(());
        }
        at = next;
    }
    cx.limit("EWF sections");
    Ok(())
}

/// Examines the volume section, which states the chunk size and the disk size.
async fn volume(cx: &mut Examination<'_>, at: u64) -> Result<()> {
    if !cx.need(at, 24).await? {
        return Ok(());
    }
    let number = |offset: u64| u64::from(cx.input.u32_le(at.saturating_add(offset)).unwrap_or(0));
    let sector = number(12);
    let chunk = number(8).saturating_mul(sector);
    let size = cx.input.u64_le(at.saturating_add(16)).and_then(|n| n.checked_mul(sector));
    cx.find_if(
        chunk == 0 || chunk > LARGEST_CHUNK,
        Code::TableExcessive,
        (at.saturating_add(8), 8),
        format!("{chunk} bytes are unpacked at a time, wanted 1 to {LARGEST_CHUNK}"),
    );
    cx.disk_size((at.saturating_add(16), 8), size);
    Ok(())
}

/// Length in bytes of a section descriptor in version 2. It follows the data it describes.
const DESCRIPTOR: u64 = 64;
/// Section types in version 2.
const KEYS: u32 = 0x0B;
const NEXT: u32 = 0x0D;
const DONE: u32 = 0x0F;
/// Flag of an encrypted section in version 2.
const ENCRYPTED: u32 = 2;

pub(super) async fn ewf2(cx: &mut Examination<'_>) -> Result<()> {
    let segment = cx.input.u32_le(12).unwrap_or(0);
    let others = format!("this is segment {segment} of several");
    cx.find_if(segment > 1, Code::ExtExtent, (12, 4), others);
    let mut at = cx.input.len().saturating_sub(DESCRIPTOR);
    for index in 0..MOST_SECTIONS {
        if at < 32 || !cx.need(at, DESCRIPTOR).await? {
            cx.find(Code::OutOfBounds, (at, 0), "a section lies outside of the file");
            return Ok(());
        }
        let field = |offset: u64, len: u32| (at.saturating_add(offset), len);
        let kind = cx.input.u32_le(at).unwrap_or(0);
        let sum = cx.input.bytes(at, 60).map(adler32);
        cx.find_if(
            sum != cx.input.u32_le(at.saturating_add(60)),
            Code::Checksum,
            field(60, 4),
            "the checksum of a section's descriptor is wrong",
        );
        let len = cx.input.u32_le(at.saturating_add(24)).unwrap_or(0);
        cx.find_if(
            u64::from(len) != DESCRIPTOR,
            Code::Structure,
            field(24, 4),
            format!("a section's descriptor has {len} bytes, wanted {DESCRIPTOR}"),
        );
        let flags = cx.input.u32_le(at.saturating_add(4)).unwrap_or(0);
        cx.find_if(
            kind == KEYS || flags & ENCRYPTED != 0,
            Code::Encrypted,
            field(0, 8),
            "a section is encrypted",
        );
        if index == 0 {
            cx.find_if(
                kind == NEXT,
                Code::ExtExtent,
                field(0, 4),
                "the evidence goes on in another file",
            );
            cx.find_if(
                kind != NEXT && kind != DONE,
                Code::Truncated,
                field(0, 4),
                format!("the last section is of kind {kind:#x}, wanted {NEXT:#x} or {DONE:#x}"),
            );
        }
        let before = cx.input.u64_le(at.saturating_add(8)).unwrap_or(0);
        if before == 0 {
            return Ok(());
        }
        if before >= at {
            let message =
                format!("the section before {at:#x} is at {before:#x}, wanted an earlier place");
            cx.find(Code::Loop, field(8, 8), message);
            return Ok(());
        }
        at = before;
    }
    cx.limit("EWF sections");
    Ok(())
}
