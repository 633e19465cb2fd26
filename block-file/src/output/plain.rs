//! Small outputs that are whole before they are written: pictures, manual pages, reports.

use std::fs::File;
use std::io::Write;

use block_core::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags};

use super::site::file_id;
use super::{Settings, Site, rustix_open};
use crate::io::{retry, write_all};

/// Writes `content` to the target `location`, whole or not at all. A FIFO or a character device takes it as a stream.
///
/// # Errors
/// As [`Site::look`] and [`Site::begin`]; `InvalidInput` for a block device, which holds an image and no picture.
pub fn write_whole(location: &str, content: &[u8], settings: &Settings) -> Result<()> {
    let site = Site::look(location)?;
    match &site.there {
        Some(there) if there.is_stream() => return stream(&site, content),
        Some(there) if there.is_device() => {
            let message = "it is a block device, and this is no disk image";
            return Err(Error::new(ErrorKind::InvalidInput, message).in_image(location));
        }
        _ => {}
    }
    let output = site.begin(settings)?;
    let failed = |errno| super::super::failure::failed("could not write".into(), location, errno);
    if output.in_place().is_some() {
        retry(|| rustix::fs::ftruncate(output.storage.fd(), 0)).map_err(failed)?;
    }
    write_all(output.storage.fd(), 0, content).map_err(failed)?;
    output.finish(false)
}

fn stream(site: &Site, content: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix_open(&site.folder, &site.name, flags, Mode::empty());
    let file = opened.map_err(|errno| site.error(errno))?;
    let stat = retry(|| rustix::fs::fstat(&file)).map_err(|errno| site.error(errno))?;
    if site.there.as_ref().map(super::There::id) != Some(file_id(&stat)) {
        return Err(site.changed());
    }
    let written = File::from(file).write_all(content);
    written.map_err(|error| Error::from(error).in_image(&site.location))
}
