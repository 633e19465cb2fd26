//! What a filter is asked: before a request goes on, and after it came back.

use std::fmt;

use async_trait::async_trait;

use crate::{Result, ZeroMode};

/// A request to a storage, or to a disk, on its way. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Bytes are read.
    Read {
        /// From here on.
        offset: u64,
        /// So many.
        len: u64,
    },
    /// Bytes are written.
    Write {
        /// From here on.
        offset: u64,
        /// These.
        bytes: &'a [u8],
    },
    /// Bytes are zeroed.
    Zeroes {
        /// From here on.
        offset: u64,
        /// So many.
        len: u64,
        /// And their space.
        mode: ZeroMode,
    },
    /// The content of a range is of no interest any more.
    Discard {
        /// From here on.
        offset: u64,
        /// So many.
        len: u64,
    },
    /// Room is set aside.
    Allocate {
        /// From here on.
        offset: u64,
        /// So many.
        len: u64,
    },
    /// The length is set.
    SetLen(u64),
    /// All is made durable.
    Flush,
    /// Bytes are copied by the layer below.
    Copy {
        /// To here.
        offset: u64,
        /// So many.
        len: u64,
    },
}

impl Request<'_> {
    /// What it is called.
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

    /// Where it begins, and how many bytes it is about.
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

/// One thing done to requests that pass, of a [`FilteredStorage`](super::FilteredStorage) or a
/// [`FilteredDevice`](super::FilteredDevice).
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// The request is about to go on. An error refuses it; a long answer holds it up.
    async fn before(&self, request: &Request<'_>) -> Result<()>;

    /// As [`before`](Self::before), at once; `None` when that cannot be, and then nothing happened: by default.
    fn before_at_once(&self, _request: &Request<'_>) -> Option<Result<()>> {
        None
    }

    /// The request to `uri` came back with `error`, or was done. By default, that is of no interest.
    fn after(&self, _uri: &str, _request: &Request<'_>, _error: Option<&crate::Error>) {}

    /// Whether the layer below may copy on its own, so that the bytes do not pass. By default, it may not.
    fn lets_copy(&self) -> bool {
        false
    }

    /// The storage or disk is used no longer. By default, that is of no interest.
    fn done(&self, _uri: &str) {}
}
