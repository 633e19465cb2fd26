//! Injects errors, to test the programs above.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{Hook, Request};
use crate::options::split_list;
use crate::{Error, ErrorKind, OptionKind, OptionSpec, Options, Result};

/// Fails requests according to its rules. The first rule that applies determines the error.
#[derive(Debug)]
pub struct FaultHook {
    rules: Vec<Rule>,
}

/// Fails requests of one kind, after a number of them has passed.
#[derive(Debug)]
struct Rule {
    /// Kind of request, as in the option. `any`: all.
    op: String,
    /// Offset of a byte that the request must touch.
    at: Option<u64>,
    after: u64,
    times: u64,
    kind: ErrorKind,
    seen: AtomicU64,
}

/// Options of the filter.
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
    OptionSpec {
        name: "at",
        kind: OptionKind::Size { min: 0, max: u64::MAX },
        default: None,
        help: "only those that touch this byte",
    },
    RULES,
];

/// Several rules, separated by semicolons. Each is a list of the options above.
const RULES: OptionSpec = OptionSpec {
    name: "rules",
    kind: OptionKind::Text,
    default: None,
    help: "instead of one rule several, between semicolons: op=read,at=512;op=flush",
};

impl FaultHook {
    /// Creates the filter from `options`, which were parsed against [`OPTIONS`].
    ///
    /// # Errors
    /// `InvalidInput` if `rules` is combined with another option, or is not a list of rules.
    pub fn new(options: &Options) -> Result<Self> {
        let Some(rules) = options.text("rules") else {
            return Ok(Self { rules: vec![Rule::new(options)] });
        };
        let words = OPTIONS.split_last().map_or(&[][..], |(_, words)| words);
        if let Some(other) = words.iter().find(|word| options.is_set(word.name)) {
            let message = format!("'rules' and '{}' cannot be given together", other.name);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let rule = |text: &str| {
            let pairs: Vec<(String, String)> = split_list(text)
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect();
            Ok(Rule::new(&Options::of(&pairs, words)?))
        };
        let rules = rules.split(';').filter(|text| !text.is_empty());
        Ok(Self { rules: rules.map(rule).collect::<Result<_>>()? })
    }
}

impl Rule {
    fn new(options: &Options) -> Self {
        Self {
            op: options.text("op").unwrap_or("any").to_owned(),
            at: options.number("at"),
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
        let (offset, len) = request.range();
        let elsewhere = |at: &u64| at.checked_sub(offset).is_none_or(|within| within >= len);
        if self.at.as_ref().is_some_and(elsewhere) {
            return Ok(());
        }
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        if before < self.after || before - self.after >= self.times {
            return Ok(());
        }
        let text = format!("injected: {} of {len} bytes fails", request.name());
        Err(Error::new(self.kind, text).at(offset))
    }
}

#[async_trait]
impl Hook for FaultHook {
    async fn before(&self, request: &Request<'_>) -> Result<()> {
        // Not in `before_nowait` too: a read that is tried without waiting and then repeated must not count
        // twice.
        self.rules.iter().try_for_each(|rule| rule.strikes(request))
    }
}
