//! Small outputs that are complete before they are written: pictures, manual pages, reports.

use std::fs::File;
use std::io::Write;

use block_core::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags};

use super::site::file_id;
use super::{Output, Settings, Site, rustix_open};
use crate::failure::failed;
use crate::io::{retry, write_all};

/// Writes `content` to the target `location`, whole or not at all. Writes to a FIFO or a character device as a stream.
/// Returns the names of temporary files that it removed: killed programs had left them for the same target.
///
/// # Errors
/// Those of [`Site::look`] and [`Site::begin`]; `InvalidInput` for a block device, which is a place for disk images
/// only.
pub fn write_whole(location: &str, content: &[u8], settings: &Settings) -> Result<Vec<String>> {
    let site = Site::look(location)?;
    match &site.there {
        Some(there) if there.is_stream() => return stream(&site, content).map(|()| Vec::new()),
        Some(there) if there.is_device() => {
            let message = "it is a block device, and this is no disk image";
            return Err(Error::new(ErrorKind::InvalidInput, message).in_image(location));
        }
        _ => {}
    }
    let output = site.begin(settings)?;
    let Some(why) = output.in_place() else {
        output.write(content)?;
        let removed = output.removed().to_vec();
        return output.finish(false).map(|()| removed);
    };
    let written = output.cut().and_then(|()| output.write(content));
    written.map(|()| Vec::new()).map_err(|error| {
        let hint =
            format!("it was written in place ({why}), and may hold a part of the new content");
        error.with_hint(hint)
    })
}

impl Output {
    fn cut(&self) -> Result<()> {
        let failed = |errno| failed("could not cut it".into(), &self.location, errno);
        retry(|| rustix::fs::ftruncate(self.storage.fd(), 0)).map_err(failed)
    }

    fn write(&self, content: &[u8]) -> Result<()> {
        let failed = |errno| failed("could not write".into(), &self.location, errno);
        write_all(self.storage.fd(), 0, content).map_err(failed)
    }
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
