//! Fails requests as told, to see what the programs above do.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{Hook, Request};
use crate::{Error, ErrorKind, OptionKind, OptionSpec, Options, Result};

/// Fails requests of some kind, after a number of them has passed.
#[derive(Debug)]
pub struct FaultHook {
    /// The kind, by its option's word; `any`: all.
    op: String,
    after: u64,
    times: u64,
    kind: ErrorKind,
    seen: AtomicU64,
}

/// What the filter can be told.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "op",
        kind: OptionKind::Choice(&["any", "read", "write", "zero", "flush", "resize"]),
        default: Some("any"),
        help: "which requests fail",
    },
    OptionSpec {
        name: "after",
        kind: OptionKind::Number { min: 0, max: u64::MAX },
        default: Some("0"),
        help: "how many of them pass before the first fails",
    },
    OptionSpec {
        name: "times",
        kind: OptionKind::Number { min: 1, max: u64::MAX },
        default: Some("1"),
        help: "how many fail",
    },
    OptionSpec {
        name: "error",
        kind: OptionKind::Choice(&["eio", "enospc"]),
        default: Some("eio"),
        help: "how they fail",
    },
];

impl FaultHook {
    /// As `options` (parsed against [`OPTIONS`]) say.
    pub fn new(options: &Options) -> Self {
        Self {
            op: options.text("op").unwrap_or("any").to_owned(),
            after: options.number("after").unwrap_or(0),
            times: options.number("times").unwrap_or(1),
            kind: match options.text("error") {
                Some("enospc") => ErrorKind::NoSpace,
                _ => ErrorKind::Io,
            },
            seen: AtomicU64::new(0),
        }
    }

    fn strikes(&self, request: &Request<'_>) -> Result<()> {
        let op = match request {
            Request::Read { .. } => "read",
            Request::Write { .. } | Request::Copy { .. } => "write",
            Request::Zeroes { .. } | Request::Discard { .. } | Request::Allocate { .. } => "zero",
            Request::Flush => "flush",
            Request::SetLen(_) => "resize",
        };
        if self.op != "any" && self.op != op {
            return Ok(());
        }
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        if before < self.after || before - self.after >= self.times {
            return Ok(());
        }
        let (offset, len) = request.range();
        let text = format!("injected: {} of {len} bytes fails", request.name());
        Err(Error::new(self.kind, text).at(offset))
    }
}

#[async_trait]
impl Hook for FaultHook {
    async fn before(&self, request: &Request<'_>) -> Result<()> {
        // Not at once too: a read that is tried and then sent again must not count twice.
        self.strikes(request)
    }
}
