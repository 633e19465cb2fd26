//! VMDK: the names and syntax of the descriptor, the header and its footer.

use crate::recognisers::vmdk::{AT_END, FOOTER, KDMV, LONGEST_TEXT, is_extent_line};
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;
use block_core::probe::Location;

/// Most extents that are not excessive.
const MOST_EXTENTS: usize = 256;
/// Most lines that are not excessive.
const MOST_LINES: usize = 4096;
/// Longest line that is not excessive, in bytes.
const LONGEST_LINE: usize = 4096;
/// Known flags of the sparse header.
const KNOWN_FLAGS: u32 = 0x0003_0007;

/// Examines a sparse extent with its embedded descriptor.
pub(super) async fn sparse(cx: &mut Examination<'_>) -> Result<()> {
    let capacity = cx.input.u64_le(0xC).unwrap_or(0);
    let sector = cx.input.u64_le(0x1C).unwrap_or(0);
    let size = capacity.checked_mul(512);
    cx.disk_size((0xC, 8), size);
    cx.find_if(
        capacity == 0 && sector != 0,
        Code::HiddenDescriptor,
        (0xC, 24),
        "the capacity is 0, so the embedded text rules the image",
    );
    cx.find_if(
        sector > 1,
        Code::Structure,
        (0x1C, 8),
        format!("the descriptor is at sector {sector}, wanted 0 or 1"),
    );
    cx.find_if(
        cx.input.u8(0x48) == Some(1),
        Code::Dirty,
        (0x48, 1),
        "the extent was not closed cleanly",
    );
    let flags = cx.input.u32_le(8).unwrap_or(0);
    cx.find_if(
        flags & !KNOWN_FLAGS != 0,
        Code::FeatureUnknown,
        (8, 4),
        format!("the flags are {flags:#x}, wanted only those of {KNOWN_FLAGS:#x}"),
    );
    let version = cx.input.u32_le(4).unwrap_or(0);
    cx.find_if(
        version > 3,
        Code::FeatureUnknown,
        (4, 4),
        format!("the version is {version}, wanted 1 to 3"),
    );
    if cx.input.u64_le(0x38) == Some(AT_END) {
        footer(cx);
    }
    let grain = cx.input.u64_le(0x14).unwrap_or(0);
    let coverage = grain.saturating_mul(512);
    let tables = capacity.checked_div(coverage.max(1)).unwrap_or(0).saturating_add(1);
    cx.table(
        "grain directory",
        (0xC, 16),
        (Some(0), Some(tables.saturating_mul(4))),
        128 << 20,
        u64::MAX,
    );
    if sector == 0 {
        return Ok(());
    }
    let start = sector.saturating_mul(512);
    let declared = cx.input.u64_le(0x24).unwrap_or(0).saturating_mul(512);
    // Some programs read 20 sectors regardless of the header.
    let taken = cx.need_some(start, declared.clamp(20 * 512, LONGEST_TEXT)).await?;
    let bytes = cx.input.prefix(start, usize::try_from(taken).unwrap_or(0)).to_vec();
    let inside = bytes.get(..usize::try_from(declared).unwrap_or(usize::MAX)).unwrap_or(&bytes);
    let overhead = cx.input.u64_le(0x40).unwrap_or(0).saturating_mul(512);
    let tail = bytes.get(inside.len()..).unwrap_or_default();
    let directory = [0x30, 0x38].into_iter().filter_map(|at| cx.input.u64_le(at));
    let next = directory.filter(|s| *s > sector).min().unwrap_or(u64::MAX).saturating_mul(512);
    let room = next.min(overhead.max(start)).saturating_sub(start).saturating_sub(declared);
    let unclaimed = tail.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(tail);
    cx.find_if(
        unclaimed.iter().any(|byte| byte.is_ascii_alphanumeric()),
        Code::DescTail,
        (start.saturating_add(declared), 0),
        "text goes on behind the declared length of the descriptor",
    );
    descriptor(cx, start, inside, true);
    Ok(())
}

fn footer(cx: &mut Examination<'_>) {
    let header = cx.input.bytes(0, 0x4F);
    let footer = cx.input.tail(FOOTER, 0x4F);
    let differs = match header.zip(footer) {
        Some((header, footer)) if footer.starts_with(KDMV) => {
            header.get(..0x38) != footer.get(..0x38) || header.get(0x40..) != footer.get(0x40..)
        }
        _ => true,
    };
    let at = Location::end(FOOTER, 512);
    cx.find_if(differs, Code::CopyMismatch, at, "the footer is missing or contradicts the header");
}

/// Examines a descriptor in its own file.
pub(super) async fn text(cx: &mut Examination<'_>) -> Result<()> {
    let len = cx.input.len();
    cx.find_if(
        len > LONGEST_TEXT,
        Code::TableExcessive,
        (0, 0),
        format!("the descriptor has {len} bytes, wanted at most {LONGEST_TEXT}"),
    );
    let taken = cx.need_some(0, len.min(LONGEST_TEXT)).await?;
    let bytes = cx.input.prefix(0, usize::try_from(taken).unwrap_or(0)).to_vec();
    let body = bytes.trim_ascii_start();
    let canonical = body.len() == bytes.len() && body.starts_with(b"# Disk DescriptorFile");
    cx.find_if(
        !canonical,
        Code::Noncanonical,
        (0, 21),
        "the text does not begin with # Disk DescriptorFile, so some programs take it for raw",
    );
    descriptor(cx, 0, &bytes, false);
    Ok(())
}

/// Parses the text strictly. Anything that programs could read differently is a finding.
fn descriptor(cx: &mut Examination<'_>, start: u64, bytes: &[u8], embedded: bool) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    if rest.iter().any(|byte| *byte != 0) {
        let at = start.saturating_add(u64::try_from(end).unwrap_or(0));
        cx.find(Code::TextNul, (at, 1), "text goes on behind a NUL");
    }
    let mut seen: Vec<String> = Vec::new();
    let mut extents: usize = 0;
    let mut size = Some(0u64);
    let mut offset = start;
    for (number, raw) in text.split(|byte| *byte == b'\n').enumerate() {
        let at = Location::start(offset, u32::try_from(raw.len()).unwrap_or(u32::MAX));
        offset = offset.saturating_add(u64::try_from(raw.len()).unwrap_or(0)).saturating_add(1);
        if number >= MOST_LINES || raw.len() > LONGEST_LINE {
            cx.find(
                Code::TableExcessive,
                at,
                "the descriptor has too many lines, or too long ones",
            );
            break;
        }
        let line = raw.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if is_extent_line(line) {
            extents = extents.saturating_add(1);
            if extents > MOST_EXTENTS {
                cx.find(Code::TableExcessive, at, "the descriptor names more than 256 extents");
                break;
            }
            size = size
                .and_then(|size| extent(cx, at, line, embedded).and_then(|n| size.checked_add(n)));
        } else if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            let key = line.get(..equals).unwrap_or_default().trim_ascii();
            let value = line.get(equals.saturating_add(1)..).unwrap_or_default().trim_ascii();
            entry(cx, at, &mut seen, key, unquoted(value));
        } else {
            cx.find(Code::Noncanonical, at, "a line is neither a key, an extent nor a comment");
        }
    }
    if !embedded {
        cx.disk_size((start, 0), size.and_then(|sectors| sectors.checked_mul(512)));
    }
}

/// Examines one extent line and returns its length in sectors.
fn extent(cx: &mut Examination<'_>, at: Location, line: &[u8], embedded: bool) -> Option<u64> {
    let text = String::from_utf8_lossy(line).into_owned();
    let mut words = text.split_ascii_whitespace().skip(1);
    let sectors = words.next().and_then(|word| word.parse::<u64>().ok());
    let kind = words.next().unwrap_or_default().to_ascii_uppercase();
    if kind == "ZERO" {
        return sectors;
    }
    let name = line.split(|byte| *byte == b'"').nth(1).unwrap_or_default();
    // A monolithic sparse file names itself.
    if embedded && kind == "SPARSE" && !name.is_empty() && !name.iter().any(|b| b"/\\:".contains(b))
    {
        return sectors;
    }
    cx.reference(Code::ExtExtent, at, name, format!("an extent of type {kind} is in another file"));
    sectors
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// Keys that all programs spell the same way.
const KEYS: &[&str] = &[
    "version",
    "encoding",
    "CID",
    "parentCID",
    "createType",
    "parentFileNameHint",
    "changeTrackPath",
    "isNativeSnapshot",
];

fn entry(cx: &mut Examination<'_>, at: Location, seen: &mut Vec<String>, key: &[u8], value: &[u8]) {
    let key = String::from_utf8_lossy(key).into_owned();
    let folded = key.to_ascii_lowercase();
    if seen.contains(&folded) {
        cx.find(Code::DupKey, at, format!("the key {} stands more than once", key.escape_debug()));
    }
    let is = |known: &str| folded == known.to_ascii_lowercase();
    if let Some(known) = KEYS.iter().find(|known| is(known) && **known != key) {
        cx.find(
            Code::Noncanonical,
            at,
            format!("the key {} is usually {known}", key.escape_debug()),
        );
    }
    if is("parentFileNameHint") {
        cx.reference(Code::ExtParent, at, value, "a parent is named");
    } else if is("parentCID") {
        let none = value.eq_ignore_ascii_case(b"ffffffff");
        cx.find_if(!none, Code::ExtParent, at, "the disk is a difference to a parent");
    } else if is("changeTrackPath") {
        cx.find_as(
            Code::ExtExtent,
            block_core::inspect::Severity::Info,
            at,
            "a file that tracks changes is named",
        );
    } else if is("createType") {
        let kind = String::from_utf8_lossy(value).to_ascii_lowercase();
        let device =
            ["device", "vmfsraw", "vmfsrdm", "vmfspassthrough"].iter().any(|d| kind.contains(d));
        cx.find_if(device, Code::ExtDevice, at, "the disk is a device of the host");
    } else if folded.starts_with("encryption") || folded.starts_with("ddb.encryption") {
        cx.find(Code::Encrypted, at, "the data is encrypted");
    }
    seen.push(folded);
}

/// Examines the sparse extents of ESXi, which store the parent in binary fields.
pub(super) fn cowd(cx: &mut Examination<'_>) {
    let root = cx.input.u32_le(8).is_some_and(|flags| flags & 1 != 0);
    let field = cx.input.bytes(0x20, 1024).unwrap_or_default();
    let name = field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    if !root && !name.is_empty() {
        cx.reference(Code::ExtParent, (0x20, 1024), &name, "a parent is named");
    }
    let size = cx.input.u32_le(0xC).map(|sectors| u64::from(sectors).saturating_mul(512));
    cx.disk_size((0xC, 4), size);
    let entries = u64::from(cx.input.u32_le(0x18).unwrap_or(0));
    let place = cx.input.u32_le(0x14).map(|sector| u64::from(sector).saturating_mul(512));
    cx.table("grain directory", (0x18, 4), (place, Some(entries.saturating_mul(4))), 64 << 20, 0);
}

pub(super) async fn sesparse(cx: &mut Examination<'_>) -> Result<()> {
    let size = cx.input.u64_le(0x10).and_then(|sectors| sectors.checked_mul(512));
    cx.disk_size((0x10, 8), size);
    let volatile = cx.input.u64_le(0x50).and_then(|sector| sector.checked_mul(512)).unwrap_or(0);
    if volatile > 0 && cx.need(volatile, 512).await? {
        let replay = volatile.saturating_add(0x18);
        cx.find_if(
            cx.input.u64_le(replay).is_some_and(|journal| journal != 0),
            Code::LogReplay,
            (replay, 8),
            "a journal waits to be replayed",
        );
    }
    Ok(())
}
