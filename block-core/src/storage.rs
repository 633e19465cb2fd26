//! Byte storage: the trait that protocol drivers implement and format drivers use.

use std::any::Any;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bitflags::bitflags;

use crate::{Bytes, Error, ErrorKind, PageBuffer, Result};

/// Reads up to this many bytes allocate before checking the storage's length. Larger ones check first.
const UNASKED: usize = 4 << 20;

bitflags! {
    /// Capabilities of a storage. The conformance suite checks that a storage does what it declares.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct StorageCaps: u32 {
        /// Accepts writes, zeroes and flushes.
        const WRITE = 1;
        /// [`Storage::set_len`] works. Bytes exposed by growing read as zeros.
        const RESIZE = 1 << 1;
        /// [`Storage::write_zeroes`] with [`ZeroMode::Deallocate`] frees space.
        const DEALLOCATE = 1 << 2;
        /// [`Storage::extents`] distinguishes holes from data.
        const SPARSE = 1 << 3;
        /// [`Storage::copy_from`] can copy without moving the bytes through this process.
        const COPY = 1 << 4;
        /// Transfers bypass the page cache: [`Storage::read_bytes`] and [`Storage::write_bytes`] do not copy.
        /// This affects speed only.
        const DIRECT = 1 << 5;
    }
}

/// What happens to the space of a range that is zeroed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroMode {
    /// The range keeps or gets its space, so that later writes into it cannot run out of space.
    Allocate,
    /// The storage frees the range's space where it can.
    Deallocate,
}

/// Request sizes that the storage prefers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLimits {
    /// Requests aligned to this boundary at both ends are cheapest. Others are accepted too.
    pub preferred_alignment: u32,
    /// The storage splits requests larger than this; callers need not.
    pub preferred_transfer: u32,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self { preferred_alignment: 4096, preferred_transfer: 1 << 20 }
    }
}

/// A run of bytes in a storage: either data, or a hole that reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageExtent {
    /// First byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Whether bytes are stored. If not, the run is a hole and reads as zeros.
    pub data: bool,
}

/// Identity of a storage. For a host file: its device and inode numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageId(pub u64, pub u64);

/// Byte-addressed storage such as a file, a block device or memory.
///
/// **Ranges.** The caller promises that `offset + length` does not overflow `i64`. It does not promise that
/// the range lies inside the storage. A read past the end fails with
/// [`OutOfRange`](crate::ErrorKind::OutOfRange) and never returns silent zeros. A write past the end extends
/// a storage with [`StorageCaps::RESIZE`], and the gap reads as zeros. Any other storage answers
/// `OutOfRange`.
///
/// **Dropped futures.** A write whose future is dropped may reach the storage, wholly or in part, now or
/// later. An overlapping request issued after the drop takes effect after that write. The storage orders
/// them: its guard belongs to the running operation, not to the future.
///
/// **Failures.** A failed write may have been written in part. A failed flush promises nothing about any
/// write since the last successful flush: the data may be lost for good while reads still return it. A
/// storage that cannot rule out such a loss fails every later flush too, until it is reopened.
#[async_trait]
#[expect(clippy::len_without_is_empty, reason = "a length is asked for, emptiness never")]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Returns the name that this storage was opened by. It is used in messages and to resolve relative
    /// references.
    fn uri(&self) -> &str;

    /// Returns the capabilities of this storage.
    fn caps(&self) -> StorageCaps;

    /// Returns the request sizes that this storage prefers.
    fn limits(&self) -> StorageLimits;

    /// Returns the current length in bytes.
    async fn len(&self) -> Result<u64>;

    /// Reads into `buf` from byte `offset`. A read that cannot fill all of `buf` is an error.
    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads `len` bytes from `offset` into memory that the storage chooses. A storage that bypasses the page
    /// cache returns its own memory without copying. The default allocates a buffer and fills it as
    /// [`read_at`](Self::read_at) does.
    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        read_a_copy(self, offset, len).await
    }

    /// Reads as [`read_at`](Self::read_at) does, without blocking. Returns `None` without any effect if the
    /// read could block.
    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>>;

    /// Writes all of `buf` at byte `offset`. The write is durable after the next [`flush`](Self::flush).
    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()>;

    /// Writes as [`write_at`](Self::write_at) does, from memory that the storage keeps for as long as it
    /// needs. A storage that bypasses the page cache writes directly from that memory if it is aligned as a
    /// [`PageBuffer`] is. The default calls `write_at`.
    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, &bytes).await
    }

    /// Makes `len` bytes at `offset` read as zeros. Extends the storage as a write would.
    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()>;

    /// Reserves space for `len` bytes at `offset`, so that writing there cannot run out of space. Content and
    /// length do not change. A storage that cannot reserve space answers `Unsupported`.
    async fn allocate(&self, offset: u64, len: u64) -> Result<()>;

    /// Truncates or extends the storage to `len` bytes.
    async fn set_len(&self, len: u64) -> Result<()>;

    /// Makes every write, zeroing and length change that completed before the call durable.
    async fn flush(&self) -> Result<()>;

    /// Tells the storage that much was written and a [`flush`](Self::flush) will follow, so that write-back
    /// can start early. It guarantees nothing and reports nothing. It may wait for the disk to accept
    /// requests, but not for their completion. Without it, the flush does all of the work.
    fn begin_flush(&self) {}

    /// Appends the extents of `range` (bytes, clipped at the end of the storage) to `out`, in order and
    /// without gaps. A storage without [`StorageCaps::SPARSE`] reports one data extent.
    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()>;

    /// Returns the bytes that this storage occupies in the layer below (for example a sparse file's blocks),
    /// if known.
    async fn allocated_bytes(&self) -> Result<Option<u64>>;

    /// Copies `len` bytes from `source_offset` of `source` to `offset` of this storage, offloaded to the
    /// layer below. Returns `Ok(false)`, with nothing done, if this pair cannot; the caller then copies
    /// through a buffer.
    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool>;

    /// Returns the identity of this storage, or `None` if it has none.
    fn id(&self) -> Option<StorageId>;

    /// Returns `self` for downcasting, so that [`copy_from`](Self::copy_from) can recognise a storage of its
    /// own kind.
    fn as_any(&self) -> &dyn Any;
}

/// Reads into a newly allocated buffer: the default of [`Storage::read_bytes`]. Call it from a storage that
/// has a faster path for some requests only. A buffer of more than 4 MiB is allocated only if the storage is
/// long enough.
///
/// # Errors
/// As [`Storage::read_at`].
pub async fn read_a_copy<S>(storage: &S, offset: u64, len: usize) -> Result<Bytes>
where
    S: Storage + ?Sized,
{
    if len > UNASKED {
        let end = storage.len().await?;
        if offset.checked_add(len as u64).is_none_or(|wanted| wanted > end) {
            let text = format!("{len} bytes go past the end at {end:#x}");
            return Err(Error::new(ErrorKind::OutOfRange, text).at(offset).in_image(storage.uri()));
        }
    }
    let mut buffer = PageBuffer::new(len);
    storage.read_at(offset, &mut buffer).await?;
    Ok(Bytes::from(buffer))
}

/// Generates methods of [`Storage`] that forward to the storage in a field. In the `impl` block of a wrapper:
/// `forward_storage!(below: uri caps flush)`.
///
/// The asynchronous methods have the signature that `async_trait` generates. They return the inner future
/// without boxing it again.
#[macro_export]
macro_rules! forward_storage {
    ($field:ident: $($method:ident)*) => {
        $($crate::forward_storage!(@ $method $field);)*
    };
    (@ uri $field:ident) => {
        fn uri(&self) -> &str {
            self.$field.uri()
        }
    };
    (@ caps $field:ident) => {
        fn caps(&self) -> $crate::StorageCaps {
            self.$field.caps()
        }
    };
    (@ limits $field:ident) => {
        fn limits(&self) -> $crate::StorageLimits {
            self.$field.limits()
        }
    };
    (@ id $field:ident) => {
        fn id(&self) -> Option<$crate::StorageId> {
            self.$field.id()
        }
    };
    (@ begin_flush $field:ident) => {
        fn begin_flush(&self) {
            self.$field.begin_flush();
        }
    };
    (@ try_read_at $field:ident) => {
        fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<$crate::Result<()>> {
            self.$field.try_read_at(offset, buf)
        }
    };
    (@ len $field:ident) => {
        $crate::forward_storage!(@async $field, len() -> u64);
    };
    (@ allocated_bytes $field:ident) => {
        $crate::forward_storage!(@async $field, allocated_bytes() -> Option<u64>);
    };
    (@ flush $field:ident) => {
        $crate::forward_storage!(@async $field, flush() -> ());
    };
    (@ set_len $field:ident) => {
        $crate::forward_storage!(@async $field, set_len(len: u64) -> ());
    };
    (@ read_bytes $field:ident) => {
        $crate::forward_storage!(
            @async $field, read_bytes(offset: u64, len: usize) -> $crate::Bytes);
    };
    (@ allocate $field:ident) => {
        $crate::forward_storage!(@async $field, allocate(offset: u64, len: u64) -> ());
    };
    (@ read_at $field:ident) => {
        fn read_at<'a, 'b, 'c>(
            &'a self,
            offset: u64,
            buf: &'b mut [u8],
        ) -> $crate::BoxFuture<'c, $crate::Result<()>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            self.$field.read_at(offset, buf)
        }
    };
    (@ extents $field:ident) => {
        fn extents<'a, 'b, 'c>(
            &'a self,
            range: ::std::ops::Range<u64>,
            out: &'b mut Vec<$crate::StorageExtent>,
        ) -> $crate::BoxFuture<'c, $crate::Result<()>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            self.$field.extents(range, out)
        }
    };
    (@async $field:ident, $method:ident($($name:ident: $kind:ty),*) -> $answer:ty) => {
        fn $method<'a, 'b>(
            &'a self,
            $($name: $kind),*
        ) -> $crate::BoxFuture<'b, $crate::Result<$answer>>
        where
            'a: 'b,
            Self: 'b,
        {
            self.$field.$method($($name),*)
        }
    };
}
