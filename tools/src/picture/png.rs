//! The picture of a disk as a PNG file with a palette.

use super::cells::{Cells, Kind};
use super::deflate::zlib;
use super::palette::{EMPTY, GROUND, Rgb, STEPS, colour};

/// Side of a cell in pixels, including the line between two cells.
const CELL: usize = 8;
/// Margin around the picture in pixels.
const MARGIN: usize = 8;
/// Cells per row, and maximum number of rows.
const GRID: (usize, usize) = (128, 64);

const GROUND_INDEX: u8 = 0;
const EMPTY_INDEX: u8 = 1;
const FIRST_SHADE: u8 = 2;

/// Returns the cells per row and the maximum number of rows of a picture file.
pub(crate) fn grid() -> (usize, usize) {
    GRID
}

/// Returns the bytes of the PNG file.
pub(crate) fn png(cells: &Cells) -> Vec<u8> {
    let width = cells.columns * CELL + 2 * MARGIN;
    let height = cells.rows().max(1) * CELL + 2 * MARGIN;
    let mut scanlines = Vec::with_capacity((width + 1) * height);
    for y in 0..height {
        // Filter type 0: the bytes are the pixels.
        scanlines.push(0);
        scanlines.extend((0..width).map(|x| pixel(cells, x, y)));
    }
    let mut header = Vec::new();
    header.extend(number(width).to_be_bytes());
    header.extend(number(height).to_be_bytes());
    // 8 bits per pixel, indexed colour, deflate, standard filters, not interlaced.
    header.extend([8, 3, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"PLTE", &palette().concat());
    chunk(&mut file, b"IDAT", &zlib(&scanlines, &[1, CELL, width + 1]));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn pixel(cells: &Cells, x: usize, y: usize) -> u8 {
    let place = |at: usize| {
        let inside = at.checked_sub(MARGIN)?;
        (inside % CELL < CELL - 1).then_some(inside / CELL)
    };
    let (Some(column), Some(row)) = (place(x), place(y)) else { return GROUND_INDEX };
    match (cells.at(column, row), cells.shade(column, row, STEPS)) {
        (None, _) => GROUND_INDEX,
        (_, None) => EMPTY_INDEX,
        (_, Some((kind, step))) => FIRST_SHADE + kind as u8 * STEPS + step - 1,
    }
}

fn palette() -> Vec<Rgb> {
    let shades = Kind::ALL.into_iter().flat_map(|kind| (1..=STEPS).map(move |step| (kind, step)));
    [GROUND, EMPTY].into_iter().chain(shades.map(|shade| colour(Some(shade)))).collect()
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend(number(content.len()).to_be_bytes());
    file.extend(name);
    file.extend(content);
    let sum = crc32(name.iter().chain(content));
    file.extend(sum.to_be_bytes());
}

/// Converts a size, which is small because pictures have bounded sides.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Computes the checksum of a PNG chunk bit by bit, because the files are small.
fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let sum = bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| match sum & 1 {
            1 => 0xedb8_8320 ^ (sum >> 1),
            _ => sum >> 1,
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(crc32(b"IEND".iter()), 0xae42_6082);
        assert_eq!(crc32(b"123456789".iter()), 0xcbf4_3926);
    }

    #[test]
    fn the_file_is_made_of_whole_chunks() {
        let (columns, rows) = grid();
        let file = png(&Cells::empty(1 << 40, columns, rows));
        assert!(file.len() < 20_000, "{}", file.len());
        let mut names = Vec::new();
        let mut rest = &file[8..];
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let sum = u32::from_be_bytes(rest[8 + len..12 + len].try_into().unwrap());
            assert_eq!(sum, crc32(rest[4..8 + len].iter()));
            names.push(String::from_utf8_lossy(&rest[4..8]).into_owned());
            rest = &rest[12 + len..];
        }
        assert_eq!(names, ["IHDR", "PLTE", "IDAT", "IEND"]);
    }

    #[test]
    fn every_index_is_in_the_palette() {
        let last = FIRST_SHADE + Kind::Reserved as u8 * STEPS + STEPS - 1;
        assert_eq!(palette().len(), usize::from(last) + 1);
    }
}
