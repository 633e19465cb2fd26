//! VHD: parents and their locators, copies, checksums, saved state, sizes, the block allocation table.

use crate::recognisers::vhd::{footer_checksum, header_checksum};
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::Location;

const FOOTER: u64 = 512;
const DIFFERENCING: u32 = 4;
/// Largest block allocation table in bytes. That of a disk of 2040 GB in blocks of 128 KiB fits.
const LARGEST_TABLE: u64 = 64 << 20;

pub(super) async fn examine(cx: &mut Examination<'_>) -> Result<()> {
    let len = cx.input.len();
    let places = [len.checked_sub(FOOTER), len.checked_sub(FOOTER - 1), Some(0)];
    let Some(at) = places.into_iter().flatten().find(|at| cx.input.has(*at, b"conectix")) else {
        return Ok(());
    };
    let field = |offset: u64, len: u32| Location::start(at.saturating_add(offset), len);
    let number = |cx: &Examination<'_>, offset: u64| cx.input.u64_be(at.saturating_add(offset));
    if footer_checksum(&cx.input, at) == Some(false) {
        cx.find(Code::Checksum, field(0x40, 4), "the footer's checksum is wrong");
    }
    let kind = cx.input.u32_be(at.saturating_add(0x3C)).unwrap_or(0);
    copies(cx, at, kind);
    cx.find_if(
        cx.input.u8(at.saturating_add(0x54)) == Some(1),
        Code::SavedState,
        field(0x54, 1),
        "the machine was suspended",
    );
    let creator = cx.input.bytes(at.saturating_add(0x1C), 4).unwrap_or_default();
    let message = format!("made by {}", creator.escape_ascii());
    cx.find(Code::Creator, field(0x1C, 4), message);
    sizes(cx, at);
    let size = number(cx, 0x30);
    cx.disk_size(field(0x30, 8), size);
    if kind == 2 {
        return Ok(());
    }
    let Some(header) = number(cx, 0x10) else {
        return Ok(());
    };
    if cx.need(header, 1024).await? && cx.input.has(header, b"cxsparse") {
        sparse(cx, header, kind).await?;
    }
    Ok(())
}

fn copies(cx: &mut Examination<'_>, at: u64, kind: u32) {
    let both = cx.input.bytes(0, 512).zip(cx.input.tail(FOOTER, 512));
    let differ = both.is_some_and(|(first, last)| {
        first.starts_with(b"conectix") && last.starts_with(b"conectix") && first != last
    });
    cx.find_if(differ, Code::CopyMismatch, (0, 512), "the footer and its copy at the start differ");
    let missing = kind != 2 && !(cx.input.has(0, b"conectix") && at != 0);
    cx.find_if(missing, Code::CopyMismatch, (0, 512), "only one of footer and copy is there");
}

fn sizes(cx: &mut Examination<'_>, at: u64) {
    let number = |offset: u64| cx.input.u64_be(at.saturating_add(offset)).unwrap_or(0);
    let (original, current) = (number(0x28), number(0x30));
    let part = |offset: u64| u64::from(cx.input.u8(at.saturating_add(offset)).unwrap_or(0));
    let cylinders = u64::from(cx.input.u16_be(at.saturating_add(0x38)).unwrap_or(0));
    let cylinder = part(0x3A).saturating_mul(part(0x3B)).saturating_mul(512);
    let geometry = cylinders.saturating_mul(cylinder);
    // The geometry saturates at 65,535 cylinders.
    let off = current.abs_diff(geometry) > cylinder.saturating_mul(2) && cylinders < 65_535;
    let place = |offset: u64| Location::start(at.saturating_add(offset), 8);
    cx.find_if(
        off,
        Code::SizeDisagree,
        place(0x38),
        format!("the geometry gives {geometry} bytes, the footer {current}"),
    );
    cx.find_if(
        original != current,
        Code::SizeDisagree,
        place(0x28),
        format!("the disk had {original} bytes and has {current}"),
    );
}

async fn sparse(cx: &mut Examination<'_>, header: u64, kind: u32) -> Result<()> {
    let place = |offset: u64, len: u32| Location::start(header.saturating_add(offset), len);
    if header_checksum(&cx.input, header) == Some(false) {
        cx.find(Code::Checksum, place(0x24, 4), "the dynamic header's checksum is wrong");
    }
    let table = cx.input.u64_be(header.saturating_add(0x10));
    let entries = u64::from(cx.input.u32_be(header.saturating_add(0x1C)).unwrap_or(0));
    let bytes = entries.saturating_mul(4);
    cx.table("block table", place(0x1C, 4), (table, Some(bytes)), LARGEST_TABLE, 0);
    cx.overlaps(&[
        ("footer's copy", 0, 512),
        ("dynamic header", header, 1024),
        ("block table", table.unwrap_or(0), bytes),
    ]);
    if kind != DIFFERENCING {
        return Ok(());
    }
    let name = cx.input.bytes(header.saturating_add(0x40), 512).unwrap_or_default();
    let name = utf16(name, u16::from_be_bytes);
    cx.reference(
        Code::Parent,
        place(0x40, 512),
        name.as_bytes(),
        "the disk is a difference to a parent",
    );
    for slot in 0..8u64 {
        let at = header.saturating_add(0x240).saturating_add(slot.saturating_mul(24));
        locator(cx, at).await?;
    }
    Ok(())
}

/// Examines one parent locator.
async fn locator(cx: &mut Examination<'_>, at: u64) -> Result<()> {
    let Some(code) = cx.input.array::<4>(at).filter(|code| *code != [0; 4]) else {
        return Ok(());
    };
    let len = u64::from(cx.input.u32_be(at.saturating_add(8)).unwrap_or(0));
    let place = cx.input.u64_be(at.saturating_add(16)).unwrap_or(0);
    let taken = cx.need_some(place, len.min(4096)).await?;
    let bytes = cx.input.prefix(place, usize::try_from(taken).unwrap_or(0)).to_vec();
    let name = match &code {
        b"W2ru" | b"W2ku" | b"Wi2r" | b"Wi2k" => utf16(&bytes, u16::from_le_bytes),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let message = format!("a parent locator {} names it", code.escape_ascii());
    let size = u32::try_from(len).unwrap_or(u32::MAX);
    cx.reference(Code::Parent, (place, size), name.trim_end_matches('\0').as_bytes(), message);
    Ok(())
}

/// Decodes UTF-16 up to the first NUL. Invalid units become U+FFFD.
pub(super) fn utf16(bytes: &[u8], order: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| pair.try_into().map_or(0, order));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}
