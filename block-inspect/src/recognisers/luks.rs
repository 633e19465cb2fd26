//! LUKS volumes, versions 1 and 2.

use crate::sha256::sha256;
use block_core::probe::Probe;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::WindowRequests;
use block_core::probe::fields::text_then_nul;
use block_core::probe::{Location, Mirror};

pub(crate) const ALL: &[Recogniser] =
    &[Recogniser::new("luks1", luks1), Recogniser::wanting("luks2", luks2, wants)];

pub(crate) const MAGIC: &[u8] = b"LUKS\xBA\xBE";
pub(crate) const SECOND_MAGIC: &[u8] = b"SKUL\xBA\xBE";
/// Possible byte offsets of the second header in version 2.
pub(crate) const SECOND: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
const SLOT_STATES: [u32; 2] = [0x00AC_71F3, 0x0000_DEAD];
/// Longest header in bytes, with its JSON, whose checksum the probe verifies.
const LONGEST_CHECKED: u64 = 0x1_0000;

fn luks1(input: &ProbeInput) -> Probe {
    if input.u16_be(6) == Some(2) {
        return Probe::none("luks1");
    }
    let slots = (0..8u64).all(|slot| {
        let at = slot.saturating_mul(48).saturating_add(208);
        input.u32_be(at).is_some_and(|state| SLOT_STATES.contains(&state))
    });
    let names = [8, 40, 72].into_iter().all(|at| text_then_nul(input.bytes(at, 32)));
    let payload = input.u32_be(104).map(u64::from);
    Probe::of("luks1", input)
        .signature(0, MAGIC)
        .version((6, 2), "1", input.u16_be(6) == Some(1))
        .structure("cipher, mode and hash", (8, 96), "printable words", names)
        .structure(
            "key bytes",
            (108, 4),
            "16, 32 or 64",
            input.u32_be(108).is_some_and(|n| [16, 32, 64].contains(&n)),
        )
        .structure("UUID", (168, 40), "text", text_then_nul(input.bytes(168, 40)))
        .structure("key slots", (208, 4), "each on or off", slots)
        .slack((592, 3504))
        .driver("luks")
        .at_most(95)
        .payload_from(
            payload
                .filter(|sectors| *sectors > 0)
                .map_or(4096, |sectors| sectors.saturating_mul(512)),
        )
        .name(&["luks"])
        .done()
}

fn wants(input: &ProbeInput, wants: &mut WindowRequests) {
    for at in SECOND {
        wants.read(at, 512);
    }
    if input.has(0, MAGIC)
        && let Some(len) = input.u64_be(8).filter(|len| *len <= LONGEST_CHECKED)
    {
        wants.read(0, len);
    }
}

/// Returns the offset of a second header that states that same offset.
pub(crate) fn second_header(input: &ProbeInput) -> Option<u64> {
    SECOND.into_iter().find(|at| {
        input.has(*at, SECOND_MAGIC) && input.u64_be(at.saturating_add(256)) == Some(*at)
    })
}

fn luks2(input: &ProbeInput) -> Probe {
    if input.has(0, MAGIC) && input.u16_be(6) == Some(2) {
        return primary(input);
    }
    match second_header(input) {
        Some(at) if !input.has(0, MAGIC) => Probe::of("luks2", input)
            .signature(at, SECOND_MAGIC)
            .variant("second header only")
            .version((at.saturating_add(6), 2), "2", input.u16_be(at.saturating_add(6)) == Some(2))
            .duplicate("first header", (0, 6), "LUKS", Mirror::Missing)
            .driver("luks")
            .payload_from(at.saturating_mul(2))
            .done(),
        _ => Probe::of("luks2", input).name(&["luks"]).done(),
    }
}

fn primary(input: &ProbeInput) -> Probe {
    let len = input.u64_be(8);
    let second = second_header(input);
    let sequence = |at: u64| input.u64_be(at.saturating_add(16));
    let probe = Probe::of("luks2", input)
        .signature(0, MAGIC)
        .version((6, 2), "2", true)
        .structure("header offset", (256, 8), "its own place, 0", input.u64_be(256) == Some(0))
        .structure(
            "header size",
            (8, 8),
            "the place of the second header",
            len.is_some_and(|len| SECOND.contains(&len)),
        )
        .structure("metadata", (4096, 1), "{", input.has(4096, b"{"))
        .integrity(
            "header checksum",
            (448, 32),
            "the SHA-256 of header and metadata",
            checksum(input),
        );
    let copy = match second {
        Some(at) if sequence(at) == sequence(0) => Mirror::Equal,
        Some(_) => Mirror::Differs,
        None => Mirror::Missing,
    };
    // An equal sequence number does not prove an equal copy, but a different one is an oddity.
    let probe = match copy {
        Mirror::Equal => {
            probe.note("second header", (len.unwrap_or(0), 6), "the same sequence number")
        }
        copy => probe.duplicate(
            "second header",
            (len.unwrap_or(0), 24),
            "the same sequence number",
            copy,
        ),
    };
    let at = Location::start(512, 3584);
    probe
        .slack(at)
        .driver("luks")
        .payload_from(len.unwrap_or(0x4000).saturating_mul(2))
        .name(&["luks"])
        .done()
}

/// Whether the first header's checksum is correct. `None` for hashes other than SHA-256, or if not all bytes were read.
fn checksum(input: &ProbeInput) -> Option<bool> {
    input.has(72, b"sha256\0").then_some(())?;
    let len = input.u64_be(8).filter(|len| (4096..=LONGEST_CHECKED).contains(len))?;
    let bytes = input.bytes(0, usize::try_from(len).ok()?)?;
    let sum = sha256(&[bytes.get(..448)?, &[0; 64], bytes.get(512..)?]);
    Some(bytes.get(448..480)? == sum)
}
