//! The interface of a filter: called before a request is forwarded, and after it completed.

use std::fmt;

use async_trait::async_trait;

use crate::{Result, ZeroMode};

/// A request to a storage or a disk. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Reads bytes.
    Read {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Writes bytes.
    Write {
        /// First byte.
        offset: u64,
        /// Data to write.
        bytes: &'a [u8],
    },
    /// Zeros bytes.
    Zeroes {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// What happens to the space of the range.
        mode: ZeroMode,
    },
    /// Declares the content of a range unneeded.
    Discard {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Reserves space.
    Allocate {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Sets the length.
    SetLen(u64),
    /// Makes everything durable.
    Flush,
    /// Copies bytes in the layer below.
    Copy {
        /// First byte of the destination.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
}

impl Request<'_> {
    /// Returns the name of the request.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Zeroes { .. } => "zero",
            Self::Discard { .. } => "discard",
            Self::Allocate { .. } => "allocate",
            Self::SetLen(_) => "set the length to",
            Self::Flush => "flush",
            Self::Copy { .. } => "copy",
        }
    }

    /// Returns the offset and length of the request.
    pub fn range(&self) -> (u64, u64) {
        match *self {
            Self::Read { offset, len }
            | Self::Zeroes { offset, len, .. }
            | Self::Discard { offset, len }
            | Self::Allocate { offset, len }
            | Self::Copy { offset, len } => (offset, len),
            Self::Write { offset, bytes } => (offset, bytes.len() as u64),
            Self::SetLen(len) => (0, len),
            Self::Flush => (0, 0),
        }
    }
}

/// An action on the requests that pass a [`FilteredStorage`](super::FilteredStorage) or a
/// [`FilteredDevice`](super::FilteredDevice).
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Called before the request is forwarded. An error rejects the request; waiting delays it.
    async fn before(&self, request: &Request<'_>) -> Result<()>;

    /// Does the same as [`before`](Self::before) without waiting. Returns `None` without any effect if that
    /// is not possible, which is the default.
    fn before_nowait(&self, _request: &Request<'_>) -> Option<Result<()>> {
        None
    }

    /// Called after the request to `uri` completed, or failed with `error`. The default does nothing.
    fn after(&self, _uri: &str, _request: &Request<'_>, _error: Option<&crate::Error>) {}

    /// Returns whether the layer below may copy on its own, so that the bytes bypass the filter. The default
    /// is `false`.
    fn lets_copy(&self) -> bool {
        false
    }

    /// Called when the filter over the storage or disk is dropped. The default does nothing.
    fn done(&self, _uri: &str) {}
}
