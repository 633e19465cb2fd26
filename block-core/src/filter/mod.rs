//! Filters: ordinary drivers that wrap another driver and do one thing to the requests that pass.
//!
//! [`register`] adds them to a program's registry, on top of its default protocol.
//!
//! As a **protocol**, a filter is named in front of a location, and filters stack: `stats:/images/a.vdi`,
//! `overlay:log:/images/a.vdi`. It sees the requests of the format driver to the file. As a **format**, it wraps
//! the driver of the image (`format=`, or detected) and sees the requests of the guest to the disk. With
//! `--image-opts`:
//!
//! ```text
//! driver=vdi,file.driver=throttle,file.bps=10M,file.filename=a.vdi     the file, 10 MiB/s
//! driver=throttle,iops=100,format=vdi,file.filename=a.vdi              the disk, 100 requests/s
//! ```
//!
//! | name | what it does | for files | for disks |
//! |---|---|---|---|
//! | `stats` | counts requests and bytes; logs the counters when the storage is dropped | yes | yes |
//! | `log` | logs each request; [`LogStorage`] can record them for replay | yes | yes |
//! | `throttle` | limits bytes (`bps`) and requests (`iops`) per second | yes | yes |
//! | `fault` | fails requests: which (`op`, `at`), after how many (`after`), how many (`times`), how (`error`); or several `rules` | yes | yes |
//! | `overlay` | keeps all changes in memory; the storage below is only read | yes | no: use one of the file |
//!
//! Power cuts are not simulated by a filter: that takes a record of all writes, and time to try every state that
//! a cut may leave. The crash simulator of the `testkit` does that.

mod device;
mod driver;
pub mod fault;
mod hook;
mod log;
mod overlay;
mod stats;
mod storage;
pub mod throttle;

use std::sync::Arc;

use async_trait::async_trait;

pub use device::FilteredDevice;
pub use driver::FilterDriver;
pub use fault::FaultHook;
pub use hook::{Hook, Request};
pub use log::{LogHook, LogStorage, Record};
pub use overlay::OverlayStorage;
pub use stats::{Stats, StatsHook, StatsStorage};
pub use storage::FilteredStorage;
pub use throttle::ThrottleHook;

use crate::{
    Error, ErrorKind, OptionSpec, Options, ProtocolDriver, Registry, Result, Storage,
    StorageAccess, StorageOptions,
};

/// Registers all filters, on top of the protocol that opens bare paths.
///
/// # Errors
/// `Unsupported` if `registry` has no protocol yet.
pub fn register(registry: &mut Registry) -> Result<()> {
    let base =
        registry.protocols().first().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "filters need a protocol to stand on")
        })?;
    for kind in Kind::ALL {
        registry.register_protocol(Arc::new(Filter { kind, base: Arc::clone(&base) }));
        if kind != Kind::Overlay {
            registry.register(Arc::new(FilterDriver::new(kind)));
        }
    }
    Ok(())
}

/// The kind of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Counts requests.
    Stats,
    /// Logs requests.
    Log,
    /// Limits the rate.
    Throttle,
    /// Injects errors.
    Fault,
    /// Keeps changes in memory.
    Overlay,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Stats, Self::Log, Self::Throttle, Self::Fault, Self::Overlay];

    /// Returns the name of the filter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Log => "log",
            Self::Throttle => "throttle",
            Self::Fault => "fault",
            Self::Overlay => "overlay",
        }
    }

    fn options(self) -> &'static [OptionSpec] {
        match self {
            Self::Throttle => throttle::OPTIONS,
            Self::Fault => fault::OPTIONS,
            Self::Stats | Self::Log | Self::Overlay => &[],
        }
    }

    async fn over(self, below: Arc<dyn Storage>, options: &Options) -> Result<Arc<dyn Storage>> {
        Ok(match self {
            Self::Stats => StatsStorage::new(below),
            Self::Log => LogStorage::new(below),
            Self::Throttle => FilteredStorage::with(below, ThrottleHook::new(options)),
            Self::Fault => FilteredStorage::with(below, FaultHook::new(options)?),
            Self::Overlay => OverlayStorage::new(below).await?,
        })
    }
}

/// A filter as a protocol.
#[derive(Debug)]
struct Filter {
    kind: Kind,
    base: Arc<dyn ProtocolDriver>,
}

#[async_trait]
impl ProtocolDriver for Filter {
    fn scheme(&self) -> &'static str {
        self.kind.name()
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        self.kind.options()
    }

    /// Opens the stack of filters. `options` apply to the first filter; the filters behind it use their
    /// defaults.
    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let mut kinds = vec![self.kind];
        let mut location = location;
        while let Some((kind, rest)) = stacked(location) {
            kinds.push(kind);
            location = rest;
        }
        let mut below = options.clone().options(Options::new());
        // An overlay keeps writes in memory: the file is only read, and must exist.
        if kinds.contains(&Kind::Overlay) {
            below.access = StorageAccess::Read;
        }
        let mut storage = self.base.open(location, &below).await?;
        while let Some(kind) = kinds.pop() {
            let own = if kinds.is_empty() { &options.options } else { &below.options };
            storage = kind.over(storage, own).await?;
        }
        Ok(storage)
    }
}

/// Returns the filter named in front of `location`, and the rest.
fn stacked(location: &str) -> Option<(Kind, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    Kind::ALL.into_iter().find(|kind| kind.name() == scheme).map(|kind| (kind, rest))
}
