//! Formats with only a few risks each: Parallels, Bochs, cloop, zip, Android, VISO.

use crate::recognisers::android::CHUNKS;
use crate::recognisers::bochs::is_overlay;
use crate::recognisers::parallels::{EXTENDED, IN_USE};
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::Location;

pub(super) fn parallels(cx: &mut Examination<'_>) {
    cx.find_if(
        cx.input.u32_le(44) == Some(IN_USE),
        Code::Dirty,
        (44, 4),
        "the image was not closed cleanly",
    );
    let extended = cx.input.has(0, EXTENDED);
    cx.find_if(
        extended && cx.input.u64_le(56).is_some_and(|sector| sector != 0),
        Code::Feature,
        (56, 8),
        "a format extension is present",
    );
    let table = cx.input.u32_le(32).map(|entries| u64::from(entries).saturating_mul(4));
    cx.table("block table", (32, 4), (Some(64), table), 64 << 20, 0);
    let sectors = if extended { cx.input.u64_le(36) } else { cx.input.u32_le(36).map(u64::from) };
    cx.disk_size((36, 8), sectors.and_then(|sectors| sectors.checked_mul(512)));
}

/// Examines the descriptor of a Parallels bundle: file names and snapshots.
pub(super) async fn parallels_bundle(cx: &mut Examination<'_>) -> Result<()> {
    let taken = cx.need_some(0, cx.input.len().min(cx.limits.text_bytes)).await?;
    let text = cx.input.prefix(0, usize::try_from(taken).unwrap_or(0)).to_vec();
    cx.find_if(
        find(&text, b"<!DOCTYPE").is_some() || find(&text, b"<!ENTITY").is_some(),
        Code::Noncanonical,
        (0, 0),
        "the text declares types or entities of its own",
    );
    for (at, name) in elements(&text, b"File") {
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        cx.reference(Code::ExtExtent, (at, len), name, "the data is in another file");
    }
    let shots = elements(&text, b"ParentGUID");
    let root = b"{00000000-0000-0000-0000-000000000000}";
    if let Some((at, guid)) = shots.into_iter().find(|(_, guid)| !guid.is_empty() && *guid != root)
    {
        let len = u32::try_from(guid.len()).unwrap_or(u32::MAX);
        cx.find(Code::Parent, (at, len), "a snapshot is a difference to a parent");
    }
    Ok(())
}

/// Returns the content of each simple element called `name`, with its offset, at most 256.
fn elements<'t>(text: &'t [u8], name: &[u8]) -> Vec<(u64, &'t [u8])> {
    let mut found = Vec::new();
    let mut from = 0usize;
    let open = [b"<", name, b">"].concat();
    while found.len() < 256 {
        let Some(rest) = text.get(from..) else { break };
        let Some(start) = find(rest, &open) else { break };
        let begin = from.saturating_add(start).saturating_add(open.len());
        let Some(len) = text.get(begin..).and_then(|rest| find(rest, b"<")) else { break };
        let content = text.get(begin..begin.saturating_add(len)).unwrap_or_default();
        found.push((u64::try_from(begin).unwrap_or(0), content.trim_ascii()));
        from = begin.saturating_add(len);
    }
    found
}

pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    block_core::probe::fields::find(hay, needle)
}

pub(super) fn bochs(cx: &mut Examination<'_>) {
    cx.find_if(
        is_overlay(&cx.input),
        Code::Parent,
        (48, 16),
        "the image is a difference to a base it does not name",
    );
    let catalog = cx.input.u32_le(72).map(|entries| u64::from(entries).saturating_mul(4));
    cx.table("catalog", (72, 4), (Some(512), catalog), 4 << 20, 0);
    let old = cx.input.u32_le(64) == Some(0x1_0000);
    let at = if old { 84 } else { 88 };
    let size = cx.input.u64_le(at);
    cx.disk_size((at, 8), size);
}

pub(super) async fn cloop(cx: &mut Examination<'_>) -> Result<()> {
    let blocks = u64::from(cx.input.u32_be(132).unwrap_or(0));
    let block = u64::from(cx.input.u32_be(128).unwrap_or(0));
    let table = blocks.saturating_add(1).saturating_mul(8);
    cx.table("offset table", (132, 4), (Some(136), Some(table)), 64 << 20, 0);
    let size = blocks.checked_mul(block);
    cx.disk_size((128, 8), size);
    ratio(cx, Location::start(128, 8), size);
    if table > cx.limits.text_bytes {
        cx.limit("cloop offsets");
    }
    let taken = cx.need_some(136, table.min(cx.limits.text_bytes)).await?;
    let places = (0..taken.checked_div(8).unwrap_or(0)).map(|index| index.saturating_mul(8));
    let mut before = None;
    for at in places.map(|offset| offset.saturating_add(136)) {
        let Some(place) = cx.input.u64_be(at) else { break };
        let len = before.map_or(Some(0), |before| place.checked_sub(before));
        let wrong = len.is_none_or(|len| len > block.saturating_mul(2));
        // The first wrong block is enough.
        if wrong {
            let (code, message) = match len {
                None => (Code::Structure, "a block begins before the one in front of it ends"),
                Some(_) => (Code::Bomb, "a packed block is more than twice as long as unpacked"),
            };
            cx.find(code, (at, 8), message);
            break;
        }
        before = Some(place);
    }
    Ok(())
}

/// Records a bomb if the unpacked size is out of proportion to the file's.
pub(super) fn ratio(cx: &mut Examination<'_>, at: Location, size: Option<u64>) {
    let most = cx.input.len().saturating_mul(cx.limits.ratio);
    cx.find_if(
        size.is_none_or(|size| size > most),
        Code::Bomb,
        at,
        format!("{} bytes become more than {most}", cx.input.len()),
    );
}

/// Examines the names and sizes in the central directory of an archive.
pub(super) async fn zip(cx: &mut Examination<'_>) -> Result<()> {
    let reach = cx.input.len().min(65_557);
    let from = cx.input.len().saturating_sub(reach);
    cx.need_some(from, reach).await?;
    let window = cx.input.prefix(from, usize::try_from(reach).unwrap_or(0));
    let Some(found) = window.windows(4).rposition(|bytes| bytes == b"PK\x05\x06") else {
        return Ok(());
    };
    let end = from.saturating_add(u64::try_from(found).unwrap_or(0));
    let start = u64::from(cx.input.u32_le(end.saturating_add(16)).unwrap_or(0));
    let len = u64::from(cx.input.u32_le(end.saturating_add(12)).unwrap_or(0));
    let entries = cx.input.u16_le(end.saturating_add(10)).unwrap_or(0);
    // All ones mean that the true number is in a larger record. Programs differ on whether they use it.
    let large = entries == u16::MAX || [start, len].contains(&u64::from(u32::MAX));
    cx.find_if(
        large,
        Code::Feature,
        (end, 22),
        "the archive is in the form for large ones (zip64)",
    );
    cx.find_if(
        u64::from(entries).saturating_mul(46) > len,
        Code::TableExcessive,
        (end.saturating_add(10), 2),
        format!("the archive says it has {entries} members in a directory of {len} bytes"),
    );
    let taken = cx.need_some(start, len.min(cx.limits.text_bytes)).await?;
    let stop = start.saturating_add(taken);
    let mut at = start;
    let mut unpacked = 0u64;
    while at.saturating_add(46) <= stop && cx.input.has(at, b"PK\x01\x02") {
        unpacked =
            unpacked.saturating_add(cx.input.u32_le(at.saturating_add(24)).unwrap_or(0).into());
        let lengths =
            [28, 30, 32].map(|o| u64::from(cx.input.u16_le(at.saturating_add(o)).unwrap_or(0)));
        let [name_len, extra, comment] = lengths;
        let place = at.saturating_add(46);
        let name = cx.input.prefix(place, usize::try_from(name_len).unwrap_or(0)).to_vec();
        for (code, why) in block_core::inspect::broken_rules(&name) {
            // Only names that lead outside: members of an AFF4 volume are URNs by design.
            if matches!(code, Code::PathAbsolute | Code::PathTraversal | Code::ExtDevice) {
                cx.reference(code, (place, u32::try_from(name_len).unwrap_or(0)), &name, why);
            }
        }
        at = place.saturating_add(name_len).saturating_add(extra).saturating_add(comment);
    }
    ratio(cx, Location::start(start, 0), Some(unpacked));
    Ok(())
}

pub(super) fn android(cx: &mut Examination<'_>) {
    let block = u64::from(cx.input.u32_le(12).unwrap_or(0));
    let size = u64::from(cx.input.u32_le(16).unwrap_or(0)).checked_mul(block);
    cx.disk_size((12, 8), size);
    let most = cx.input.len().saturating_mul(cx.limits.ratio);
    cx.find_if(
        size.is_some_and(|size| size > most),
        Code::SizeExcessive,
        (16, 4),
        format!("{} bytes become more than {most}", cx.input.len()),
    );
    let kind = cx.input.u16_le(28).unwrap_or(0);
    let chunks = cx.input.u32_le(20).unwrap_or(0);
    cx.find_if(
        chunks > 0 && !CHUNKS.contains(&kind),
        Code::FeatureUnknown,
        (28, 2),
        format!("the first chunk is of type {kind:#x}, wanted 0xCAC1 to 0xCAC4"),
    );
}

pub(super) fn viso(cx: &mut Examination<'_>) {
    cx.find(Code::ExtHostpath, (0, 28), "the text puts files of the host into a disc");
}

/// Records that the format only names other files.
pub(super) fn pointer(cx: &mut Examination<'_>) {
    cx.find(Code::ExtExtent, (0, 0), "the text stands for a disk in other files");
}

pub(super) fn encrypted(cx: &mut Examination<'_>) {
    cx.find(Code::Encrypted, (0, 8), "the data is encrypted");
}

pub(super) fn cow(cx: &mut Examination<'_>) {
    cx.find(Code::FormatDeprecated, (0, 4), "the format is out of use");
    let field = cx.input.bytes(8, 1024).unwrap_or_default();
    let name = field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    cx.reference(Code::ExtBacking, (8, 1024), &name, "the image is a difference to a backing file");
}
