//! Filters: ordinary drivers that stand on another one and do one thing to what passes.
//!
//! [`register`] adds them to a program's registry, above its default protocol.
//!
//! As a **protocol** a filter is named in front of a location, and filters stack: `stats:/images/a.vdi`,
//! `overlay:log:/images/a.vdi`. It sees what a format driver asks of the file. As a **format** it stands on
//! the driver of the image (`format=`, or found out) and sees what a guest asks of the disk. In the words of
//! `--image-opts`:
//!
//! ```text
//! driver=vdi,file.driver=throttle,file.bps=10M,file.filename=a.vdi     the file, 10 MiB/s
//! driver=throttle,iops=100,format=vdi,file.filename=a.vdi              the disk, 100 requests/s
//! ```
//!
//! | name | what it does | of files | of disks |
//! |---|---|---|---|
//! | `stats` | counts requests and bytes; tells them when the storage is dropped | yes | yes |
//! | `log` | tells each request; [`LogStorage`] keeps them, to be played again | yes | yes |
//! | `throttle` | lets so many bytes (`bps`) and requests (`iops`) pass in a second | yes | yes |
//! | `fault` | fails requests: which (`op`, `at`), after how many (`after`), how many (`times`), how (`error`); or several `rules` | yes | yes |
//! | `overlay` | keeps all changes in memory; the storage below stays as it is | yes | no: an overlay of the file serves |
//!
//! Power cuts are no filter: they take a record of all that was written, and time to go through what a cut
//! may leave. The crash simulator of the `testkit` does that.

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

/// Adds all filters, above the protocol that opens bare paths.
///
/// # Errors
/// `Unsupported` when `registry` has no protocol yet.
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

/// A filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Counts.
    Stats,
    /// Tells.
    Log,
    /// Holds up.
    Throttle,
    /// Fails.
    Fault,
    /// Keeps changes in memory.
    Overlay,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Stats, Self::Log, Self::Throttle, Self::Fault, Self::Overlay];

    /// Its name.
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

    /// The options are those of the first filter; filters behind it do what they do without any.
    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let mut kinds = vec![self.kind];
        let mut location = location;
        while let Some((kind, rest)) = stacked(location) {
            kinds.push(kind);
            location = rest;
        }
        let mut below = options.clone().options(Options::new());
        // What an overlay is written to stays in memory: the file is only read, and must be there.
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

/// A filter named in front of `location`, and what follows.
fn stacked(location: &str) -> Option<(Kind, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    Kind::ALL.into_iter().find(|kind| kind.name() == scheme).map(|kind| (kind, rest))
}
