//! Colours of the pictures.

use super::cells::Kind;

/// A colour: red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// Number of shades from a nearly empty to a full cell.
pub(crate) const STEPS: u8 = 16;

/// Colour of a cell in which nothing is stored.
pub(crate) const EMPTY: Rgb = [0x24, 0x2b, 0x38];

/// Background colour.
pub(crate) const GROUND: Rgb = [0x14, 0x18, 0x20];

/// Returns the colour of a cell.
pub(crate) fn colour(shade: Option<(Kind, u8)>) -> Rgb {
    let Some((kind, step)) = shade else { return EMPTY };
    let stops = match kind {
        Kind::Data => [[0x1f, 0x5f, 0x6b], [0x2f, 0xa0, 0x7c], [0xf6, 0xd7, 0x4a]],
        Kind::Parent => [[0x4a, 0x3b, 0x78], [0x8a, 0x55, 0xb5], [0xe3, 0x8f, 0xd6]],
        Kind::Reserved => [[0x3f, 0x4e, 0x66], [0x5f, 0x78, 0x9c], [0x8f, 0xb0, 0xd8]],
    };
    let place = u16::from(step.clamp(1, STEPS) - 1) * 510 / u16::from(STEPS - 1);
    let [low, middle, high] = stops;
    match place {
        0..=255 => mix(low, middle, place),
        _ => mix(middle, high, place - 255),
    }
}

/// Returns a near colour of the 6×6×6 cube or the greys that terminals with 256 colours have.
pub(crate) fn of_256(colour: Rgb) -> u8 {
    let (low, high) = (colour.iter().min(), colour.iter().max());
    if let (Some(&low), Some(&high @ 8..=238)) = (low, high)
        && high - low < 24
    {
        return 232 + (low / 2 + high / 2).saturating_sub(8) / 10;
    }
    let [red, green, blue] = colour.map(|part| match part {
        0..48 => 0,
        48..115 => 1,
        _ => (part - 35) / 40,
    });
    16 + 36 * red + 6 * green + blue
}

/// Interpolates between `from` (`part` 0) and `to` (`part` 255).
fn mix(from: Rgb, to: Rgb, part: u16) -> Rgb {
    let mut mixed = from;
    for (at, to) in mixed.iter_mut().zip(to) {
        let sum = u16::from(*at) * (255 - part) + u16::from(to) * part;
        *at = u8::try_from(sum / 255).unwrap_or(u8::MAX);
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shade_has_its_own_colour() {
        let mut seen = vec![EMPTY, GROUND];
        for kind in Kind::ALL {
            for step in 1..=STEPS {
                let colour = colour(Some((kind, step)));
                assert!(!seen.contains(&colour), "{kind:?} {step}: {colour:?}");
                seen.push(colour);
            }
        }
        assert_eq!(seen.len(), 2 + 3 * usize::from(STEPS));
    }

    #[test]
    fn cube_and_greys_are_hit_where_they_are_exact() {
        assert_eq!((of_256([0; 3]), of_256([255; 3]), of_256([255, 0, 0])), (16, 231, 196));
        assert_eq!(of_256([0x5f, 0x87, 0xaf]), 16 + 36 + 6 * 2 + 3);
        assert_eq!((of_256([8; 3]), of_256([238; 3]), of_256(EMPTY)), (232, 255, 235));
    }
}
