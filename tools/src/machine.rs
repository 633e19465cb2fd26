//! The disks that a VirtualBox machine file registers, as possible parents.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use block_core::Candidate;
use block_file::path::to_text;
use rustix::fs::{Mode, OFlags};

use crate::drivers;
use crate::error::{Failure, Result, os_text};
use crate::host_path::path_uri;

/// Maximum number of disks that one machine file may register.
const MAX_DISKS: usize = 4096;

/// Returns the registered disks that are regular files, in the file's order. The image's driver verifies whether one of
/// them is the parent.
pub(crate) fn registered_disks(machine: &Path) -> Result<Vec<Candidate>> {
    let failed = |why: String| {
        Failure::new(format!("Could not read the machine file '{}': {why}", to_text(machine)))
    };
    let locations = drivers::registered_disks(&read(machine).map_err(|e| failed(os_text(&e)))?)
        .map_err(|error| {
            Failure::because(
                format!("Could not read the machine file '{}'", to_text(machine)),
                &error,
            )
        })?;
    if locations.len() > MAX_DISKS {
        let message = format!("it registers {} disks, at most {MAX_DISKS}", locations.len());
        return Err(failed(message));
    }
    let folder = machine.parent().unwrap_or(Path::new(""));
    let files = locations.into_iter().map(|location| folder.join(location));
    // Opening anything else, such as a pipe, could block.
    let files = files.filter(|path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()));
    Ok(files.map(candidate).collect())
}

fn candidate(path: PathBuf) -> Candidate {
    Candidate::found(path_uri(&path))
}

/// Reads the file, or one byte more than is allowed if it is too large. Refuses anything but a regular file, such as a
/// pipe, without blocking.
fn read(machine: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(machine, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let limit = drivers::MACHINE_FILE_BYTES.saturating_add(1) as u64;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
