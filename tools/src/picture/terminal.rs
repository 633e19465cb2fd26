//! The picture of a disk for a terminal. With colour, a row of text holds two rows of cells.

use std::fmt::Write as _;

use block_core::size;

use super::cells::{Cells, Kind};
use super::palette::{self, Rgb};

/// A terminal's abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Any colour.
    TrueColour,
    /// 256 colours.
    Palette,
    /// Blocks of several densities.
    Shades,
    /// ASCII characters.
    Ascii,
}

/// A terminal for the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Width in columns.
    pub width: usize,
    /// The terminal's abilities.
    pub style: Style,
}

/// Columns of the labels on the left, including the blank after them.
const LABEL: usize = 10;
/// Maximum number of rows of text.
const ROWS: usize = 16;
const NARROWEST: usize = 8;
const WIDEST: usize = 512;

impl Terminal {
    /// Returns the cells per row and the maximum number of rows of cells.
    pub fn grid(&self) -> (usize, usize) {
        let free = self.width.saturating_sub(LABEL + 1).clamp(NARROWEST, WIDEST);
        // One or three times a power of two, so that the offsets on the left are round numbers.
        let power = 1 << free.ilog2();
        let columns = if free >= power / 2 * 3 { power / 2 * 3 } else { power };
        (columns, if self.has_colour() { ROWS * 2 } else { ROWS })
    }

    /// Returns the picture, with the offset of each row on its left and a legend.
    pub fn draw(&self, cells: &Cells) -> String {
        let mut text = String::new();
        let rows_of_cells = if self.has_colour() { 2 } else { 1 };
        for row in (0..cells.rows()).step_by(rows_of_cells) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{:>w$} ", size::human(cells.row_start(row)), w = LABEL - 1);
            for column in 0..cells.columns {
                if self.has_colour() {
                    self.half_blocks(&mut text, cells, column, row)
                } else {
                    text.extend(self.character(cells, column, row))
                }
            }
            text.push_str(if self.has_colour() { "\x1b[0m\n" } else { "\n" });
        }
        text.push_str(&self.legend(cells));
        text
    }

    fn has_colour(&self) -> bool {
        matches!(self.style, Style::TrueColour | Style::Palette)
    }

    fn half_blocks(&self, text: &mut String, cells: &Cells, column: usize, row: usize) {
        let colour = |row| {
            cells.at(column, row)?;
            Some(palette::colour(cells.shade(column, row, palette::STEPS)))
        };
        match (colour(row), colour(row + 1)) {
            (None, _) => {}
            (Some(upper), None) => {
                text.push_str("\x1b[49m");
                self.set(text, 38, upper);
                text.push('▀');
            }
            (Some(upper), Some(lower)) => {
                self.set(text, 38, upper);
                self.set(text, 48, lower);
                text.push('▀');
            }
        }
    }

    /// Sets the colour of the text (38) or of its background (48).
    fn set(&self, text: &mut String, what: u8, colour: Rgb) {
        let [red, green, blue] = colour;
        let _ = match self.style {
            Style::Palette => write!(text, "\x1b[{what};5;{}m", palette::of_256(colour)),
            _ => write!(text, "\x1b[{what};2;{red};{green};{blue}m"),
        };
    }

    /// Returns the character for a cell. `None` past the end of the disk.
    fn character(&self, cells: &Cells, column: usize, row: usize) -> Option<char> {
        cells.at(column, row)?;
        let (data, parent) = match self.style {
            Style::Ascii => ([':', '+', '*', '#'], ['1', '2', '3', '4']),
            _ => (['░', '▒', '▓', '█'], ['⡀', '⡄', '⡆', '⡇']),
        };
        match cells.shade(column, row, 4) {
            None if self.style == Style::Ascii => Some('.'),
            None => Some('·'),
            Some((Kind::Reserved, _)) => Some('='),
            Some((Kind::Data, step)) => data.get(usize::from(step) - 1).copied(),
            Some((Kind::Parent, step)) => parent.get(usize::from(step) - 1).copied(),
        }
    }

    fn legend(&self, cells: &Cells) -> String {
        let mut parts = Vec::new();
        let sample = |shade: Option<(Kind, u8)>| {
            let mut sample = String::new();
            let full = |some: char, ascii: char| match self.style {
                Style::Ascii => ascii,
                _ => some,
            };
            match shade {
                _ if self.has_colour() => {
                    self.set(&mut sample, 38, palette::colour(shade));
                    sample.push_str("■\x1b[0m");
                }
                None => sample.push(full('·', '.')),
                Some((Kind::Data, _)) => sample.push(full('█', '#')),
                Some((Kind::Parent, _)) => sample.push(full('⡇', '4')),
                Some((Kind::Reserved, _)) => sample.push('='),
            }
            sample
        };
        let mut stored = 0u64;
        for kind in cells.kinds() {
            let bytes = cells.total(kind);
            stored = stored.saturating_add(bytes);
            let sample = sample(Some((kind, palette::STEPS)));
            parts.push(format!("{sample} {} {}", kind.label(), size::human(bytes)));
        }
        let empty = cells.size.saturating_sub(stored);
        parts.push(format!("{} empty {}", sample(None), size::human(empty)));
        parts.push(format!("a cell is {}", size::human(cells.cell_bytes)));
        let indent = " ".repeat(LABEL);
        let mut text = String::new();
        let mut used = usize::MAX;
        for part in parts {
            let len = visible(&part);
            if used.saturating_add(len + 3) > self.width {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&indent);
                used = LABEL;
            } else {
                text.push_str("   ");
                used += 3;
            }
            text.push_str(&part);
            used += len;
        }
        text.push('\n');
        text
    }
}

/// Returns the columns that a text takes. Escape sequences for colours take none.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut in_escape = false;
    for letter in text.chars() {
        match letter {
            '\x1b' => in_escape = true,
            'm' if in_escape => in_escape = false,
            _ if in_escape => {}
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_core::{Extent, ExtentFlags};

    fn half_full() -> Cells {
        let mut cells = Cells::empty(256 << 20, 64, 32);
        let flags = ExtentFlags::PRESENT | ExtentFlags::DATA;
        cells.add(&Extent { start: 0, len: 128 << 20, flags, depth: 0, offset: None });
        cells
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 40, 80, 131, 200] {
            for style in [Style::TrueColour, Style::Palette, Style::Shades, Style::Ascii] {
                let terminal = Terminal { width, style };
                let (columns, rows) = terminal.grid();
                let cells = Cells::empty(1 << 40, columns, rows);
                let text = terminal.draw(&cells);
                let picture =
                    text.lines().filter(|line| line.contains("iB ") || line.contains("0 B"));
                assert!(picture.clone().count() > 4, "{width} {style:?}");
                for line in text.lines().take(cells.rows().div_ceil(2)) {
                    assert!(visible(line) <= width, "{width} {style:?}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_full_half_and_an_empty_half_look_different() {
        let text = Terminal { width: 80, style: Style::Ascii }.draw(&half_full());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first().copied(), Some(&*format!("      0 B {}", "#".repeat(64))));
        assert!(lines.iter().any(|line| line.ends_with(&".".repeat(64))));
        assert!(text.ends_with("# data 128 MiB   . empty 128 MiB   a cell is 128 KiB\n"), "{text}");
    }

    #[test]
    fn without_colour_nothing_steers_the_terminal() {
        for style in [Style::Shades, Style::Ascii] {
            assert!(!Terminal { width: 80, style }.draw(&half_full()).contains('\x1b'));
        }
        let colours = Terminal { width: 80, style: Style::Palette }.draw(&half_full());
        assert!(colours.contains("\x1b[38;5;") && !colours.contains(";2;"));
    }
}
