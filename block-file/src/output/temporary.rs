//! A file on its way to a name: without one as long as the file system can have such files, else with a random one.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use block_core::StorageId;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::site::{Site, There, file_id};
use super::{rustix_open, stat_of_name};
use crate::io::retry;
use crate::lock;
use crate::path::to_text;

/// Permissions of a new file, less the process's umask.
const NEW: Mode = Mode::from_raw_mode(0o644);

/// Permissions of a file that is to replace another one, until it gets that one's.
const REPLACING: Mode = Mode::from_raw_mode(0o600);

/// The end of a temporary name.
const SUFFIX: &[u8] = b".partial";

/// Bytes of the target's name that its temporary names begin with, at most.
const MAX_STEM: usize = 60;

/// Entries of a folder that are looked at for files of killed programs.
const MAX_ENTRIES: usize = 20_000;

/// Attempts at a random name: the first one succeeds unless somebody guesses.
const ATTEMPTS: u32 = 16;

/// A file on its way to a name. Dropped before it has the name, it is gone.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: OwnedFd,
    /// The name it is to have.
    name: OsString,
    file: OwnedFd,
    /// The temporary name it has.
    temporary: Option<OsString>,
    /// Names of the files of killed programs that were removed.
    pub(super) removed: Vec<String>,
}

impl Temporary {
    /// Makes the file, and removes those that killed programs left for the same target.
    pub(super) fn create(site: &Site, replacing: Option<&There>) -> Result<Self, Errno> {
        let removed = remove_dead(site);
        let mode = if replacing.is_some() { REPLACING } else { NEW };
        let folder = site.folder.try_clone().map_err(|_| Errno::MFILE)?;
        let name = site.name.clone();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = rustix_open(&site.folder, OsStr::new("."), flags | OFlags::TMPFILE, mode);
        match unnamed {
            Ok(file) if can_be_linked(&file) => {
                return Ok(Self { folder, name, file, temporary: None, removed });
            }
            // The file system has no files without a name, or /proc is not there to name one by.
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        for _ in 0..ATTEMPTS {
            let temporary = random_name(&name);
            match rustix_open(&site.folder, &temporary, flags, mode) {
                Ok(file) => {
                    let temporary = Some(temporary);
                    return Ok(Self { folder, name, file, temporary, removed });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn id(&self) -> Result<StorageId, Errno> {
        Ok(file_id(&retry(|| rustix::fs::fstat(&self.file))?))
    }

    /// Returns which file has the target's name.
    pub(super) fn holder_of_name(&self) -> Result<Option<StorageId>, Errno> {
        Ok(stat_of_name(&self.folder, &self.name)?.as_ref().map(file_id))
    }

    /// Takes the target's name, which no file has. One that appeared meanwhile keeps it.
    pub(super) fn take_free_name(&mut self) -> Result<(), Errno> {
        let Some(temporary) = self.temporary.clone() else {
            return self.link(&self.name);
        };
        let (folder, flags) = (&self.folder, RenameFlags::NOREPLACE);
        match retry(|| rustix::fs::renameat_with(folder, &temporary, folder, &self.name, flags)) {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            // The file system cannot rename so. The link is as good, and the drop removes the other name.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let flags = AtFlags::empty();
                match retry(|| rustix::fs::linkat(folder, &temporary, folder, &self.name, flags)) {
                    Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                        if self.holder_of_name()?.is_some() {
                            return Err(Errno::EXIST);
                        }
                        self.rename(&temporary)
                    }
                    linked => linked,
                }
            }
            Err(errno) => Err(errno),
        }
    }

    /// Takes the target's name from the file that has it.
    pub(super) fn take_over_name(&mut self) -> Result<(), Errno> {
        let temporary = match self.temporary.clone() {
            Some(temporary) => temporary,
            None => {
                let temporary = random_name(&self.name);
                self.link(&temporary)?;
                self.temporary = Some(temporary.clone());
                temporary
            }
        };
        self.rename(&temporary)
    }

    fn rename(&mut self, temporary: &OsStr) -> Result<(), Errno> {
        let folder = &self.folder;
        retry(|| rustix::fs::renameat(folder, temporary, folder, &self.name))?;
        self.temporary = None;
        Ok(())
    }

    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        let (file, flags) = (descriptor_path(&self.file), AtFlags::SYMLINK_FOLLOW);
        retry(|| rustix::fs::linkat(CWD, &file, &self.folder, name, flags))
    }

    /// Makes the folder's names durable.
    pub(super) fn sync_folder(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix_open(&self.folder, OsStr::new("."), flags, Mode::empty())
            .and_then(|folder| retry(|| rustix::fs::fsync(&folder)));
        match synced {
            // The folder may be searched and written, and not read: its file system can be synced all the same.
            Err(Errno::ACCESS) => retry(|| rustix::fs::syncfs(&self.file)),
            // The file system has no such call for folders, and keeps names by itself.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            synced => synced,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Only its own file: another one may have taken the name.
            let holder = stat_of_name(&self.folder, temporary).ok().flatten();
            if holder.as_ref().map(file_id) == self.id().ok() {
                let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
            }
        }
    }
}

/// Returns the path by which a descriptor's file can be linked.
fn descriptor_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn can_be_linked(file: &OwnedFd) -> bool {
    let by_path = retry(|| rustix::fs::stat(descriptor_path(file)));
    let itself = retry(|| rustix::fs::fstat(file));
    matches!((by_path, itself), (Ok(a), Ok(b)) if file_id(&a) == file_id(&b))
}

/// Returns a name that is not guessed: `.TARGET.RANDOM.partial`.
fn random_name(target: &OsStr) -> OsString {
    let random = || RandomState::new().build_hasher().finish();
    let mut name = prefix(target);
    name.extend_from_slice(format!("{:016x}{:016x}", random(), random()).as_bytes());
    name.extend_from_slice(SUFFIX);
    OsString::from_vec(name)
}

/// Returns what the temporary names of a target begin with.
fn prefix(target: &OsStr) -> Vec<u8> {
    let bytes = target.as_bytes();
    let stem = bytes.get(..MAX_STEM).unwrap_or(bytes);
    // A name in UTF-8 stays so where it is cut.
    let whole = match std::str::from_utf8(stem) {
        Err(error) if error.error_len().is_none() => stem.get(..error.valid_up_to()),
        _ => None,
    };
    [b".", whole.unwrap_or(stem), b"."].concat()
}

/// Whether a program of this project made a temporary file of this name for `target`.
fn is_temporary_of(name: &[u8], target: &OsStr) -> bool {
    let middle = name
        .strip_prefix(&*prefix(target))
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .unwrap_or_default();
    middle.len() >= 16 && middle.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Removes the temporary files that programs left when they were killed. A file that its writer still has open is
/// locked, and stays. Returns the names of those that are gone.
fn remove_dead(site: &Site) -> Vec<String> {
    let mut removed = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix_open(&site.folder, OsStr::new("."), flags, Mode::empty());
    // A folder that cannot be read can be written all the same.
    let Ok(entries) = folder.and_then(Dir::read_from) else { return removed };
    for entry in entries.take(MAX_ENTRIES).flatten() {
        let name = entry.file_name();
        if is_temporary_of(name.to_bytes(), &site.name) {
            let name = OsStr::from_bytes(name.to_bytes());
            if remove_if_dead(&site.folder, name).is_ok_and(|gone| gone) {
                removed.push(to_text(name));
            }
        }
    }
    removed
}

fn remove_if_dead(folder: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix_open(folder, name, flags, Mode::empty())?;
    let stat = retry(|| rustix::fs::fstat(&file))?;
    let user = rustix::process::geteuid();
    let own = user.is_root() || user.as_raw() == stat.st_uid;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !own || !regular || !lock::is_unused(file.as_fd()) {
        return Ok(false);
    }
    let holder = stat_of_name(folder, name)?;
    if holder.as_ref().map(file_id) != Some(file_id(&stat)) {
        return Ok(false);
    }
    rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_known_by_its_target() {
        for target in ["disk.vdi", "größer.vdi", &"ö".repeat(100), "a"] {
            let name = random_name(OsStr::new(target));
            assert!(is_temporary_of(name.as_bytes(), OsStr::new(target)), "{name:?}");
            assert!(!is_temporary_of(name.as_bytes(), OsStr::new("other")), "{name:?}");
            assert!(name.len() <= 255 && name.to_str().is_some());
        }
        let old = b".out.vdi.1f2c-18a0d2f7b6c3e901-0.partial";
        assert!(is_temporary_of(old, OsStr::new("out.vdi")));
        for other in [&b".out.vdi.notes-of-mine.partial"[..], b".out.vdi.partial", b"out.vdi"] {
            assert!(!is_temporary_of(other, OsStr::new("out.vdi")));
        }
    }
}
