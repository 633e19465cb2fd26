//! A file that gets its name later: unnamed if the file system supports that, otherwise with a random name.

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

/// Permissions of a new file before the process's umask.
const NEW: Mode = Mode::from_raw_mode(0o644);

/// Permissions of a replacing file until it gets those of the replaced one.
const REPLACING: Mode = Mode::from_raw_mode(0o600);

/// Suffix of a temporary name.
const SUFFIX: &[u8] = b".partial";

/// Bytes of the target's name at the start of its temporary names, at most.
const MAX_STEM: usize = 60;

/// Entries of a folder to search for files of killed programs, at most.
const MAX_ENTRIES: usize = 20_000;

/// Attempts at a random name. The first one succeeds unless another user guessed it.
const ATTEMPTS: u32 = 16;

/// A file that gets its name later. It is removed if it is dropped before.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: OwnedFd,
    /// The target's name.
    name: OsString,
    file: OwnedFd,
    /// The file's temporary name, if it has one.
    temporary: Option<OsString>,
    /// Names of removed files that killed programs had left.
    pub(super) removed: Vec<String>,
}

impl Temporary {
    /// Creates the file. Removes the files that killed programs left for the same target.
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
            // The file system does not support unnamed files, or there is no /proc for linking one.
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

    /// Returns the identity of the file that has the target's name.
    pub(super) fn holder_of_name(&self) -> Result<Option<StorageId>, Errno> {
        Ok(stat_of_name(&self.folder, &self.name)?.as_ref().map(file_id))
    }

    /// Takes the target's name if no file has it. A file that appeared meanwhile keeps the name.
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
            // The file system lacks this rename. A link does as well, and the drop removes the temporary name.
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

    /// Takes the target's name from the file that has it, by a rename over it.
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

    /// Makes the names in the folder durable.
    pub(super) fn sync_folder(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix_open(&self.folder, OsStr::new("."), flags, Mode::empty())
            .and_then(|folder| retry(|| rustix::fs::fsync(&folder)));
        match synced {
            // The caller may search and write the folder but not read it. Its file system can still be synced.
            Err(Errno::ACCESS) => retry(|| rustix::fs::syncfs(&self.file)),
            // The file system has no sync for folders and keeps names by itself.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            synced => synced,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Remove only this file: another one may have taken the name.
            let holder = stat_of_name(&self.folder, temporary).ok().flatten();
            if holder.as_ref().map(file_id) == self.id().ok() {
                let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
            }
        }
    }
}

/// Returns a path by which the descriptor's file can be linked.
fn descriptor_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn can_be_linked(file: &OwnedFd) -> bool {
    let by_path = retry(|| rustix::fs::stat(descriptor_path(file)));
    let itself = retry(|| rustix::fs::fstat(file));
    matches!((by_path, itself), (Ok(a), Ok(b)) if file_id(&a) == file_id(&b))
}

/// Returns a name that other users cannot guess: `.TARGET.RANDOM.partial`.
fn random_name(target: &OsStr) -> OsString {
    let random = || RandomState::new().build_hasher().finish();
    let mut name = prefix(target);
    name.extend_from_slice(format!("{:016x}{:016x}", random(), random()).as_bytes());
    name.extend_from_slice(SUFFIX);
    OsString::from_vec(name)
}

/// Returns the start of a target's temporary names.
fn prefix(target: &OsStr) -> Vec<u8> {
    let bytes = target.as_bytes();
    let stem = bytes.get(..MAX_STEM).unwrap_or(bytes);
    // Cut a name in UTF-8 at a character boundary.
    let whole = match std::str::from_utf8(stem) {
        Err(error) if error.error_len().is_none() => stem.get(..error.valid_up_to()),
        _ => None,
    };
    [b".", whole.unwrap_or(stem), b"."].concat()
}

/// Returns whether this is a temporary name for `target` that a program of this project made.
fn is_temporary_of(name: &[u8], target: &OsStr) -> bool {
    let middle = name
        .strip_prefix(&*prefix(target))
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .unwrap_or_default();
    middle.len() >= 16 && middle.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Removes the temporary files that killed programs left. A file that its writer still has open is locked and stays.
/// Returns the names of the removed files.
fn remove_dead(site: &Site) -> Vec<String> {
    let mut removed = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix_open(&site.folder, OsStr::new("."), flags, Mode::empty());
    // A folder that cannot be read may still be writable.
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
