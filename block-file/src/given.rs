//! Reads into memory that the caller then owns.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use block_core::{BoxFuture, Bytes, Result, read_a_copy};

use crate::queued::Reading;
use crate::storage::FileStorage;

/// A read through the engine that falls back to a plain read when the engine returns fewer bytes. Kept as small as a
/// [`Reading`], for the same reason.
struct ReadGiven<'s> {
    reading: Reading<'s>,
    copying: Option<BoxFuture<'s, Result<Bytes>>>,
}

impl FileStorage {
    /// Reads `len` bytes at `offset`. The range does not go past the greatest offset.
    #[inline]
    pub(crate) fn read_and_give(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        match self.reading(offset, len) {
            Some(reading) => Box::pin(ReadGiven { reading, copying: None }),
            None => Box::pin(read_a_copy(self, offset, len)),
        }
    }
}

impl Future for ReadGiven<'_> {
    type Output = Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(copying) = &mut this.copying {
            return copying.as_mut().poll(cx);
        }
        match Pin::new(&mut this.reading).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(bytes)) if bytes.len() == this.reading.len => Poll::Ready(Ok(bytes)),
            Poll::Ready(_) => {
                let Reading { storage, offset, len, .. } = this.reading;
                let copying = Box::pin(read_a_copy(storage, offset, len));
                this.copying.insert(copying).as_mut().poll(cx)
            }
        }
    }
}
