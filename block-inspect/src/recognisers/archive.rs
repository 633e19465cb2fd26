//! Archives: tar and OVA, zip and AFF4, WIM and ESD, and others recognised by their magic.

use crate::checksum::sum;
use block_core::probe::Location;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::{find, within};
use block_core::probe::{Kind, Probe};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("tar", tar),
    Recogniser::new("ova", ova),
    Recogniser::wanting("zip", zip, zip_wants),
    Recogniser::new("aff4", aff4),
    Recogniser::new("wim", wim),
    Recogniser::new("esd", esd),
    Recogniser::new("7z", seven_zip),
    Recogniser::new("xar", xar),
    Recogniser::new("cab", cab),
    Recogniser::new("rpm", rpm),
];

fn octal(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(|c| c == ' ' || c == '\0');
    u64::from_str_radix(text, 8).ok()
}

fn tar_header<'a>(id: &'static str, input: &'a ProbeInput) -> block_core::probe::ProbeBuilder<'a> {
    let computed = input.bytes(0, 512).and_then(|header| {
        Some(u64::from(sum(&[header.get(..148)?, b"        ", header.get(156..)?])))
    });
    let stored = input.bytes(148, 8).and_then(octal);
    let good = computed.is_some() && stored == computed;
    let posix = input.has(257, b"ustar\x0000");
    let size = input.bytes(124, 12).and_then(octal);
    let probe = Probe::of(id, input).kind(Kind::Wrapper);
    let probe = if posix { probe.word(257, b"ustar\x0000") } else { probe.word(257, b"ustar  \0") };
    probe
        .variant(if posix { "POSIX" } else { "GNU" })
        // Without a valid checksum, the magic is just a word in another file.
        .structure("header sum", (148, 8), "the sum of the header, octal", good)
        .structure("member size", (124, 12), "octal", !good || size.is_some())
        .at_most(if good { 90 } else { 45 })
        .payload_from(512)
        .name(&["tar"])
}

fn tar(input: &ProbeInput) -> Probe {
    tar_header("tar", input).done()
}

fn ova(input: &ProbeInput) -> Probe {
    let name = input.bytes(0, 100).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let ovf = name.len() > 4
        && name
            .get(name.len().saturating_sub(4)..)
            .is_some_and(|end| end.eq_ignore_ascii_case(b".ovf"));
    if !ovf {
        return Probe::of("ova", input).name(&["ova"]).kind(Kind::Wrapper).done();
    }
    tar_header("ova", input)
        .variant("OVF package")
        .structure("first member", (0, 100), "a name that ends in .ovf", ovf)
        .refines("tar")
        .name(&["ova"])
        .done()
}

const EOCD: &[u8] = b"PK\x05\x06";
/// Largest distance in bytes from the end-of-central-directory record to the end of the file: the record's 22 bytes and
/// a comment.
const EOCD_REACH: u64 = 65_557;

fn zip_wants(input: &ProbeInput, wants: &mut WindowRequests) {
    if input.has(0, b"PK\x03\x04") {
        wants.tail(input.len(), EOCD_REACH.min(input.len()), EOCD_REACH);
    }
}

/// Returns the offset of the end-of-central-directory record. Its comment must end at the end of the file.
fn end_record(input: &ProbeInput) -> Option<u64> {
    let reach = EOCD_REACH.min(input.len());
    let start = input.len().checked_sub(reach)?;
    let window = [start, input.len().saturating_sub(block_core::probe::limits::TAIL)]
        .into_iter()
        .map(|from| (from, input.prefix(from, usize::try_from(reach).unwrap_or(0))))
        .find(|(_, window)| !window.is_empty())?;
    let (from, bytes) = window;
    let mut end = bytes.len();
    while let Some(at) = last(bytes.get(..end)?, b'P') {
        end = at;
        if !bytes.get(at..)?.starts_with(EOCD) {
            continue;
        }
        let place = from.checked_add(u64::try_from(at).ok()?)?;
        let comment = input.u16_le(place.checked_add(20)?).map(u64::from);
        if comment.and_then(|len| place.checked_add(22)?.checked_add(len)) == Some(input.len()) {
            return Some(place);
        }
    }
    None
}

/// Returns the index of the last `byte`. Chunks without it are skipped by `contains`, which compares whole machine
/// words.
fn last(bytes: &[u8], byte: u8) -> Option<usize> {
    let mut end = bytes.len();
    for stretch in bytes.rchunks(256) {
        end = end.checked_sub(stretch.len())?;
        if stretch.contains(&byte) {
            return end.checked_add(stretch.iter().rposition(|found| *found == byte)?);
        }
    }
    None
}

fn zip_header<'a>(id: &'static str, input: &'a ProbeInput) -> block_core::probe::ProbeBuilder<'a> {
    let local = input.has(0, b"PK\x03\x04");
    let end = end_record(input);
    let at = end.unwrap_or(0);
    let start = input.u32_le(at.saturating_add(16)).map(u64::from);
    let len = input.u32_le(at.saturating_add(12)).map(u64::from);
    // Other data may precede the archive. A 64-bit archive has all ones in this field.
    let sound = end.is_some()
        && start.zip(len).is_some_and(|(start, len)| {
            start == u64::from(u32::MAX) || start.checked_add(len).is_some_and(|sum| sum <= at)
        });
    let probe = Probe::of(id, input).kind(Kind::Wrapper);
    let probe = if local {
        probe.word(0, b"PK\x03\x04")
    } else {
        probe.signed_if("end record", Location::start(at, 4), "50 4B 05 06", end.is_some(), true)
    };
    probe
        .structure("central directory", (at, 22), "before the record that ends the file", sound)
        .at_most(85)
        .payload_from(if local { 30 } else { at })
        .name(&["zip"])
}

fn zip(input: &ProbeInput) -> Probe {
    zip_header("zip", input).done()
}

fn aff4(input: &ProbeInput) -> Probe {
    let comment = end_record(input).map_or(&[][..], |at| input.prefix(at.saturating_add(22), 256));
    let described = input.has(30, b"container.description");
    let urn = comment.starts_with(b"aff4://")
        || (described && find(input.prefix(30, 256), b"aff4://").is_some());
    if !urn {
        return Probe::of("aff4", input).name(&["aff4"]).kind(Kind::Wrapper).done();
    }
    let mut probe = zip_header("aff4", input)
        .kind(Kind::Container)
        .structure("URN", (30, 21), "aff4:// in the comment or in container.description", urn)
        .refines("zip")
        .name(&["aff4"])
        .done();
    probe.ceiling = 90;
    probe
}

fn wim(input: &ProbeInput) -> Probe {
    wim_header("wim", input).done()
}

const ESD_VERSION: u32 = 0xE00;

fn esd(input: &ProbeInput) -> Probe {
    if input.u32_le(12) == Some(ESD_VERSION) {
        wim_header("esd", input).refines("wim").variant("solid").done()
    } else {
        Probe::of("esd", input).kind(Kind::Wrapper).name(&["esd"]).done()
    }
}

fn wim_header<'a>(id: &'static str, input: &'a ProbeInput) -> block_core::probe::ProbeBuilder<'a> {
    let pipable = input.has(0, b"WLPWM\0\0\0");
    let parts = input.u16_le(40).zip(input.u16_le(42));
    Probe::of(id, input)
        .kind(Kind::Wrapper)
        .signature(0, if pipable { b"WLPWM\0\0\0" } else { b"MSWIM\0\0\0" })
        .version(
            (12, 4),
            "0x10D00 or 0xE00",
            input.u32_le(12).is_some_and(|v| v == 0x1_0D00 || v == ESD_VERSION),
        )
        .structure("header size", (8, 4), "208", input.u32_le(8) == Some(208))
        .structure(
            "part",
            (40, 4),
            "one of the parts",
            parts.is_some_and(|(part, all)| part > 0 && part <= all),
        )
        .structure(
            "chunk size",
            (20, 4),
            "0 or a power of two",
            input.u32_le(20).is_some_and(|size| size == 0 || size.is_power_of_two()),
        )
        .at_most(95)
        .payload_from(208)
        .name(&["wim", "esd"])
}

fn seven_zip(input: &ProbeInput) -> Probe {
    Probe::of("7z", input)
        .kind(Kind::Wrapper)
        .signature(0, b"7z\xBC\xAF\x27\x1C")
        .version((6, 2), "0.x", input.u8(6) == Some(0))
        .at_most(85)
        .payload_from(32)
        .name(&["7z"])
        .done()
}

fn xar(input: &ProbeInput) -> Probe {
    Probe::of("xar", input)
        .kind(Kind::Wrapper)
        .signature(0, b"xar!")
        .version((6, 2), "1", input.u16_be(6) == Some(1))
        .structure("header size", (4, 2), "28 to 4096", within(input.u16_be(4), 28..=4096))
        .at_most(85)
        .payload_from(28)
        .name(&["xar", "pkg"])
        .done()
}

fn cab(input: &ProbeInput) -> Probe {
    Probe::of("cab", input)
        .kind(Kind::Wrapper)
        .signature(0, b"MSCF")
        .version((24, 2), "1.3", input.u8(25) == Some(1))
        .structure("reserved", (4, 4), "0", input.u32_le(4) == Some(0))
        .structure(
            "cabinet size",
            (8, 4),
            "inside the file",
            input.u32_le(8).is_some_and(|n| u64::from(n) <= input.len()),
        )
        .at_most(85)
        .payload_from(36)
        .name(&["cab"])
        .done()
}

fn rpm(input: &ProbeInput) -> Probe {
    Probe::of("rpm", input)
        .kind(Kind::Wrapper)
        .signature(0, &[0xED, 0xAB, 0xEE, 0xDB])
        .version((4, 1), "3 or 4", within(input.u8(4), 3..=4))
        .at_most(85)
        .payload_from(96)
        .name(&["rpm"])
        .done()
}
