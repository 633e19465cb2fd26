//! The bytes of a write: borrowed from the caller, or owned so that the storage may keep them.

use std::ops::Range;

use crate::{Bytes, Result, Storage, bug};

/// The bytes of a write.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// Borrowed from the caller. The storage must copy bytes that it keeps.
    Lent(&'a [u8]),
    /// Owned memory. The storage may keep it until it is written.
    Given(&'a Bytes),
}

impl<'a> Payload<'a> {
    /// Returns all bytes.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }

    /// Writes the bytes in `range`, which is not empty, at `offset` of the storage.
    pub async fn write(
        &self,
        storage: &dyn Storage,
        offset: u64,
        range: Range<usize>,
    ) -> Result<()> {
        match (self, self.bytes().get(range.clone())) {
            (_, None | Some([])) => Err(bug("a part of a write lies outside of its bytes")),
            (Self::Lent(_), Some(bytes)) => storage.write_at(offset, bytes).await,
            (Self::Given(all), Some(_)) => storage.write_bytes(offset, all.slice(range)).await,
        }
    }
}
