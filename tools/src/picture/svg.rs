//! The picture of a disk as an SVG document with labels and a legend.

use std::fmt::Write as _;

use block_core::size;

use super::cells::{Cells, Kind};
use super::palette::{GROUND, Rgb, STEPS, colour};
use crate::escape::steers;

/// The caption above the picture.
#[derive(Debug, Clone)]
pub(crate) struct Caption {
    /// Name of the image.
    pub name: String,
    /// Format of the image.
    pub format: String,
}

const CELL: usize = 8;
const LEFT: usize = 84;
const TOP: usize = 40;
const RIGHT: usize = 16;
const BOTTOM: usize = 40;
/// Rows from one label to the next.
const LABEL_EVERY: usize = 8;

/// Returns the document. Equal neighbouring cells become one rectangle.
pub(crate) fn svg(cells: &Cells, caption: &Caption) -> String {
    let rows = cells.rows();
    let width = LEFT + cells.columns * CELL + RIGHT;
    let height = TOP + rows * CELL + BOTTOM;
    let mut text = String::new();
    let title = format!("{} ({}, {})", caption.name, caption.format, size::human(cells.size));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#c8d0dc\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n\
         <text x=\"{LEFT}\" y=\"25\" font-size=\"15\">{title}</text>",
        hex(GROUND),
        title = escaped(&title),
    );
    for row in 0..rows {
        let y = TOP + row * CELL;
        if row.is_multiple_of(LABEL_EVERY) {
            let label = size::human(cells.row_start(row));
            let (x, y) = (LEFT - 8, y + CELL);
            let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>");
        }
        let mut column = 0;
        while cells.at(column, row).is_some() {
            let shade = cells.shade(column, row, STEPS);
            let first = column;
            while cells.at(column, row).is_some() && cells.shade(column, row, STEPS) == shade {
                column += 1;
            }
            let (x, width) = (LEFT + first * CELL, (column - first) * CELL);
            let fill = hex(colour(shade));
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{CELL}\" fill=\"{fill}\"/>"
            );
        }
    }
    legend(&mut text, cells, TOP + rows * CELL + 26);
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, cells: &Cells, y: usize) {
    let mut x = LEFT;
    let mut entry = |shade: Option<(Kind, u8)>, label: &str| {
        let fill = hex(colour(shade));
        let top = y - 10;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"{y}\">{label}</text>",
            x + 18
        );
        x += 40 + label.len() * 7;
    };
    let mut stored = 0u64;
    for kind in cells.kinds() {
        let bytes = cells.total(kind);
        stored = stored.saturating_add(bytes);
        entry(Some((kind, STEPS)), &format!("{} {}", kind.label(), size::human(bytes)));
    }
    let empty = cells.size.saturating_sub(stored);
    entry(None, &format!("empty {}", size::human(empty)));
    let _ = writeln!(
        text,
        "<text x=\"{x}\" y=\"{y}\">a cell is {}</text>",
        size::human(cells.cell_bytes)
    );
}

fn hex([red, green, blue]: Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Escapes characters that XML must not hold, and replaces steering characters.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            _ if steers(letter) || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}')
            }
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_core::{Extent, ExtentFlags};

    #[test]
    fn names_cannot_break_the_document() {
        let caption = Caption { name: "<a & \"b\"\x1b>".into(), format: "raw".into() };
        let text = svg(&Cells::empty(1 << 20, 128, 64), &caption);
        assert!(text.contains("&lt;a &amp; &quot;b&quot;\u{fffd}&gt; (raw, 1 MiB)"), "{text}");
    }

    #[test]
    fn equal_neighbours_are_one_rectangle() {
        let mut cells = Cells::empty(64 << 20, 8, 8);
        let flags = ExtentFlags::PRESENT | ExtentFlags::DATA;
        cells.add(&Extent { start: 2 << 20, len: 3 << 20, flags, depth: 0, offset: None });
        let text = svg(&cells, &Caption { name: "x".into(), format: "raw".into() });
        let yellow = hex(colour(Some((Kind::Data, STEPS))));
        let full =
            format!("<rect x=\"100\" y=\"40\" width=\"24\" height=\"8\" fill=\"{yellow}\"/>");
        assert!(text.contains(&full), "{text}");
        // Eight rows, of which the first has three parts, the background, and two in the legend.
        assert_eq!(text.matches("<rect").count(), 7 + 3 + 1 + 2);
    }
}
