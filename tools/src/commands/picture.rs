//! `map --picture`, `--svg` and `--png`: pictures of a disk's allocation.

use std::path::{Path, PathBuf};

use block_core::{Disk, size};
use block_file::path::to_text;

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::host_path::path_argument;
use crate::picture::{Caption, Cells, grid, png, svg};
use crate::screen;
use crate::target::{files_of, write_whole};

/// The pictures that `map` is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct PictureArgs {
    /// Draw which parts of the disk are stored, in the terminal
    #[arg(long)]
    picture: bool,
    /// Write that picture to a file, as SVG ('-': to standard output)
    #[arg(long, value_name = "FILE", value_parser = path_argument)]
    svg: Option<PathBuf>,
    /// Write that picture to a file, as PNG ('-': to standard output)
    #[arg(long, value_name = "FILE", value_parser = path_argument)]
    png: Option<PathBuf>,
}

impl PictureArgs {
    /// Whether the user asked for any picture.
    pub fn wanted(&self) -> bool {
        self.picture || self.svg.is_some() || self.png.is_some()
    }

    /// Draws all requested pictures of `disk`, called `name`.
    pub async fn make(&self, cx: &Context, disk: &Disk, name: &str) -> Result<u8> {
        let info = disk.info();
        let cells = async |(columns, rows)| {
            let cells = Cells::of(disk, columns, rows).await;
            cells.map_err(|error| Failure::because("Could not read the map", &error))
        };
        if self.picture {
            let terminal = screen::terminal(&cx.console);
            cx.console.line(format_args!(
                "{name} ({}, {})",
                info.format,
                size::human(disk.size())
            ))?;
            cx.console.own_text(terminal.draw(&cells(terminal.grid()).await?))?;
        }
        if self.svg.is_none() && self.png.is_none() {
            return Ok(0);
        }
        let cells = cells(grid()).await?;
        if let Some(path) = &self.svg {
            let caption = Caption { name: name.to_owned(), format: info.format.to_owned() };
            save(cx, path, svg(&cells, &caption).as_bytes(), disk)?;
        }
        if let Some(path) = &self.png {
            save(cx, path, &png(&cells), disk)?;
        }
        Ok(0)
    }
}

/// Writes a file, which gets its name once it is complete. `-` is standard output. Refuses to overwrite an image that
/// is being read or a file that another program uses.
fn save(cx: &Context, path: &Path, content: &[u8], disk: &Disk) -> Result<()> {
    if path == Path::new("-") {
        return Ok(cx.console.bytes(content)?);
    }
    write_whole(&cx.console, &to_text(path), content, files_of(disk))
}
