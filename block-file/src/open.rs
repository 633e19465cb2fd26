//! Opens a path: decides what may be opened, with which flags and under which locks.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use block_core::{
    CacheMode, Error, ErrorKind, Result, Sharing, StorageAccess, StorageId, StorageOptions,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use crate::direct::Direct;
use crate::failure::{kind, reason};
use crate::io::retry;
use crate::lock::{LockMode, acquire};
use crate::path::{from_text, to_text};
use crate::queued::Queue;
use crate::storage::{FileStorage, Kind, Parts};

/// Opens the file or block device at `path`.
pub(crate) fn open(path: &str, options: &StorageOptions) -> Result<FileStorage> {
    let writable = options.access != StorageAccess::Read;
    if writable && options.sharing == Sharing::Force {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "force-share=on can only be used with read-only images",
        )
        .in_image(path));
    }
    // Check the type before opening, because opening some devices has side effects.
    match retry(|| rustix::fs::stat(from_text(path))) {
        Ok(stat) => drop(openable(path, &stat)?),
        Err(Errno::NOENT) if may_create(options.access) => {}
        Err(errno) => return Err(could_not_open(path, errno)),
    }
    let (fd, created) = open_fd(path, options.access)?;
    let how = Use {
        path,
        writable,
        sharing: options.sharing,
        lock: options.options.text("lock").and_then(LockMode::from_name).unwrap_or_default(),
        cache: options.cache,
        engine: options.options.text("engine"),
        created,
    };
    // Take the new file's identity from its descriptor: the name may lead to another file by now.
    let made = created.then(|| rustix::fs::fstat(&fd)).and_then(Result::ok);
    storage_on(fd, &how).inspect_err(|_| {
        if let Some(made) = made {
            remove_made(path, &made);
        }
    })
}

/// Removes a file that this open created and could not use, if its name still leads to it.
fn remove_made(path: &str, made: &Stat) {
    let there = rustix::fs::lstat(from_text(path));
    if there.is_ok_and(|there| storage_id(&there) == storage_id(made)) {
        let _ = rustix::fs::unlink(from_text(path));
    }
}

/// How to use a descriptor as a storage.
#[derive(Debug)]
pub(crate) struct Use<'a> {
    /// The file's name for messages: a path's text.
    pub path: &'a str,
    pub writable: bool,
    pub sharing: Sharing,
    pub lock: LockMode,
    pub cache: CacheMode,
    pub engine: Option<&'a str>,
    /// Whether the open created the file. The first flush must then make its name durable.
    pub created: bool,
}

/// Makes a storage from an open descriptor: checks the type, takes the locks and sets the cache mode.
pub(crate) fn storage_on(fd: OwnedFd, how: &Use<'_>) -> Result<FileStorage> {
    let path = how.path;
    let fd = Arc::new(fd);
    let stat = retry(|| rustix::fs::fstat(&fd)).map_err(|errno| could_not_open(path, errno))?;
    // Check the type again, because the name may lead to another file by now.
    let file_type = openable(path, &stat)?;
    let direct = matches!(how.cache, CacheMode::None | CacheMode::Directsync);
    // `NONBLOCK` only kept the open of a FIFO from blocking; on a file it would change reads. `DIRECT` is set here, not
    // at the open: a refused open would leave behind the file that it created.
    let mut flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| could_not_open(path, errno))?;
    flags.remove(OFlags::NONBLOCK);
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(&fd, flags).map_err(|errno| match errno {
        Errno::INVAL if direct => no_direct_io(path),
        errno => could_not_open(path, errno),
    })?;

    acquire(fd.as_fd(), path, how.sharing, how.writable, how.lock)?;

    let kind = match file_type {
        FileType::BlockDevice => device(path, &fd, &stat)?,
        _ => Kind::Regular,
    };
    if file_type == FileType::RegularFile && stat.st_size == 0 && !how.created {
        refuse_made_up(path, &fd)?;
    }
    let direct = if direct { Some(direct_io(path, &fd, kind)?) } else { None };
    let parts = Parts {
        uri: path.to_owned(),
        queue: Queue::new(&fd, how.engine).map_err(|e| e.in_image(path))?,
        fd,
        kind,
        id: storage_id(&stat),
        writable: how.writable,
        cache: how.cache,
    };
    Ok(FileStorage::new(parts, direct, how.created))
}

/// Returns the identity of a file: equal for two names of the same file.
pub(crate) fn storage_id(stat: &Stat) -> StorageId {
    match FileType::from_raw_mode(stat.st_mode) {
        // All nodes of a device are the same file, so use the device number. No file has this inode number.
        FileType::BlockDevice => StorageId(stat.st_rdev, u64::MAX),
        _ => StorageId(stat.st_dev, stat.st_ino),
    }
}

fn may_create(access: StorageAccess) -> bool {
    matches!(access, StorageAccess::Create | StorageAccess::CreateNew)
}

/// Opens a file. Returns whether that created it.
fn open_fd(path: &str, access: StorageAccess) -> Result<(OwnedFd, bool)> {
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    flags |= match access {
        StorageAccess::Read => OFlags::RDONLY,
        _ => OFlags::RDWR,
    };
    let host = from_text(path);
    let try_open = |extra: OFlags| {
        let mode = Mode::from_raw_mode(0o644);
        retry(|| rustix::fs::open(&host, flags | extra, mode))
    };
    let exclusive = OFlags::CREATE | OFlags::EXCL;
    let opened = match access {
        StorageAccess::Read | StorageAccess::ReadWrite => {
            try_open(OFlags::empty()).map(|fd| (fd, false))
        }
        StorageAccess::CreateNew => try_open(exclusive).map(|fd| (fd, true)),
        StorageAccess::Create => match try_open(exclusive) {
            // `CREATE` again: the name may be a symbolic link to a file that does not exist yet.
            Err(Errno::EXIST) => try_open(OFlags::CREATE).map(|fd| (fd, false)),
            opened => opened.map(|fd| (fd, true)),
        },
    };
    opened.map_err(|errno| could_not_open(path, errno))
}

fn no_direct_io(path: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("Could not open '{path}': filesystem does not support O_DIRECT"),
    )
    .in_image(path)
    .with_hint("use the page cache: cache mode writeback")
}

/// Refuses a file that has length 0 but returns bytes, like those in `/proc`: the kernel generates their content during
/// the read.
fn refuse_made_up(path: &str, fd: &OwnedFd) -> Result<()> {
    // A failed read proves nothing, and a file that grew meanwhile is a normal file.
    let reads = retry(|| rustix::io::pread(fd, &mut [0; 1], 0)).is_ok_and(|read| read > 0);
    if reads && retry(|| rustix::fs::fstat(fd)).is_ok_and(|stat| stat.st_size == 0) {
        let text = format!(
            "'file' driver requires '{path}' to have a length, and it says 0 and holds more"
        );
        return Err(Error::new(ErrorKind::InvalidInput, text)
            .in_image(path)
            .with_hint("the kernel makes it up as it is read; copy it into a file first"));
    }
    Ok(())
}

/// Refuses everything but regular files and block devices.
pub(crate) fn openable(path: &str, stat: &Stat) -> Result<FileType> {
    let file_type = FileType::from_raw_mode(stat.st_mode);
    let what = match file_type {
        FileType::RegularFile | FileType::BlockDevice => return Ok(file_type),
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "of an unknown type",
    };
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("'file' driver requires '{path}' to be a regular file or a block device, and it is {what}"),
    )
    .in_image(path))
}

fn could_not_open(path: &str, errno: Errno) -> Error {
    let message = format!("Could not open '{path}': {}", reason(errno));
    let error =
        Error::new(kind(errno), message).in_image(path).because(std::io::Error::from(errno));
    match (errno, from_text(path).parent()) {
        (Errno::NOENT, Some(parent)) if !parent.as_os_str().is_empty() && !parent.exists() => {
            error.with_hint(format!("the directory '{}' does not exist", to_text(parent)))
        }
        (Errno::NOENT, _) => match path.split_once(':') {
            Some((scheme, _)) if !scheme.is_empty() && !scheme.contains('/') => error.with_hint(
                format!("'{scheme}' is no protocol of this program, so it is part of the name"),
            ),
            _ => error,
        },
        (Errno::EXIST, _) => error.with_hint("it must not exist yet"),
        _ => error,
    }
}

/// Returns the block size of a block device and whether it supports discard.
fn device(path: &str, fd: &OwnedFd, stat: &Stat) -> Result<Kind> {
    let block = rustix::fs::ioctl_blksszget(fd).map_err(|errno| could_not_open(path, errno))?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let sys = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue directory; its parent device has.
    let limit = ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{sys}/{queue}/discard_max_bytes")).ok());
    let discards = limit.is_some_and(|bytes| bytes.trim() != "0");
    Ok(Kind::Device { block, discards })
}

/// Returns the unit of direct I/O that the kernel reports, or else one that every known device accepts.
fn direct_io(path: &str, fd: &OwnedFd, kind: Kind) -> Result<Direct> {
    let asked = retry(|| rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN));
    let told = asked.ok().filter(|answer| {
        answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && answer.stx_dio_offset_align != 0
    });
    let (unit, memory) = match (told, kind) {
        (Some(answer), _) => (answer.stx_dio_offset_align, answer.stx_dio_mem_align),
        (None, Kind::Device { block, .. }) => (block, 4096),
        (None, Kind::Regular) => (4096, 4096),
    };
    Direct::new(unit, memory).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("Could not open '{path}': direct I/O in units of {unit} bytes"),
        )
        .in_image(path)
    })
}
