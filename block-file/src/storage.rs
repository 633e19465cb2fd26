//! One open file or block device as a storage.

use std::any::Any;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use block_core::range_lock::RangeGuard;
use block_core::{
    BoxFuture, Bytes, CacheMode, Error, ErrorKind, Result, Storage, StorageCaps, StorageExtent,
    StorageId, StorageLimits, ZeroMode,
};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::direct::{Change, Direct};
use crate::failure::{failed, overflow, past_end, reason};
use crate::io::{NoWait, read_cached, read_up_to, retry, write_all};
use crate::path::from_text;
use crate::queued::Queue;
use crate::sys::start_writeback;

/// An open host file or block device. Dropping it ends its locks.
#[derive(Debug)]
pub struct FileStorage {
    parts: Parts,
    direct: Option<Direct>,
    /// Held shared by writes, and exclusively by changes of the file's end: a cut to a length that is out of date would
    /// destroy another task's bytes.
    growth: RwLock<()>,
    /// The reason of the first failed flush. The kernel reports a lost write once and then forgets it.
    lost: RwLock<Option<String>>,
    /// Whether the file is new and no flush has made its name durable yet.
    dir_unsynced: AtomicBool,
    /// Whether the file system supports reads that do not block.
    nowait: AtomicBool,
    /// Whether large writes into holes preallocate; unset until first needed.
    preallocates: OnceLock<bool>,
    /// Whether sharing blocks with another file failed before.
    pub(crate) no_clone: AtomicBool,
}

/// Length in bytes from which a write is worth preallocating.
const LARGE: u64 = 512 << 10;

/// The `statfs` magic of ext4 (and of ext3 and ext2).
const EXT4_MAGIC: rustix::fs::FsWord = 0xEF53;

/// The results of opening a file.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) uri: String,
    pub(crate) fd: Arc<OwnedFd>,
    #[cfg_attr(not(feature = "io_uring"), allow(dead_code))]
    pub(crate) queue: Queue,
    pub(crate) kind: Kind,
    pub(crate) id: StorageId,
    pub(crate) writable: bool,
    pub(crate) cache: CacheMode,
}

/// The type of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Regular,
    Device {
        /// Size of a logical block in bytes.
        block: u32,
        /// Whether the device supports discard.
        discards: bool,
    },
}

impl FileStorage {
    pub(crate) fn new(parts: Parts, direct: Option<Direct>, created: bool) -> Self {
        Self {
            nowait: AtomicBool::new(direct.is_none()),
            preallocates: OnceLock::new(),
            parts,
            direct,
            growth: RwLock::default(),
            lost: RwLock::default(),
            dir_unsynced: AtomicBool::new(created),
            no_clone: AtomicBool::new(false),
        }
    }

    /// Lets other programs write the file from now on, although this storage was opened without sharing. It is meant
    /// for readers of a raw disk. Does nothing on a storage that is open for writing.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn let_others_write(&self) -> Result<()> {
        if self.parts.writable {
            return Ok(());
        }
        let given = crate::lock::let_others_write(self.fd());
        given.map_err(|error| Error::from(error).in_image(self.uri()))
    }

    /// Returns whether this is a block device.
    pub(crate) fn is_device(&self) -> bool {
        matches!(self.parts.kind, Kind::Device { .. })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.parts.fd.as_fd()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.parts.kind
    }

    pub(crate) fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    #[cfg(feature = "io_uring")]
    pub(crate) fn queue(&self) -> &Queue {
        &self.parts.queue
    }

    pub(crate) fn is_regular(&self) -> bool {
        matches!(self.parts.kind, Kind::Regular)
    }

    /// Returns the current length in bytes.
    pub(crate) fn length(&self) -> Result<u64, Errno> {
        match self.parts.kind {
            Kind::Regular => {
                let stat = retry(|| rustix::fs::fstat(self.fd()))?;
                Ok(u64::try_from(stat.st_size).unwrap_or(0))
            }
            Kind::Device { .. } => retry(|| rustix::fs::seek(self.fd(), SeekFrom::End(0))),
        }
    }

    /// Returns the lock to hold while writing bytes.
    pub(crate) fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.growth.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lock to hold while looking at and moving the end of the file.
    pub(crate) fn moving_end(&self) -> RwLockWriteGuard<'_, ()> {
        self.growth.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn error(&self, what: String, errno: Errno) -> Error {
        failed(what, self.uri(), errno)
    }

    /// Returns the end of a range, or an error if the range may not be changed.
    pub(crate) fn changeable(&self, offset: u64, len: u64) -> Result<u64> {
        if !self.parts.writable {
            return Err(Error::new(ErrorKind::ReadOnly, "it was opened for reading only")
                .in_image(self.uri()));
        }
        let end = self.end_of(offset, len)?;
        if !self.is_regular() {
            let size =
                self.length().map_err(|e| self.error("could not find its size".into(), e))?;
            if end > size {
                return Err(past_end(self.uri(), offset, len, Some(size)));
            }
        }
        Ok(end)
    }

    /// Returns the end of a range, or an error if it goes past the greatest offset of a file.
    #[inline(always)]
    pub(crate) fn end_of(&self, offset: u64, len: u64) -> Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= i64::MAX as u64 => Ok(end),
            _ => Err(overflow(self.uri(), offset, len)),
        }
    }

    async fn write(&self, offset: u64, buf: &[u8], given: Option<&Bytes>) -> Result<()> {
        self.changeable(offset, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        self.put(offset, buf, given).await?;
        self.changed()
    }

    /// Writes `buf` to a range that [`changeable`](Self::changeable) accepted. `given` holds the same bytes in memory
    /// that can be kept until they are written.
    pub(crate) async fn put(&self, offset: u64, buf: &[u8], given: Option<&Bytes>) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let written = match &self.direct {
            None => {
                let _writing = self.writing();
                self.ask_for_room(offset, end);
                write_all(self.fd(), offset, buf)
            }
            Some(direct) => {
                match direct.guard(offset, end, Change::Bytes, || self.length()).await {
                    Ok(guard) => self.put_direct(direct, offset, buf, given, guard).await,
                    Err(errno) => Err(errno),
                }
            }
        };
        written.map_err(|errno| {
            self.error(format!("could not write {} bytes", buf.len()), errno).at(offset)
        })
    }

    /// Preallocates the range of a large write into a hole, so the kernel need not allocate page by page. On ext4 that
    /// saves a third of the write's time. Ignores errors, because the write itself reports a full file system.
    fn ask_for_room(&self, offset: u64, end: u64) {
        let is_large = end - offset >= LARGE && self.is_regular();
        if is_large && *self.preallocates.get_or_init(|| self.is_ext4()) {
            let is_hole = match rustix::fs::seek(self.fd(), SeekFrom::Data(offset)) {
                Ok(data) => data >= end,
                Err(errno) => errno == Errno::NXIO,
            };
            if is_hole {
                let flags = FallocateFlags::KEEP_SIZE;
                let _ = rustix::fs::fallocate(self.fd(), flags, offset, end - offset);
            }
        }
    }

    fn is_ext4(&self) -> bool {
        rustix::fs::fstatfs(self.fd()).is_ok_and(|system| system.f_type == EXT4_MAGIC)
    }

    async fn put_direct(
        &self,
        direct: &Direct,
        offset: u64,
        buf: &[u8],
        given: Option<&Bytes>,
        guard: RangeGuard,
    ) -> Result<(), Errno> {
        // Held to the end; while the request is queued, the request holds it.
        let (queued, _guard) = self.write_queued(direct, offset, buf, given, guard).await;
        let done = queued?;
        let rest = buf.get(done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        blocking(|| {
            let cut = |exact| retry(|| rustix::fs::ftruncate(self.fd(), exact));
            let at = offset.saturating_add(done as u64);
            direct.write_all(self.fd(), at, rest, self.length()?, cut)
        })
    }

    /// Flushes after a change in the cache modes that require it.
    fn changed(&self) -> Result<()> {
        match self.parts.cache {
            CacheMode::Writethrough | CacheMode::Directsync => self.sync(),
            CacheMode::Writeback | CacheMode::None | CacheMode::Unsafe => Ok(()),
        }
    }

    fn sync(&self) -> Result<()> {
        // Held to the end, so a concurrent flush cannot report success after one that failed.
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = &*lost {
            return Err(Error::new(
                ErrorKind::Io,
                format!("an earlier flush failed ({first}), and what it was to save may be lost"),
            )
            .in_image(self.uri())
            .with_hint("check the image before it is used again"));
        }
        blocking(|| self.sync_now()).map_err(|errno| {
            *lost = Some(reason(errno));
            self.error("could not flush".into(), errno)
        })
    }

    fn sync_now(&self) -> Result<(), Errno> {
        retry(|| rustix::fs::fdatasync(self.fd()))?;
        if self.dir_unsynced.load(Ordering::Relaxed) {
            let path = from_text(&self.parts.uri);
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = retry(|| {
                let mode = rustix::fs::Mode::empty();
                rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, mode)
            });
            // A caller that may not read the directory, or has moved the file since, cannot do more.
            if let Ok(directory) = directory {
                match retry(|| rustix::fs::fsync(&directory)) {
                    Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(errno),
                }
            }
            self.dir_unsynced.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_failed(&self, offset: u64, len: usize, errno: Errno) -> Error {
        self.error(format!("could not read {len} bytes"), errno).at(offset)
    }

    fn ends_early(&self, offset: u64, len: usize) -> Error {
        past_end(self.uri(), offset, len as u64, self.length().ok())
    }

    /// Reads the cached bytes. Returns how many there were, or the error that ends the read.
    fn cached(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if !self.nowait.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let len = buf.len();
        match read_cached(self.fd(), offset, buf) {
            Ok(NoWait::Some(done)) => Ok(done),
            Ok(NoWait::End(_)) => Err(self.ends_early(offset, len)),
            Ok(NoWait::Unknown) => {
                self.nowait.store(false, Ordering::Relaxed);
                Ok(0)
            }
            Err(errno) => Err(self.read_failed(offset, len, errno)),
        }
    }
}

#[async_trait]
impl Storage for FileStorage {
    fn uri(&self) -> &str {
        &self.parts.uri
    }

    fn caps(&self) -> StorageCaps {
        let mut caps = match self.parts.kind {
            Kind::Regular => StorageCaps::SPARSE,
            Kind::Device { .. } => StorageCaps::empty(),
        };
        caps.set(StorageCaps::DIRECT, self.direct.is_some());
        if !self.parts.writable {
            return caps;
        }
        let change = match self.parts.kind {
            Kind::Regular => StorageCaps::RESIZE | StorageCaps::DEALLOCATE | StorageCaps::COPY,
            Kind::Device { discards: true, .. } => StorageCaps::DEALLOCATE,
            Kind::Device { discards: false, .. } => StorageCaps::empty(),
        };
        caps | change | StorageCaps::WRITE
    }

    fn limits(&self) -> StorageLimits {
        let limits = StorageLimits::default();
        match &self.direct {
            Some(direct) => StorageLimits {
                preferred_alignment: u32::try_from(direct.unit())
                    .unwrap_or(limits.preferred_alignment),
                ..limits
            },
            None => limits,
        }
    }

    async fn len(&self) -> Result<u64> {
        self.length().map_err(|errno| self.error("could not find its size".into(), errno))
    }

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.end_of(offset, buf.len() as u64)?;
        let len = buf.len();
        let mut done = self.cached(offset, buf)?;
        if let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += self.read_queued(offset.saturating_add(done as u64), rest).await;
        }
        let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) else {
            return Ok(());
        };
        let at = offset.saturating_add(done as u64);
        let wanted = rest.len();
        let got = blocking(|| match &self.direct {
            None => read_up_to(self.fd(), at, rest),
            Some(direct) => direct.read_up_to(self.fd(), at, rest),
        });
        match got {
            Ok(got) if got == wanted => Ok(()),
            Ok(_) => Err(self.ends_early(offset, len)),
            // So close to the greatest offset that no whole block fits, every range lies past the end.
            Err(Errno::INVAL) if self.length().is_ok_and(|size| size <= offset) => {
                Err(self.ends_early(offset, len))
            }
            Err(errno) => Err(self.read_failed(offset, len, errno)),
        }
    }

    fn read_bytes<'s, 'f>(&'s self, offset: u64, len: usize) -> BoxFuture<'f, Result<Bytes>>
    where
        's: 'f,
        Self: 'f,
    {
        match self.end_of(offset, len as u64) {
            Ok(_) => self.read_and_give(offset, len),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        if let Err(error) = self.end_of(offset, buf.len() as u64) {
            return Some(Err(error));
        }
        match self.cached(offset, buf) {
            Ok(done) if done == buf.len() => Some(Ok(())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.write(offset, buf, None).await
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write(offset, &bytes, Some(&bytes)).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        let end = self.changeable(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        self.zero(offset..end, mode).await?;
        self.changed()
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let end = self.changeable(offset, len)?;
        if len == 0 || !self.is_regular() {
            return Ok(());
        }
        self.reserve(offset..end)
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.end_of(len, 0)?;
        let failed = |errno| self.error(format!("could not set the length to {len:#x}"), errno);
        if !self.is_regular() {
            return match self.length().map_err(failed)? {
                size if size == len => Ok(()),
                size => Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("a device of {size:#x} bytes cannot be made {len:#x} bytes long"),
                )
                .in_image(self.uri())),
            };
        }
        self.changeable(len, 0)?;
        let _guard = match &self.direct {
            Some(direct) => Some(direct.guard_all().await),
            None => None,
        };
        blocking(|| {
            let _alone = self.moving_end();
            // ext4 writes back a truncated file when it is closed, even if its length was 0 before and after. So leave
            // a file of the right length alone.
            if self.length()? == len {
                Ok(())
            } else {
                retry(|| rustix::fs::ftruncate(self.fd(), len))
            }
        })
        .map_err(failed)?;
        self.changed()
    }

    async fn flush(&self) -> Result<()> {
        if !self.parts.writable || self.parts.cache == CacheMode::Unsafe {
            return Ok(());
        }
        self.sync()
    }

    fn begin_flush(&self) {
        // In the other modes a flush has nothing left to write, or there is no flush.
        if self.parts.writable && self.parts.cache == CacheMode::Writeback {
            start_writeback(self.fd());
        }
    }

    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()> {
        let end = range.end.min(self.len().await?);
        if range.start >= end {
            return Ok(());
        }
        if !self.is_regular() {
            out.push(StorageExtent { start: range.start, len: end - range.start, data: true });
            return Ok(());
        }
        crate::extents::list(self.fd(), range.start..end, out)
            .map_err(|errno| self.error("could not find its holes".into(), errno).at(range.start))
    }

    async fn allocated_bytes(&self) -> Result<Option<u64>> {
        let stat = retry(|| rustix::fs::fstat(self.fd()))
            .map_err(|errno| self.error("could not find its size".into(), errno))?;
        Ok(u64::try_from(stat.st_blocks).ok().and_then(|blocks| blocks.checked_mul(512)))
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        self.changeable(offset, len)?;
        let Some(source) = source.as_any().downcast_ref::<Self>() else {
            return Ok(false);
        };
        let copied = blocking(|| self.copy_range(offset, source, source_offset, len))?;
        if copied {
            self.changed()?;
        }
        Ok(copied)
    }

    fn id(&self) -> Option<StorageId> {
        Some(self.parts.id)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
