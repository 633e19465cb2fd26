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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testkit::exec::block_on;
    use crate::{MemStorage, StorageOptions};

    #[derive(Debug)]
    struct One(Arc<MemStorage>);

    #[async_trait]
    impl ProtocolDriver for One {
        fn scheme(&self) -> &'static str {
            "one"
        }

        fn open_options(&self) -> &'static [OptionSpec] {
            &[]
        }

        async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
            match location {
                "a" => Ok(Arc::clone(&self.0) as Arc<dyn Storage>),
                _ => Err(Error::new(ErrorKind::NotFound, location.to_owned())),
            }
        }
    }

    fn registry(below: &Arc<MemStorage>) -> Registry {
        let mut registry = Registry::new();
        assert!(register(&mut registry).is_err(), "nothing to stand on");
        registry.register_protocol(Arc::new(One(Arc::clone(below))));
        register(&mut registry).unwrap();
        registry
    }

    fn opened(below: &Arc<MemStorage>, uri: &str, options: &[(&str, &str)]) -> Arc<dyn Storage> {
        let registry = registry(below);
        let (protocol, location) = registry.protocol(uri).unwrap();
        let mut all = StorageOptions::new(StorageAccess::ReadWrite);
        for (name, value) in options {
            all.options.set(protocol.open_options(), name, value).unwrap();
        }
        block_on(protocol.open(location, &all)).unwrap()
    }

    #[test]
    fn filters_stack_and_an_overlay_leaves_the_storage_below_alone() {
        let below = MemStorage::from_bytes(&[1; 10_000]);
        let registry = registry(&below);
        let options = StorageOptions::new(StorageAccess::ReadWrite);
        block_on(async {
            let storage = registry.open_storage("stats:overlay:log:a", &options).await.unwrap();
            storage.write_at(5000, &[2; 6000]).await.unwrap();
            let stats = storage.as_any().downcast_ref::<StatsStorage>().unwrap();
            assert_eq!((stats.stats().writes, stats.stats().bytes_written), (1, 6000));
            let mut found = vec![0; 11_000];
            storage.read_at(0, &mut found).await.unwrap();
            assert_eq!(found, [vec![1; 5000], vec![2; 6000]].concat());
            assert!(registry.open_storage("log:b", &options).await.is_err());
        });
        assert_eq!(below.to_bytes().unwrap(), [1; 10_000]);
    }

    #[test]
    fn the_third_write_fails_as_told_and_no_other_request_does() {
        let below = MemStorage::from_bytes(&[0; 4096]);
        let words = [("op", "write"), ("after", "2"), ("times", "2"), ("error", "enospc")];
        let storage = opened(&below, "fault:a", &words);
        block_on(async {
            let mut answers = Vec::new();
            for at in 0..6 {
                storage.read_at(0, &mut [0; 8]).await.unwrap();
                answers.push(storage.write_at(at * 8, &[7; 8]).await.map_err(|e| e.kind()));
                storage.flush().await.unwrap();
            }
            let full = Err(ErrorKind::NoSpace);
            assert_eq!(answers, [Ok(()), Ok(()), full, full, Ok(()), Ok(())]);
        });
        let bytes = below.to_bytes().unwrap();
        assert_eq!([bytes[8], bytes[16], bytes[24], bytes[32]], [7, 0, 0, 7]);
    }

    #[test]
    fn a_throttle_takes_the_time_it_is_told_and_not_much_more() {
        let below = MemStorage::from_bytes(&[0; 4096]);
        let time = |words: &[(&str, &str)]| {
            let storage = opened(&below, "throttle:a", words);
            let start = Instant::now();
            for _ in 0..20 {
                block_on(storage.write_at(0, &[7; 1000])).unwrap();
            }
            start.elapsed()
        };
        assert!(time(&[("iops", "200")]) >= Duration::from_millis(95));
        assert!(time(&[("bps", "200k")]) >= Duration::from_millis(90));
        // Other programs may hold this one up, but not by what the slow ones above take.
        assert!(time(&[("iops", "1000000"), ("bps", "1G")]) < Duration::from_millis(90));
    }
}
