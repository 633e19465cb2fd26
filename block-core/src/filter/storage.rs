//! A storage whose requests pass a hook.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Hook, Request};
use crate::forward_storage;
use crate::{Bytes, Result, Storage, ZeroMode};

/// Passes every request to a [`Hook`], then to the storage below.
#[derive(Debug)]
pub struct FilteredStorage<H: Hook> {
    below: Arc<dyn Storage>,
    hook: H,
}

impl<H: Hook> FilteredStorage<H> {
    /// Creates a filter over `below`.
    pub fn with(below: Arc<dyn Storage>, hook: H) -> Arc<Self> {
        Arc::new(Self { below, hook })
    }

    /// Calls `go_on`, which forwards the request, only after the hook: the call itself may already do some of
    /// the work.
    async fn pass<T, F: Future<Output = Result<T>> + Send>(
        &self,
        request: Request<'_>,
        go_on: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        let result = match self.hook.before(&request).await {
            Ok(()) => go_on().await,
            Err(refused) => Err(refused.in_image(self.below.uri())),
        };
        self.hook.after(self.below.uri(), &request, result.as_ref().err());
        result
    }
}

impl<H: Hook> Deref for FilteredStorage<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hook
    }
}

impl<H: Hook> Drop for FilteredStorage<H> {
    fn drop(&mut self) {
        self.hook.done(self.below.uri());
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<H: Hook> Storage for FilteredStorage<H> {
    forward_storage!(below: uri caps limits len begin_flush extents allocated_bytes id);

    async fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let request = Request::Read { offset, len: buf.len() as u64 };
        self.pass(request, || self.below.read_at(offset, buf)).await
    }

    async fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        let request = Request::Read { offset, len: len as u64 };
        self.pass(request, || self.below.read_bytes(offset, len)).await
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<Result<()>> {
        let request = Request::Read { offset, len: buf.len() as u64 };
        let answer = match self.hook.before_nowait(&request)? {
            Ok(()) => self.below.try_read_at(offset, buf)?,
            Err(refused) => Err(refused.in_image(self.below.uri())),
        };
        self.hook.after(self.below.uri(), &request, answer.as_ref().err());
        Some(answer)
    }

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let request = Request::Write { offset, bytes: buf };
        self.pass(request, || self.below.write_at(offset, buf)).await
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let request = Request::Write { offset, bytes: &bytes };
        self.pass(request, || self.below.write_bytes(offset, bytes.clone())).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        let request = Request::Zeroes { offset, len, mode };
        self.pass(request, || self.below.write_zeroes(offset, len, mode)).await
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.pass(Request::Allocate { offset, len }, || self.below.allocate(offset, len)).await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.pass(Request::SetLen(len), || self.below.set_len(len)).await
    }

    async fn flush(&self) -> Result<()> {
        self.pass(Request::Flush, || self.below.flush()).await
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        if !self.hook.lets_copy() {
            return Ok(false);
        }
        let request = Request::Copy { offset, len };
        self.hook.before(&request).await.map_err(|refused| refused.in_image(self.below.uri()))?;
        let copied = self.below.copy_from(offset, source, source_offset, len).await;
        if !matches!(copied, Ok(false)) {
            self.hook.after(self.below.uri(), &request, copied.as_ref().err());
        }
        copied
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
