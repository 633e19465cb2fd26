//! VHD: Virtual PC and Hyper-V disks with a 512-byte footer (fixed, dynamic, differencing).

use crate::checksum::inverted_sum;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::{fits, power_of_two, within};
use block_core::probe::{Location, Mirror};
use block_core::probe::{Placement, Probe};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::wanting("vhd", dynamic, wants),
    Recogniser::new("vhd-diff", differencing),
    Recogniser::new("vhd-tap", tap),
    Recogniser::new("vhd-fixed", fixed),
];

const COOKIE: &[u8] = b"conectix";
const SPARSE: &[u8] = b"cxsparse";
const FOOTER: u64 = 512;
/// Disk types in the footer.
const FIXED: u32 = 2;
const DIFFERENCING: u32 = 4;

fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if let Some(at) = footer(input)
        && let Some(header) = header_offset(input, at)
    {
        wants.read(header, 1024);
    }
}

/// Returns the offset of the footer, or else of its copy at the start.
fn footer(input: &ProbeInput) -> Option<u64> {
    [input.len().checked_sub(512), input.len().checked_sub(511), Some(0)]
        .into_iter()
        .flatten()
        .find(|at| input.has(*at, COOKIE))
}

fn header_offset(input: &ProbeInput, footer: u64) -> Option<u64> {
    input.u64_be(footer.checked_add(0x10)?).filter(|offset| *offset < input.len())
}

fn disk_type(input: &ProbeInput, footer: u64) -> Option<u32> {
    input.u32_be(footer.checked_add(0x3C)?)
}

/// Whether the checksum of the footer at `at` is correct. `None` if the footer is incomplete.
pub(crate) fn footer_checksum(input: &ProbeInput, at: u64) -> Option<bool> {
    // The oldest writers omit the footer's last byte.
    let len = input.len().saturating_sub(at).min(FOOTER);
    let bytes = input.bytes(at, usize::try_from(len).ok().filter(|len| *len >= 511)?)?;
    let sum = inverted_sum(&[bytes.get(..0x40)?, bytes.get(0x44..)?]);
    Some(input.u32_be(at.checked_add(0x40)?) == Some(sum))
}

/// Whether the checksum of the dynamic header at `at` is correct.
pub(crate) fn header_checksum(input: &ProbeInput, at: u64) -> Option<bool> {
    let bytes = input.bytes(at, 1024)?;
    let sum = inverted_sum(&[bytes.get(..0x24)?, bytes.get(0x28..)?]);
    Some(input.u32_be(at.checked_add(0x24)?) == Some(sum))
}

/// Collects the evidence common to all types: cookie, version, features, checksum.
fn base<'a>(
    id: &'static str,
    input: &'a ProbeInput,
    at: u64,
) -> block_core::probe::ProbeBuilder<'a> {
    let place = |offset: u64, len: u32| Location::start(at.saturating_add(offset), len);
    let from_end = input.len().saturating_sub(at);
    let probe = Probe::of(id, input);
    let probe =
        if at == 0 { probe.signature(0, COOKIE) } else { probe.signature_at_end(from_end, COOKIE) };
    probe
        .version(
            place(0xC, 4),
            "0x00010000",
            input.u32_be(at.saturating_add(0xC)) == Some(0x1_0000),
        )
        .structure(
            "features word",
            place(8, 4),
            "bit 1 set",
            input.u32_be(at.saturating_add(8)).is_some_and(|bits| bits & 2 != 0),
        )
        .integrity(
            "footer checksum",
            place(0x40, 4),
            "the sum of the footer",
            footer_checksum(input, at),
        )
        .slack(place(0x55, if from_end == 511 { 0x1AA } else { 0x1AB }))
        .driver("vhd")
}

fn dynamic(input: &ProbeInput) -> Probe {
    match footer(input) {
        Some(at) if disk_type(input, at) != Some(FIXED) || input.has(0, COOKIE) => {
            sparse("vhd", input, at)
        }
        _ => Probe::of("vhd", input).name(&["vhd", "vpc", "avhd"]).done(),
    }
}

fn sparse(id: &'static str, input: &ProbeInput, at: u64) -> Probe {
    let header = header_offset(input, at);
    let base_at = header.unwrap_or(u64::MAX);
    let field = |offset: u64| base_at.checked_add(offset);
    let table = field(0x10).and_then(|at| input.u64_be(at));
    let entries = field(0x1C).and_then(|at| input.u32_be(at)).map(u64::from);
    let table_len = entries.and_then(|entries| entries.checked_mul(4));
    let block = field(0x20).and_then(|at| input.u32_be(at)).map(u64::from);
    let place = |offset: u64, len: u32| Location::start(base_at.saturating_add(offset), len);
    let kind = disk_type(input, at);
    let copy = match (input.bytes(0, 512), input.tail(FOOTER, 512)) {
        (Some(first), Some(last)) if first == last => Mirror::Equal,
        (Some(first), Some(last)) if first.starts_with(COOKIE) && last.starts_with(COOKIE) => {
            Mirror::Differs
        }
        _ => Mirror::Missing,
    };
    let probe = base(id, input, at)
        .variant(match kind {
            Some(DIFFERENCING) => "differencing",
            _ if at != 0 && input.len().saturating_sub(at) == 511 => "dynamic, 511-byte footer",
            _ => "dynamic",
        })
        .duplicate(
            "copy of the footer",
            (0, 512),
            "the same 512 bytes at the start and the end",
            copy,
        )
        .structure(
            "disk type",
            Location::start(at.saturating_add(0x3C), 4),
            "3 or 4",
            within(kind, 3..=4),
        )
        .structure(
            "dynamic header",
            place(0, 8),
            "cxsparse",
            header.is_some_and(|header| input.has(header, SPARSE)),
        )
        .integrity(
            "header checksum",
            place(0x24, 4),
            "the sum of the header",
            header.and_then(|header| header_checksum(input, header)),
        )
        .structure(
            "block table",
            place(0x10, 8),
            "inside the file",
            fits(input, table, table_len, 0),
        )
        .structure(
            "block size",
            place(0x20, 4),
            "a power of two",
            power_of_two(block, 512..=1 << 31),
        )
        .payload_from(
            table.zip(table_len).and_then(|(at, len)| at.checked_add(len)).unwrap_or(2048),
        )
        .name(&["vhd", "vpc", "avhd"]);
    if input.len().saturating_sub(at) == 511 { probe.at_most(80).done() } else { probe.done() }
}

fn differencing(input: &ProbeInput) -> Probe {
    match footer(input) {
        Some(at) if disk_type(input, at) == Some(DIFFERENCING) => {
            let mut probe = sparse("vhd-diff", input, at);
            probe.refines = Some("vhd");
            probe
        }
        _ => Probe::none("vhd-diff"),
    }
}

/// Recognises dynamic disks of Xen's blktap, which have a batmap after the header.
fn tap(input: &ProbeInput) -> Probe {
    match footer(input) {
        Some(at)
            if disk_type(input, at) == Some(3) && input.has(at.saturating_add(0x1C), b"tap\0") =>
        {
            let mut probe = sparse("vhd-tap", input, at);
            probe.refines = Some("vhd");
            probe.variant = Some("dynamic, by blktap".into());
            probe
        }
        _ => Probe::none("vhd-tap"),
    }
}

fn fixed(input: &ProbeInput) -> Probe {
    let Some(at) = footer(input).filter(|at| *at != 0) else {
        return Probe::of("vhd-fixed", input).name(&["vhd"]).done();
    };
    if disk_type(input, at) != Some(FIXED) || input.has(0, COOKIE) {
        return Probe::none("vhd-fixed");
    }
    let field = |offset: u64| Location::start(at.saturating_add(offset), 8);
    let size = input.u64_be(at.saturating_add(0x30));
    let cylinders = input.u16_be(at.saturating_add(0x38)).map(u64::from);
    let heads = input.u8(at.saturating_add(0x3A)).map(u64::from);
    let sectors = input.u8(at.saturating_add(0x3B)).map(u64::from);
    let geometry = cylinders
        .zip(heads.zip(sectors))
        .and_then(|(c, (h, s))| c.checked_mul(h)?.checked_mul(s)?.checked_mul(512));
    let short = input.len().saturating_sub(at) == 511;
    let probe = base("vhd-fixed", input, at)
        .placement(Placement::Trailer)
        .variant(if short { "fixed, 511-byte footer" } else { "fixed" })
        .structure(
            "header offset",
            field(0x10),
            "all ones",
            input.u64_be(at.saturating_add(0x10)) == Some(u64::MAX),
        )
        .structure(
            "disk size",
            field(0x30),
            "no more than the file before the footer",
            size.is_some_and(|size| size <= at),
        )
        .degraded(
            "unclaimed space",
            field(0x30),
            "the length of the file before the footer",
            size.is_some_and(|size| size < at) && geometry != Some(at),
        )
        .payload_from(0)
        .at_most(if short { 80 } else { 95 })
        .name(&["vhd"]);
    probe.done()
}
