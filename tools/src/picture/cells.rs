//! A disk cut into equal cells, with the amount of data stored in each.

use std::time::{Duration, Instant};

use block_core::{Disk, Extent, ExtentFlags, Result};

use block_jobs::ExtentStream;

/// The kind of a cell's bytes, in the order of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stored in this image.
    Data,
    /// Stored in a parent.
    Parent,
    /// Stored, and known to read as zeros: reserved space.
    Reserved,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Data, Self::Parent, Self::Reserved];

    /// Returns the text of the legend.
    pub fn label(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Parent => "in a parent",
            Self::Reserved => "zeros, space set aside",
        }
    }

    /// Returns the kind of an extent. `None` if nothing is stored.
    fn of(extent: &Extent) -> Option<Self> {
        let stored = extent.flags.contains(ExtentFlags::DATA);
        match (stored, extent.is_zero(), extent.depth) {
            (false, ..) => None,
            (true, true, _) => Some(Self::Reserved),
            (true, false, 0) => Some(Self::Data),
            (true, false, _) => Some(Self::Parent),
        }
    }
}

/// The number of bytes of each kind in a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    bytes: [u64; 3],
}

impl Cell {
    /// Returns the most frequent kind, and the fill level from 1 to `steps`. `None` if the cell is empty.
    pub fn shade(&self, cell_bytes: u64, steps: u8) -> Option<(Kind, u8)> {
        let stored: u64 = self.bytes.iter().sum();
        let most = Kind::ALL.into_iter().rev().max_by_key(|kind| self.bytes_of(*kind))?;
        if stored == 0 || cell_bytes == 0 {
            return None;
        }
        // Rounded up, so that a single stored byte shows.
        let step = (u128::from(stored) * u128::from(steps)).div_ceil(u128::from(cell_bytes));
        Some((most, u8::try_from(step).unwrap_or(steps).clamp(1, steps)))
    }

    fn bytes_of(&self, kind: Kind) -> u64 {
        self.bytes.get(kind as usize).copied().unwrap_or(0)
    }
}

/// The cells of a disk, arranged in rows.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Bytes per cell.
    pub cell_bytes: u64,
    /// Cells per row.
    pub columns: usize,
    cells: Vec<Cell>,
}

/// Minimum size of a cell in bytes: a page.
const SMALLEST_CELL: u64 = 4096;

impl Cells {
    /// Cuts `disk` into at most `columns * rows` cells. Their size is a power of two.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub async fn of(disk: &Disk, columns: usize, rows: usize) -> Result<Self> {
        let cells = Self::within(None, disk, columns, rows).await?;
        Ok(cells.unwrap_or_else(|| Self::empty(disk.size(), columns, rows)))
    }

    /// Like [`of`](Self::of), but returns `None` when reading the map takes longer than `limit`.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub async fn within(
        limit: Option<Duration>,
        disk: &Disk,
        columns: usize,
        rows: usize,
    ) -> Result<Option<Self>> {
        let started = Instant::now();
        let mut cells = Self::empty(disk.size(), columns, rows);
        let mut stream = ExtentStream::new(disk.clone(), 0..u64::MAX);
        while let Some(extent) = stream.next().await? {
            cells.add(&extent);
            if limit.is_some_and(|limit| started.elapsed() > limit) {
                return Ok(None);
            }
        }
        Ok(Some(cells))
    }

    /// Returns the cells of a disk of `size` bytes with nothing stored.
    pub fn empty(size: u64, columns: usize, rows: usize) -> Self {
        let columns = columns.max(1);
        let most = columns.saturating_mul(rows.max(1)) as u64;
        let wanted = size.div_ceil(most).max(SMALLEST_CELL);
        let cell_bytes = wanted.checked_next_power_of_two().unwrap_or(wanted);
        let count = usize::try_from(size.div_ceil(cell_bytes)).unwrap_or(0);
        Self { size, cell_bytes, columns, cells: vec![Cell::default(); count] }
    }

    /// Adds an extent to the cells that it covers.
    pub fn add(&mut self, extent: &Extent) {
        let Some(kind) = Kind::of(extent) else { return };
        let end = extent.end().min(self.size);
        let mut at = extent.start;
        while at < end {
            let index = at / self.cell_bytes;
            let stop = (index + 1).saturating_mul(self.cell_bytes).min(end);
            let cell = usize::try_from(index).ok().and_then(|index| self.cells.get_mut(index));
            let Some(bytes) = cell.and_then(|cell| cell.bytes.get_mut(kind as usize)) else {
                return;
            };
            *bytes = bytes.saturating_add(stop - at);
            at = stop;
        }
    }

    /// Returns the number of rows that have cells.
    pub fn rows(&self) -> usize {
        self.cells.len().div_ceil(self.columns)
    }

    /// Returns the cell at a position. `None` past the end of the disk.
    pub fn at(&self, column: usize, row: usize) -> Option<&Cell> {
        let index = row.checked_mul(self.columns)?.checked_add(column)?;
        self.cells.get(index).filter(|_| column < self.columns)
    }

    /// Returns the size in bytes of the cell at a position. The disk's end may cut the last cell.
    pub fn bytes_at(&self, column: usize, row: usize) -> u64 {
        let start =
            self.row_start(row).saturating_add(self.cell_bytes.saturating_mul(column as u64));
        self.size.saturating_sub(start).min(self.cell_bytes)
    }

    /// Returns the offset in the disk, in bytes, at which a row begins.
    pub fn row_start(&self, row: usize) -> u64 {
        let index = (row as u64).saturating_mul(self.columns as u64);
        index.saturating_mul(self.cell_bytes)
    }

    /// Returns the kind and the fill level of a cell. `None` if it is empty.
    pub fn shade(&self, column: usize, row: usize, steps: u8) -> Option<(Kind, u8)> {
        self.at(column, row)?.shade(self.bytes_at(column, row), steps)
    }

    /// Returns the bytes of one kind on the whole disk.
    pub fn total(&self, kind: Kind) -> u64 {
        self.cells.iter().map(|cell| cell.bytes_of(kind)).fold(0, u64::saturating_add)
    }

    /// Returns the kinds that occur.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.total(*kind) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, len: u64, flags: ExtentFlags, depth: u32) -> Extent {
        Extent { start, len, flags, depth, offset: None }
    }

    #[test]
    fn every_stored_byte_is_counted_in_the_cell_it_lies_in() {
        let mut cells = Cells::empty(64 << 20, 8, 8);
        assert_eq!((cells.cell_bytes, cells.rows()), (1 << 20, 8));
        let data = ExtentFlags::PRESENT | ExtentFlags::DATA;
        cells.add(&extent((3 << 20) - 1, (2 << 20) + 2, data, 0));
        cells.add(&extent(8 << 20, 1 << 19, data, 2));
        cells.add(&extent(9 << 20, 1 << 20, data | ExtentFlags::ZERO, 0));
        cells.add(&extent(10 << 20, 1 << 20, ExtentFlags::PRESENT | ExtentFlags::ZERO, 0));
        let shade = |column, row| cells.shade(column, row, 10);
        assert_eq!(shade(1, 0), None);
        assert_eq!(shade(2, 0), Some((Kind::Data, 1)), "one byte shows");
        assert_eq!(shade(3, 0), Some((Kind::Data, 10)));
        assert_eq!(shade(4, 0), Some((Kind::Data, 10)));
        assert_eq!(shade(5, 0), Some((Kind::Data, 1)));
        assert_eq!(shade(0, 1), Some((Kind::Parent, 5)));
        assert_eq!(shade(1, 1), Some((Kind::Reserved, 10)));
        assert_eq!(shade(2, 1), None);
        assert_eq!(cells.total(Kind::Data), (2 << 20) + 2);
    }

    #[test]
    fn the_largest_disk_and_the_empty_one_have_cells_that_fit() {
        let cells = Cells::empty(u64::MAX, 64, 32);
        assert!(cells.rows() <= 32, "{}", cells.rows());
        assert_eq!(Cells::empty(0, 64, 32).rows(), 0);
        let cells = Cells::empty(3 * 4096 + 512, 2, 100);
        assert_eq!((cells.rows(), cells.bytes_at(1, 1)), (2, 512));
        assert!(cells.at(2, 0).is_none() && cells.at(0, 2).is_none());
    }
}
