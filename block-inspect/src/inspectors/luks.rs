//! LUKS: the encryption itself, the cost of the key, detached data, re-encryption, differing headers.

use crate::recognisers::luks::second_header;
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;

pub(super) fn version_1(cx: &mut Examination<'_>) {
    cx.find(Code::Encrypted, (0, 6), "the data is encrypted");
    let most = cx.limits.kdf_iterations;
    let slots = (0..8u64).map(|slot| slot.saturating_mul(48).saturating_add(212));
    for at in std::iter::once(164).chain(slots) {
        let count = u64::from(cx.input.u32_be(at).unwrap_or(0));
        cx.find_if(
            count > most,
            Code::KdfCost,
            (at, 4),
            format!("{count} iterations, wanted at most {most}"),
        );
    }
    cx.find_if(
        cx.input.u32_be(104) == Some(0),
        Code::ExtDatafile,
        (104, 4),
        "the header stands alone; the data is elsewhere",
    );
}

pub(super) async fn version_2(cx: &mut Examination<'_>) -> Result<()> {
    cx.find(Code::Encrypted, (0, 6), "the data is encrypted");
    if let Some(second) = second_header(&cx.input) {
        let sequence = |at: u64| cx.input.u64_be(at.saturating_add(16));
        let (a, b) = (sequence(0), sequence(second));
        cx.find_if(
            cx.input.has(0, b"LUKS") && a != b,
            Code::CopyMismatch,
            (second.saturating_add(16), 8),
            "the two headers have different sequence numbers",
        );
    }
    let len = cx.input.u64_be(8).unwrap_or(0).saturating_sub(4096);
    let cap = 4 << 20;
    cx.find_if(
        len > cap,
        Code::TableExcessive,
        (8, 8),
        format!("the metadata has {len} bytes, wanted at most {cap}"),
    );
    let taken = cx.need_some(4096, len.min(cap)).await?;
    let text = cx.input.prefix(4096, usize::try_from(taken).unwrap_or(0));
    let json: Vec<u8> = text.iter().copied().take_while(|byte| *byte != 0).collect();
    if has(&json, b"online-reencrypt") || has(&json, b"\"reencrypt\"") {
        cx.find(Code::Reencrypt, (4096, 0), "a re-encryption is under way");
    }
    // The memory cost of Argon2 is in KiB.
    let memory = largest(&json, b"\"memory\":").saturating_mul(1024);
    let iterations = largest(&json, b"\"iterations\":");
    let limits = cx.limits;
    cx.find_if(
        memory > limits.kdf_memory,
        Code::KdfCost,
        (4096, 0),
        format!("the key takes {memory} bytes of memory, wanted at most {}", limits.kdf_memory),
    );
    cx.find_if(
        iterations > limits.kdf_iterations,
        Code::KdfCost,
        (4096, 0),
        format!("the key takes {iterations} iterations, wanted at most {}", limits.kdf_iterations),
    );
    Ok(())
}

fn has(text: &[u8], needle: &[u8]) -> bool {
    block_core::probe::fields::find(text, needle).is_some()
}

/// Returns the largest number that follows `key` in the metadata, quoted or not, or 0 if there is none.
fn largest(text: &[u8], key: &[u8]) -> u64 {
    let mut most = 0;
    for (at, _) in text.windows(key.len()).enumerate().filter(|(_, window)| *window == key) {
        let rest = text.get(at.saturating_add(key.len())..).unwrap_or_default();
        let digits =
            rest.iter().skip_while(|b| b" \"".contains(b)).take_while(|b| b.is_ascii_digit());
        let number = digits.fold(0u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
        });
        most = most.max(number);
    }
    most
}
