//! A disk as one line of text, with a character for each part.

use super::cells::{Cells, Kind};

/// Draws the first row of `cells` in eight steps of height, or in ASCII.
pub(crate) fn bar(cells: &Cells, unicode: bool) -> String {
    let mut text = String::new();
    for column in 0..cells.columns {
        if cells.at(column, 0).is_none() {
            continue;
        }
        let shade = cells.shade(column, 0, 8);
        text.push(match (shade, unicode) {
            (None, true) => '·',
            (None, false) => '.',
            (Some((Kind::Reserved, _)), _) => '=',
            (Some((_, step)), true) => {
                let blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
                blocks.get(usize::from(step) - 1).copied().unwrap_or('█')
            }
            (Some((_, 1..=4)), false) => '+',
            (Some(_), false) => '#',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_core::{Extent, ExtentFlags};

    #[test]
    fn the_bar_shows_where_the_data_lies() {
        let mut cells = Cells::empty(8 << 20, 8, 1);
        let flags = ExtentFlags::PRESENT | ExtentFlags::DATA;
        for (start, len) in [(0, 1 << 20), (2 << 20, 1 << 19), (7 << 20, 1)] {
            cells.add(&Extent { start, len, flags, depth: 0, offset: None });
        }
        assert_eq!(bar(&cells, true), "█·▄····▁");
        assert_eq!(bar(&cells, false), "#.+....+");
    }
}
