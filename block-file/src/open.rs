//! Opening a path: what may be opened at all, with which flags, under which locks.

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
    // Looked at before it is opened, because opening some devices does something.
    match retry(|| rustix::fs::stat(from_text(path))) {
        Ok(stat) => drop(openable(path, &stat)?),
        Err(Errno::NOENT) if may_create(options.access) => {}
        Err(errno) => return Err(could_not_open(path, errno)),
    }
    let direct = matches!(options.cache, CacheMode::None | CacheMode::Directsync);
    let (fd, created) = open_fd(path, options.access, direct)?;
    let fd = Arc::new(fd);
    let stat = retry(|| rustix::fs::fstat(&fd)).map_err(|errno| could_not_open(path, errno))?;
    // Looked at again, because another file may have taken its name.
    let file_type = openable(path, &stat)?;
    // Needed only so that opening a FIFO cannot wait; on a file it would change how reads behave.
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| could_not_open(path, errno))?;
    rustix::fs::fcntl_setfl(&fd, flags - OFlags::NONBLOCK)
        .map_err(|errno| could_not_open(path, errno))?;

    let mode = options.options.text("lock").and_then(LockMode::from_name).unwrap_or_default();
    acquire(fd.as_fd(), path, options.sharing, writable, mode)?;

    let kind = match file_type {
        FileType::BlockDevice => device(path, &fd, &stat)?,
        _ => Kind::Regular,
    };
    let id = match file_type {
        // All nodes of one device are the same thing; no file has this inode number.
        FileType::BlockDevice => StorageId(stat.st_rdev, u64::MAX),
        _ => StorageId(stat.st_dev, stat.st_ino),
    };
    let direct = match direct {
        true => Some(direct_io(path, &fd, kind)?),
        false => None,
    };
    let parts = Parts {
        uri: path.to_owned(),
        queue: Queue::new(&fd, options.options.text("engine")).map_err(|e| e.in_image(path))?,
        fd,
        kind,
        id,
        writable,
        cache: options.cache,
    };
    Ok(FileStorage::new(parts, direct, created))
}

fn may_create(access: StorageAccess) -> bool {
    matches!(access, StorageAccess::Create | StorageAccess::CreateNew)
}

/// Opens, and says whether that made the file.
fn open_fd(path: &str, access: StorageAccess, direct: bool) -> Result<(OwnedFd, bool)> {
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    flags.set(OFlags::DIRECT, direct);
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
            // `CREATE` again: it may be a symbolic link that leads to nothing yet.
            Err(Errno::EXIST) => try_open(OFlags::CREATE).map(|fd| (fd, false)),
            opened => opened.map(|fd| (fd, true)),
        },
    };
    opened.map_err(|errno| match errno {
        Errno::INVAL if direct => Error::new(
            ErrorKind::Unsupported,
            format!("Could not open '{path}': filesystem does not support O_DIRECT"),
        )
        .in_image(path)
        .with_hint("use the page cache: cache mode writeback"),
        errno => could_not_open(path, errno),
    })
}

/// Refuses everything that is not bytes at offsets.
fn openable(path: &str, stat: &Stat) -> Result<FileType> {
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
    let error = Error::new(kind(errno), message).in_image(path);
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

/// What there is to know of a block device.
fn device(path: &str, fd: &OwnedFd, stat: &Stat) -> Result<Kind> {
    let block = rustix::fs::ioctl_blksszget(fd).map_err(|errno| could_not_open(path, errno))?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let sys = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue of its own.
    let limit = ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{sys}/{queue}/discard_max_bytes")).ok());
    let discards = limit.is_some_and(|bytes| bytes.trim() != "0");
    Ok(Kind::Device { block, discards })
}

/// The unit of direct I/O, as the kernel tells it or as every device known accepts it.
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
