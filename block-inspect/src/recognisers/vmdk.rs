//! VMware disks: all generations of sparse extents, and the text descriptor that names extents.

use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::{contains_ignoring_case, fits, power_of_two, within};
use block_core::probe::{Kind, Placement, Probe};
use block_core::probe::{Location, Mirror};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::wanting("vmdk", sparse, wants),
    Recogniser::new("vmdk-stream", stream),
    Recogniser::new("vmdk-cowd", cowd),
    Recogniser::wanting("vmdk-sesparse", sesparse, sesparse_wants),
    Recogniser::new("vmdk-descriptor", descriptor),
];

pub(crate) const KDMV: &[u8] = b"KDMV";
/// The grain directory is after the data, at the offset stated in the footer.
pub(crate) const AT_END: u64 = u64::MAX;
/// Distance in bytes from the footer's copy of the header to the end of the file.
pub(crate) const FOOTER: u64 = 1024;
/// Longest descriptor in bytes that is examined.
pub(crate) const LONGEST_TEXT: u64 = (1 << 20) - 1;

fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if input.has(0, KDMV)
        && let Some(at) = input.u64_le(0x1C).and_then(|sector| sector.checked_mul(512))
    {
        wants.read(at, 4096);
    }
}

fn streamed(input: &ProbeInput) -> bool {
    input.u16_le(0x4D) == Some(1) || input.u32_le(8).is_some_and(|flags| flags & 0x3_0000 != 0)
}

fn header<'a>(id: &'static str, input: &'a ProbeInput) -> block_core::probe::ProbeBuilder<'a> {
    let descriptor = input.u64_le(0x1C).unwrap_or(0);
    let text = descriptor.checked_mul(512).map_or(&[][..], |at| input.prefix(at, 4096));
    let guarded = input.u32_le(8).is_some_and(|flags| flags & 1 != 0);
    let overhead = input.u64_le(0x40).and_then(|sectors| sectors.checked_mul(512));
    Probe::of(id, input)
        .placement(Placement::Header)
        .signature(0, KDMV)
        .version((4, 4), "1 to 3", within(input.u32_le(4), 1..=3))
        .structure("entries in a grain table", (0x2C, 4), "512", input.u32_le(0x2C) == Some(512))
        .structure(
            "grain size",
            (0x14, 8),
            "a power of two from 8 to 0x200000 sectors",
            power_of_two(input.u64_le(0x14), 8..=0x20_0000),
        )
        .structure(
            "newline guard",
            (0x49, 4),
            "0A 20 0D 0A",
            !guarded || input.has(0x49, b"\n \r\n"),
        )
        .structure(
            "overhead",
            (0x40, 8),
            "inside the file",
            fits(input, Some(0), overhead, 1 << 16),
        )
        .structure(
            "capacity",
            (0xC, 8),
            "not 0",
            input.u64_le(0xC).is_some_and(|sectors| sectors > 0),
        )
        .structure(
            "descriptor",
            (descriptor.saturating_mul(512), 32),
            "a text with createType",
            descriptor == 0 || contains_ignoring_case(text, b"createtype"),
        )
        .slack((0x4F, 0x1B1))
        .payload_from(overhead.unwrap_or(512).max(512))
        .driver("vmdk")
        .name(&["vmdk"])
        .at_most(95)
}

fn sparse(input: &ProbeInput) -> Probe {
    header("vmdk", input).variant("sparse").done()
}

fn stream(input: &ProbeInput) -> Probe {
    if !input.has(0, KDMV) || !streamed(input) {
        return Probe::none("vmdk-stream");
    }
    let probe = header("vmdk-stream", input).variant("streamOptimized").refines("vmdk");
    if input.u64_le(0x38) != Some(AT_END) {
        return probe.done();
    }
    let footer = input.tail(FOOTER, 512);
    let same = footer.zip(input.bytes(0, 512)).map(|(footer, header)| {
        // All fields except the grain directory's offset, which only the footer holds.
        footer.get(..0x38) == header.get(..0x38) && footer.get(0x40..0x4F) == header.get(0x40..0x4F)
    });
    let marked = input.len().checked_sub(1536 - 12).and_then(|at| input.u32_le(at)) == Some(3);
    let copy = match same {
        Some(true) if marked => Mirror::Equal,
        Some(_) if footer.is_some_and(|footer| footer.starts_with(KDMV)) => Mirror::Differs,
        _ => Mirror::Missing,
    };
    let mut probe = probe
        .duplicate(
            "footer",
            Location::end(FOOTER, 512),
            "the header again, behind a footer marker",
            copy,
        )
        .done();
    probe.ceiling = 100;
    probe
}

fn cowd(input: &ProbeInput) -> Probe {
    let grain = input.u32_le(0x10).map(u64::from);
    let directory = input.u32_le(0x14).map(u64::from).and_then(|sector| sector.checked_mul(512));
    let capacity = input.u32_le(0xC).map(u64::from);
    let entries = input.u32_le(0x18).map(u64::from);
    let needed = capacity.zip(grain).and_then(|(capacity, grain)| {
        Some(capacity.div_ceil(grain.checked_mul(4096).filter(|d| *d > 0)?))
    });
    Probe::of("vmdk-cowd", input)
        .signature(0, b"COWD")
        .variant("ESXi sparse extent")
        .version((4, 4), "1", input.u32_le(4) == Some(1))
        .structure("grain size", (0x10, 4), "a power of two", power_of_two(grain, 1..=1 << 31))
        .structure(
            "grain directory",
            (0x14, 4),
            "inside the file",
            directory.is_some_and(|at| at > 0 && at < input.len()),
        )
        .structure(
            "directory entries",
            (0x18, 4),
            "enough for the capacity",
            entries.zip(needed).is_some_and(|(entries, needed)| entries >= needed),
        )
        .at_most(85)
        .payload_from(2048)
        .driver("vmdk")
        .name(&["vmdk"])
        .done()
}

fn sesparse_wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if input.has(0, SESPARSE)
        && let Some(at) = input.u64_le(0x50).and_then(|sector| sector.checked_mul(512))
    {
        wants.read(at, 512);
    }
}

const SESPARSE: &[u8] = &[0xBE, 0xBA, 0xFE, 0xCA, 0, 0, 0, 0];

fn sesparse(input: &ProbeInput) -> Probe {
    let volatile = input.u64_le(0x50).and_then(|sector| sector.checked_mul(512));
    let zero =
        |at: u64, len: usize| input.bytes(at, len).is_some_and(|b| b.iter().all(|b| *b == 0));
    Probe::of("vmdk-sesparse", input)
        .word(0, SESPARSE)
        .variant("ESXi 6.5 sparse extent")
        .structure("version", (8, 8), "2.1", input.u64_le(8) == Some(0x2_0000_0001))
        .structure("grain size", (0x18, 8), "8 sectors", input.u64_le(0x18) == Some(8))
        .structure("grain table size", (0x20, 8), "64 sectors", input.u64_le(0x20) == Some(64))
        .structure("flags", (0x28, 8), "zeros", zero(0x28, 0x28))
        .structure(
            "volatile header",
            (volatile.unwrap_or(0), 4),
            "FE CA FE CA",
            volatile.is_some_and(|at| at > 0 && input.has(at, &[0xFE, 0xCA, 0xFE, 0xCA])),
        )
        .slack((0xD0, 0x130))
        .at_most(95)
        .payload_from(1 << 16)
        .driver("vmdk")
        .name(&["vmdk"])
        .done()
}

/// Extent types that an extent line can name.
pub(crate) const EXTENT_TYPES: &[&str] =
    &["FLAT", "SPARSE", "ZERO", "VMFS", "VMFSSPARSE", "VMFSRDM", "VMFSRAW", "SESPARSE"];

/// Whether a line of a descriptor is an extent: `RW 8192 FLAT "disk-flat.vmdk" 0`.
pub(crate) fn is_extent_line(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else {
        return line.starts_with(b"RW ");
    };
    let mut words = line.split_ascii_whitespace();
    let access = words.next().unwrap_or_default();
    let sectors = words.next().unwrap_or_default();
    let kind = words.next().unwrap_or_default();
    ["RW", "RDONLY", "NOACCESS"].iter().any(|known| access.eq_ignore_ascii_case(known))
        && sectors.parse::<u64>().is_ok()
        && EXTENT_TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

fn descriptor(input: &ProbeInput) -> Probe {
    let window = input.prefix(0, 0x1_1000);
    let nul = window.iter().position(|byte| *byte == 0).unwrap_or(window.len());
    let text = window.get(..nul).unwrap_or_default();
    let body = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii_start();
    if !body.starts_with(b"#") && !body.get(..7).is_some_and(|s| s.eq_ignore_ascii_case(b"version"))
    {
        return Probe::of("vmdk-descriptor", input).kind(Kind::Descriptor).name(&["vmdk"]).done();
    }
    const FIRST: &[u8] = b"# Disk DescriptorFile";
    let skipped = text.len().saturating_sub(body.len());
    let at = Location::start(u64::try_from(skipped).unwrap_or(0), 21);
    let first = body.get(..FIRST.len()).is_some_and(|start| start.eq_ignore_ascii_case(FIRST));
    let lines = || text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).take(4096);
    let key = |line: &[u8], key: &str| {
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        line.contains(&b'=') && name.eq_ignore_ascii_case(key.as_bytes())
    };
    let version = lines().any(|line| key(line, "version"));
    let create_type = lines().any(|line| key(line, "createType"));
    let extent = lines().any(is_extent_line);
    let probe = Probe::of("vmdk-descriptor", input)
        .kind(Kind::Descriptor)
        .signed_if("first line", at, "# Disk DescriptorFile", first, false)
        .variant("text descriptor");
    let probe = if first {
        probe.structure("createType", at, "the key createType", create_type).structure(
            "extents",
            at,
            "at least one extent line",
            extent,
        )
    } else {
        probe
            .text("version", at, "the key version", version)
            .text("createType", at, "the key createType", create_type)
            .text("extents", at, "an extent line", extent && create_type)
    };
    probe.at_most(90).driver("vmdk").name(&["vmdk"]).done()
}
