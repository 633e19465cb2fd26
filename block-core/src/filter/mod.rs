//! Filters: protocols that stand on another protocol and do one thing to what passes.
//!
//! [`register`] adds them to a program's registry, above its default protocol. A filter is named in front
//! of a location, and filters stack: `stats:/images/a.vdi`, `overlay:log:/images/a.vdi`.
//!
//! | scheme | what it does |
//! |---|---|
//! | `stats` | counts requests and bytes; tells them when the storage is dropped |
//! | `log` | tells each request; [`LogStorage`] keeps them, to be played again |
//! | `overlay` | keeps all changes in memory; the storage below stays as it is |

mod log;
mod overlay;
mod stats;

use std::sync::Arc;

use async_trait::async_trait;

pub use log::{LogStorage, Record};
pub use overlay::OverlayStorage;
pub use stats::{Stats, StatsStorage};

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
    for kind in KINDS {
        registry.register_protocol(Arc::new(Filter { kind, base: Arc::clone(&base) }));
    }
    Ok(())
}

const KINDS: [Kind; 3] = [Kind::Stats, Kind::Log, Kind::Overlay];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stats,
    Log,
    Overlay,
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Log => "log",
            Self::Overlay => "overlay",
        }
    }

    async fn over(self, below: Arc<dyn Storage>) -> Result<Arc<dyn Storage>> {
        Ok(match self {
            Self::Stats => StatsStorage::new(below),
            Self::Log => LogStorage::new(below),
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
        self.kind.scheme()
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

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
            storage = kind.over(storage).await?;
        }
        Ok(storage)
    }
}

/// A filter named in front of `location`, and what follows.
fn stacked(location: &str) -> Option<(Kind, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    KINDS.into_iter().find(|kind| kind.scheme() == scheme).map(|kind| (kind, rest))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn filters_stack_and_an_overlay_leaves_the_storage_below_alone() {
        let below = MemStorage::from_bytes(&[1; 10_000]);
        let mut registry = Registry::new();
        assert!(register(&mut registry).is_err(), "nothing to stand on");
        registry.register_protocol(Arc::new(One(Arc::clone(&below))));
        register(&mut registry).unwrap();
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
}
