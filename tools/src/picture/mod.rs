//! Pictures that show which parts of a disk are stored.

mod bar;
mod cells;
mod deflate;
mod palette;
mod png;
mod svg;
mod terminal;

pub(crate) use bar::bar;
pub(crate) use cells::Cells;
pub(crate) use png::{grid, png};
pub(crate) use svg::{Caption, svg};
pub(crate) use terminal::{Style, Terminal};
