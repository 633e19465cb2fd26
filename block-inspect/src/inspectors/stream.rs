//! Compressed streams: the unpacked length that they state. Nothing is decompressed to verify it.

use super::other::ratio;
use block_core::Result;
use block_core::inspect::Examination;
use block_core::probe::Location;

/// Most bytes of an index that are read.
const LONGEST_INDEX: u64 = 64 << 10;

/// Examines the last member's length, stored modulo 2^32.
pub(super) fn gzip(cx: &mut Examination<'_>) {
    if let Some(at) = cx.input.len().checked_sub(4) {
        let stated = cx.input.u32_le(at).map(u64::from);
        ratio(cx, Location::end(4, 4), Some(stated.unwrap_or(0)));
    }
}

/// Examines the length of the first frame's content, if stated.
pub(super) fn zstd(cx: &mut Examination<'_>) {
    let Some(descriptor) = cx.input.u8(4).filter(|_| cx.input.has(0, &[0x28, 0xB5, 0x2F, 0xFD]))
    else {
        return;
    };
    let single = descriptor & 0x20 != 0;
    let dictionary = match descriptor & 3 {
        0 => 0u64,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let at = dictionary.saturating_add(if single { 5 } else { 6 });
    let stated = match descriptor >> 6 {
        0 if single => cx.input.u8(at).map(u64::from),
        0 => None,
        1 => cx.input.u16_le(at).map(|n| u64::from(n).saturating_add(256)),
        2 => cx.input.u32_le(at).map(u64::from),
        _ => cx.input.u64_le(at),
    };
    ratio(cx, Location::start(at, 8), Some(stated.unwrap_or(0)));
}

/// Examines the length of the first frame's content, if stated.
pub(super) fn lz4(cx: &mut Examination<'_>) {
    let flagged = cx.input.u8(4).is_some_and(|flags| flags & 8 != 0);
    if flagged && cx.input.has(0, &[0x04, 0x22, 0x4D, 0x18]) {
        let stated = cx.input.u64_le(6);
        ratio(cx, Location::start(6, 8), Some(stated.unwrap_or(0)));
    }
}

/// Examines the last member's length.
pub(super) fn lzip(cx: &mut Examination<'_>) {
    if let Some(at) = cx.input.len().checked_sub(16).filter(|at| *at >= 6) {
        let stated = cx.input.u64_le(at);
        ratio(cx, Location::end(16, 8), Some(stated.unwrap_or(0)));
    }
}

/// Examines the lengths of all blocks in the index at the end.
pub(super) async fn xz(cx: &mut Examination<'_>) -> Result<()> {
    let Some(footer) = cx.input.len().checked_sub(12) else {
        return Ok(());
    };
    cx.need(footer, 12).await?;
    let words = cx.input.u32_le(footer.saturating_add(4)).unwrap_or(0);
    let len = u64::from(words).saturating_add(1).saturating_mul(4);
    let Some(index) = footer.checked_sub(len) else {
        return Ok(());
    };
    if len > LONGEST_INDEX {
        cx.limit("xz index");
    }
    let taken = cx.need_some(index, len.min(LONGEST_INDEX)).await?;
    let bytes = cx.input.prefix(index, usize::try_from(taken).unwrap_or(0)).to_vec();
    let Some((0, mut rest)) = bytes.split_first().map(|(first, rest)| (*first, rest)) else {
        return Ok(());
    };
    let mut total = 0u64;
    for _ in 0..number(&mut rest).unwrap_or(0) {
        let (Some(_), Some(unpacked)) = (number(&mut rest), number(&mut rest)) else { break };
        total = total.saturating_add(unpacked);
    }
    ratio(cx, Location::start(index, u32::try_from(len).unwrap_or(u32::MAX)), Some(total));
    Ok(())
}

/// Reads a number in groups of seven bits, the lowest first. Every byte but the last has its high bit set.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..63u32).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
