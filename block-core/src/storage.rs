//! Bytes somewhere: the trait a protocol driver implements and a format driver stands on.

use std::any::Any;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bitflags::bitflags;

use crate::{Bytes, Error, ErrorKind, PageBuffer, Result};

/// Up to so many bytes, memory is asked for before it is known whether the storage is long enough.
const UNASKED: usize = 4 << 20;

bitflags! {
    /// What a storage can do. The conformance suite proves that a storage does what it declares.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct StorageCaps: u32 {
        /// Writes, zeroes and flushes are accepted.
        const WRITE = 1;
        /// [`Storage::set_len`] works, and bytes that a longer length exposes read as zeros.
        const RESIZE = 1 << 1;
        /// [`Storage::write_zeroes`] with [`ZeroMode::Deallocate`] gives the space back.
        const DEALLOCATE = 1 << 2;
        /// [`Storage::extents`] tells holes from data.
        const SPARSE = 1 << 3;
        /// [`Storage::copy_from`] can copy without moving the bytes through this process.
        const COPY = 1 << 4;
        /// Bytes go between the disk and the memory of a request, past the page cache: with
        /// [`Storage::read_bytes`] and [`Storage::write_bytes`] they are not copied. A matter of speed only.
        const DIRECT = 1 << 5;
    }
}

/// How a range is made to read as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroMode {
    /// The range keeps (or gets) its space, so that later writes into it cannot run out of room.
    Allocate,
    /// The range's space is given back where the storage can.
    Deallocate,
}

/// What the lower layer wants requests to look like. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLimits {
    /// Requests that start and end on this boundary are cheapest; any other is accepted too.
    pub preferred_alignment: u32,
    /// Requests larger than this are split by the storage; a caller need not.
    pub preferred_transfer: u32,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self { preferred_alignment: 4096, preferred_transfer: 1 << 20 }
    }
}

/// A run of bytes of a storage that is stored, or is a hole and reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageExtent {
    /// First byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Whether bytes are stored here; if not, the range reads as zeros.
    pub data: bool,
}

/// What makes two storages the same thing: for a host file its device and inode numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageId(pub u64, pub u64);

/// Bytes somewhere: a file, a block device, memory, later a network.
///
/// **Ranges.** A caller promises that `offset + length` does not overflow `i64`. It does not promise
/// that the range lies inside the storage: a read past the end is
/// [`OutOfRange`](crate::ErrorKind::OutOfRange), never silent zeros; a write past the end extends a
/// storage with [`StorageCaps::RESIZE`], the gap reads as zeros, and any other storage answers
/// `OutOfRange`.
///
/// **Dropped futures.** A write whose future is dropped may land, wholly or in part, now or later. A
/// request that overlaps it and was issued after the drop takes effect after it: the storage orders
/// them, its guard belongs to the running operation and not to the future.
///
/// **Failures.** A failed write may have landed in part. A failed flush promises nothing about any
/// write since the last good one: what it was to save may be gone for good while reads still show it. So
/// a storage that cannot tell that nothing was lost fails every later flush too, until it is opened again.
#[async_trait]
#[expect(clippy::len_without_is_empty, reason = "a length is asked for, emptiness never")]
pub trait Storage: Send + Sync + fmt::Debug {
    /// The name this storage was opened by, for messages and for resolving relative references.
    fn uri(&self) -> &str;

    /// What this storage can do.
    fn caps(&self) -> StorageCaps;

    /// Which requests this storage likes.
    fn limits(&self) -> StorageLimits;

    /// Its length in bytes, now.
    async fn len(&self) -> Result<u64>;

    /// Fills `buf` from `offset` (bytes), wholly or not at all.
    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads `len` bytes from `offset` into memory that the storage chooses. One that is read past the page
    /// cache has them in memory of its own, and gives them away without copying; the others make a buffer and
    /// fill it as [`read_at`](Self::read_at) does, which is the default.
    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        read_a_copy(self, offset, len).await
    }

    /// As [`read_at`](Self::read_at), at once; `None` when it could block, and then nothing happened.
    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>>;

    /// Writes all of `buf` at `offset` (bytes). Durable after the next [`flush`](Self::flush).
    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()>;

    /// As [`write_at`](Self::write_at), from memory that the storage keeps for as long as it needs. One that is
    /// written past the page cache writes it from where it is, if that is aligned as a [`PageBuffer`] is; the
    /// others, and the default, do as `write_at` does.
    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.write_at(offset, &bytes).await
    }

    /// Makes `len` bytes at `offset` read as zeros; extends the storage as a write would.
    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()>;

    /// Sets aside room for `len` bytes at `offset`, so that writing there cannot run out of it.
    /// Content and length stay as they are. A storage that cannot answers `Unsupported`.
    async fn allocate(&self, offset: u64, len: u64) -> Result<()>;

    /// Cuts or extends the storage to `len` bytes.
    async fn set_len(&self, len: u64) -> Result<()>;

    /// On return, every write, zeroing and length change that had completed before the call is durable.
    async fn flush(&self) -> Result<()>;

    /// Says that much was written and that a [`flush`](Self::flush) will follow, so that the storage may begin
    /// to make it durable. It promises nothing and reports nothing; it may wait for the disk to take requests,
    /// not for it to finish them. Without it, all of the work is left to the flush.
    fn begin_flush(&self) {}

    /// Appends the extents of `range` (bytes, cut at the end of the storage) to `out`, in order and
    /// without gaps. A storage without [`StorageCaps::SPARSE`] answers one data extent.
    async fn extents(&self, range: Range<u64>, out: &mut Vec<StorageExtent>) -> Result<()>;

    /// The bytes this storage occupies below (a sparse file's blocks), when that is known.
    async fn allocated_bytes(&self) -> Result<Option<u64>>;

    /// Copies `len` bytes from `source_offset` of `source` to `offset` here by means of the layer
    /// below. `Ok(false)`: this pair cannot, nothing was done, copy through a buffer.
    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool>;

    /// What tells this storage from every other; `None` where nothing does.
    fn id(&self) -> Option<StorageId>;

    /// For [`copy_from`](Self::copy_from) between two storages of one kind.
    fn as_any(&self) -> &dyn Any;
}

/// What [`Storage::read_bytes`] does by default, for a storage that has something better for some requests only:
/// copies the bytes into a buffer made for them. One of more than 4 MiB is made only if the storage is long enough.
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

/// Writes methods of [`Storage`] that hand the request to the storage in a field as it is:
/// `forward_storage!(below: uri caps flush)` in the `impl` block of a wrapper.
///
/// The asynchronous ones are in the shape that `async_trait` gives them, and hand on the future below
/// without another box around it.
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
