//! The bytes of a write, which the storage may keep or has to copy.

use std::ops::Range;

use crate::{Bytes, Result, Storage, bug};

/// The bytes of a write.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// The caller's: the storage may only look at them.
    Lent(&'a [u8]),
    /// The storage may keep them until they are written.
    Given(&'a Bytes),
}

impl<'a> Payload<'a> {
    /// All of them.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }

    /// Writes those in `range`, which is not empty, at `offset` of the storage.
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
