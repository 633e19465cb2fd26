//! Strict base64 decoding that ignores white space.

/// Decodes `text`. Returns `None` on any other character, or if the length or the padding is wrong.
pub(super) fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let (body, padding) = text.split_at_checked(end)?;
    let whole = text.len().checked_rem(4) == Some(0);
    if !whole || padding.len() > 2 || padding.iter().any(|byte| *byte != b'=') {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len());
    for four in body.chunks(4) {
        let mut word = 0u32;
        for byte in four {
            word = (word << 6) | u32::from(sextet(*byte)?);
        }
        let [_, a, b, c] = match four.len() {
            4 => word,
            3 => word << 6,
            2 => word << 12,
            _ => return None,
        }
        .to_be_bytes();
        bytes.extend([a, b, c].iter().take(four.len().saturating_sub(1)));
    }
    Some(bytes)
}

fn sextet(byte: u8) -> Option<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    alphabet.iter().position(|known| *known == byte).and_then(|at| u8::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn the_examples_of_the_specification() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"", b""),
            (b"Zg==", b"f"),
            (b"Zm8=", b"fo"),
            (b"Zm9v", b"foo"),
            (b"Zm9v\n\tYg==", b"foob"),
            (b"Zm9vYmE=", b"fooba"),
            (b"+/+/", &[0xFB, 0xFF, 0xBF]),
        ];
        for (text, bytes) in table {
            assert_eq!(decoded(text).as_deref(), Some(bytes));
        }
        for wrong in [&b"Zg="[..], b"Z", b"Zm9?", b"Zg==Zg==", b"===="] {
            assert_eq!(decoded(wrong), None, "{wrong:?}");
        }
    }
}
