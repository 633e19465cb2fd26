//! A target's place: the folder that holds its name, and the file that has the name now.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use block_core::{Error, ErrorKind, Result, StorageId};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::InPlace;
use crate::failure::{kind, reason};
use crate::io::retry;
use crate::path::{from_text, to_text};

/// Links that one name may lead through: as many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// A target's place, looked up but not changed yet.
#[derive(Debug)]
pub struct Site {
    /// The target as the caller named it.
    pub(super) location: String,
    /// The folder that holds the name, after following links.
    pub(super) folder: OwnedFd,
    /// The last component of the name, after following links.
    pub(super) name: OsString,
    /// The file that has the name.
    pub(super) there: Option<There>,
}

/// Space on the file system of a regular file to be replaced, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the caller may still allocate.
    pub free: u64,
    /// Bytes allocated to the existing file.
    pub held: u64,
}

/// The existing file under the target's name.
#[derive(Debug)]
pub(super) struct There {
    stat: Stat,
    /// Whether another file system, or a single file, is mounted on the name.
    pub(super) mount_point: bool,
}

impl Site {
    /// Looks up the target `location`, a path's text (see [`crate::path`]). Follows symbolic links, even if the last
    /// one leads to no file yet.
    ///
    /// # Errors
    /// `Busy` when another file takes the name meanwhile, and errors of the operating system: too many links, a folder
    /// that does not exist or may not be searched.
    pub fn look(location: &str) -> Result<Self> {
        let failed = |errno: Errno| {
            Error::new(kind(errno), reason(errno))
                .in_image(location)
                .because(std::io::Error::from(errno))
        };
        let path = from_text(location);
        // Let the kernel follow the links first: it applies the rules against links that other users planted.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let followed = match retry(|| rustix::fs::open(&path, flags, Mode::empty())) {
            Ok(fd) => Some(file_id(&retry(|| rustix::fs::fstat(&fd)).map_err(failed)?)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(errno)),
        };
        let Walked { folder, name, there } = walk(&path).map_err(|error| match error {
            WalkError::Folder(folder, Errno::NOENT) => failed(Errno::NOENT)
                .with_hint(format!("the directory '{}' does not exist", to_text(&folder))),
            WalkError::Folder(_, errno) | WalkError::Name(errno) => failed(errno),
        })?;
        if followed != there.as_ref().map(There::id) {
            return Err(super::changed(location));
        }
        Ok(Self { location: location.to_owned(), folder, name, there })
    }

    /// Returns the space for a new file beside the regular file to be replaced; `None` when there is no such file.
    pub fn room(&self) -> Option<Room> {
        let there = self.there.as_ref().filter(|there| there.is_regular())?;
        let system = rustix::fs::fstatvfs(&self.folder).ok()?;
        Some(Room {
            free: system.f_bavail.saturating_mul(system.f_frsize),
            held: u64::try_from(there.stat.st_blocks).ok()?.saturating_mul(512),
        })
    }

    /// Returns why no other file can take the existing file's name, as far as the folder's metadata shows.
    pub(super) fn folder_holds_on_to(&self, there: &There) -> Option<InPlace> {
        let stat = retry(|| rustix::fs::fstat(&self.folder)).ok()?;
        let user = rustix::process::geteuid().as_raw();
        let sticky = Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX);
        if sticky && user != there.stat.st_uid && user != stat.st_uid {
            return Some(InPlace::Sticky);
        }
        let append_only = attributes_of(&self.folder)?.contains(StatxAttributes::APPEND);
        append_only.then(|| InPlace::Folder("names can only be added to it".to_owned()))
    }
}

impl There {
    pub(super) fn id(&self) -> StorageId {
        file_id(&self.stat)
    }

    pub(super) fn links(&self) -> u64 {
        // Its type differs between architectures.
        #[allow(clippy::useless_conversion, reason = "the type of st_nlink differs")]
        u64::from(self.stat.st_nlink)
    }

    pub(super) fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    pub(super) fn is_device(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::BlockDevice
    }

    /// Refuses types of files that cannot be written at offsets.
    pub(super) fn writable_type(&self, location: &str) -> Result<()> {
        if FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory {
            let error = Error::new(ErrorKind::InvalidInput, reason(Errno::ISDIR));
            return Err(error.in_image(location));
        }
        crate::open::openable(location, &self.stat).map(drop)
    }

    /// Returns whether the file is a stream, not bytes at offsets.
    pub(super) fn is_stream(&self) -> bool {
        let kind = FileType::from_raw_mode(self.stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::CharacterDevice)
    }
}

/// Returns the identity of a file: equal for two names of the same file.
pub(super) fn file_id(stat: &Stat) -> StorageId {
    crate::open::storage_id(stat)
}

struct Walked {
    folder: OwnedFd,
    name: OsString,
    there: Option<There>,
}

enum WalkError {
    /// The folder at this path could not be opened.
    Folder(PathBuf, Errno),
    Name(Errno),
}

/// Follows `path` to the folder and name that it leads to, and the file of that name.
fn walk(path: &Path) -> Result<Walked, WalkError> {
    let mut path = path.to_owned();
    let mut base: Option<OwnedFd> = None;
    for _ in 0..=MAX_LINKS {
        let (parent, name) = split(&path).map_err(WalkError::Name)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry(|| match &base {
            Some(base) => rustix::fs::openat(base, &parent, flags, Mode::empty()),
            None => rustix::fs::openat(CWD, &parent, flags, Mode::empty()),
        });
        let folder = opened.map_err(|errno| WalkError::Folder(parent, errno))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match retry(|| rustix::fs::openat(&folder, &name, flags, Mode::empty())) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Walked { folder, name, there: None }),
            Err(errno) => return Err(WalkError::Name(errno)),
        };
        let stat = retry(|| rustix::fs::fstat(&file)).map_err(WalkError::Name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let attributes = attributes_of(&file);
            let mount_point = attributes.is_some_and(|a| a.contains(StatxAttributes::MOUNT_ROOT));
            return Ok(Walked { folder, name, there: Some(There { stat, mount_point }) });
        }
        may_follow(&folder, &stat).map_err(WalkError::Name)?;
        let link = retry(|| rustix::fs::readlinkat(&file, "", Vec::new()));
        let link = link.map_err(WalkError::Name)?;
        path = PathBuf::from(OsStr::from_bytes(link.as_bytes()));
        base = Some(folder);
    }
    Err(WalkError::Name(Errno::LOOP))
}

/// Splits a path into its folder and the name in it.
fn split(path: &Path) -> Result<(PathBuf, OsString), Errno> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Errno::NOENT);
    }
    let (parent, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], bytes.get(1..)),
        Some(slash) => (bytes.get(..slash).unwrap_or(bytes), bytes.get(slash + 1..)),
        None => (&b"."[..], Some(bytes)),
    };
    match name {
        None | Some(b"" | b"." | b"..") => Err(Errno::ISDIR),
        Some(name) => Ok((OsStr::from_bytes(parent).into(), OsStr::from_bytes(name).to_owned())),
    }
}

/// Refuses a link that another user put into a sticky, world-writable folder, as the kernel does with
/// `fs.protected_symlinks`. The link may have changed since the kernel followed it.
fn may_follow(folder: &OwnedFd, link: &Stat) -> Result<(), Errno> {
    let folder = retry(|| rustix::fs::fstat(folder))?;
    let mode = Mode::from_raw_mode(folder.st_mode);
    let everyone = mode.contains(Mode::SVTX | Mode::WOTH);
    let own = link.st_uid == rustix::process::geteuid().as_raw() || link.st_uid == folder.st_uid;
    if everyone && !own { Err(Errno::ACCESS) } else { Ok(()) }
}

fn attributes_of(file: &OwnedFd) -> Option<StatxAttributes> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = retry(|| rustix::fs::statx(file, c"", flags, StatxFlags::TYPE)).ok()?;
    Some(stat.stx_attributes & stat.stx_attributes_mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let split = |path: &str| split(Path::new(path)).map(|(a, b)| (a, b.into_string().unwrap()));
        assert_eq!(split("a"), Ok((".".into(), "a".into())));
        assert_eq!(split("/a"), Ok(("/".into(), "a".into())));
        assert_eq!(split("d/../a b"), Ok(("d/..".into(), "a b".into())));
        for no_file in ["d/", "/", ".", "..", "d/."] {
            assert_eq!(split(no_file), Err(Errno::ISDIR), "{no_file}");
        }
        assert_eq!(split(""), Err(Errno::NOENT));
    }
}
