//! A filter as a format: it wraps the driver of the image and sees the requests to the disk.

use std::sync::Arc;

use async_trait::async_trait;

use super::fault::OPTIONS as FAULT;
use super::log::LogHook;
use super::stats::StatsHook;
use super::throttle::OPTIONS as THROTTLE;
use super::{FaultHook, FilteredDevice, Kind, ThrottleHook};
use crate::probe::{Probe, ProbeInput};
use crate::{
    Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor, Error,
    ErrorKind, Identity, Measure, OpenContext, OptionKind, OptionSpec, Options, Result, Storage,
};

/// A filter of disks. It recognises no files, so the caller has to name it.
#[derive(Debug)]
pub struct FilterDriver {
    kind: Kind,
}

/// The driver of the wrapped image.
const FORMAT: OptionSpec = OptionSpec {
    name: "format",
    kind: OptionKind::Text,
    default: None,
    help: "the format below (default: find out)",
};

const fn descriptor(
    name: &'static str,
    long_name: &'static str,
    open_options: &'static [OptionSpec],
) -> Descriptor {
    Descriptor {
        name,
        long_name,
        extensions: &[],
        can_create: false,
        can_check: false,
        can_repair: false,
        has_parents: false,
        open_options,
        create_options: &[],
        amend_options: &[],
    }
}

static PLAIN_OPTIONS: [OptionSpec; 1] = [FORMAT];
static SLOW_OPTIONS: [OptionSpec; 3] = [FORMAT, THROTTLE[0], THROTTLE[1]];
static FAILING_OPTIONS: [OptionSpec; 7] =
    [FORMAT, FAULT[0], FAULT[1], FAULT[2], FAULT[3], FAULT[4], FAULT[5]];

static STATS: Descriptor = descriptor("stats", "a filter that counts requests", &PLAIN_OPTIONS);
static LOG: Descriptor = descriptor("log", "a filter that tells requests", &PLAIN_OPTIONS);
static SLOW: Descriptor = descriptor("throttle", "a filter that holds requests up", &SLOW_OPTIONS);
static FAILING: Descriptor = descriptor("fault", "a filter that fails requests", &FAILING_OPTIONS);

impl FilterDriver {
    /// Creates the filter of this kind. An overlay filters files only and is treated as `log`.
    pub fn new(kind: Kind) -> Self {
        Self { kind }
    }

    fn unsupported(&self) -> Error {
        let text = format!("'{}' is a filter: name the format below", self.kind.name());
        Error::new(ErrorKind::Unsupported, text)
    }

    /// The driver of the wrapped image.
    async fn below(
        &self,
        storage: &dyn Storage,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDriver>> {
        let registry = cx.registry();
        let driver = match options.text("format") {
            Some(name) => registry.driver(name)?,
            None => {
                let input = registry.probe_input(storage, Some(storage.uri())).await?;
                let report = registry.recognise(&input);
                if report.is_raw() && access == Access::ReadWrite {
                    // A write must not turn a disk that was only guessed to be raw into another format.
                    return Err(Error::new(ErrorKind::Denied, "the format below was only guessed")
                        .in_image(storage.uri())
                        .with_hint("name it: format=raw"));
                }
                registry.driver_of(&report, storage.uri())?
            }
        };
        let name = driver.descriptor().name;
        if Kind::ALL.into_iter().any(|kind| kind.name() == name) {
            return Err(self.unsupported());
        }
        Ok(Arc::clone(driver))
    }
}

#[async_trait]
impl BlockDriver for FilterDriver {
    fn descriptor(&self) -> &'static Descriptor {
        match self.kind {
            Kind::Stats => &STATS,
            Kind::Throttle => &SLOW,
            Kind::Fault => &FAILING,
            Kind::Log | Kind::Overlay => &LOG,
        }
    }

    fn probe(&self, _: &ProbeInput) -> Probe {
        Probe::none(self.descriptor().name)
    }

    /// Returns `None`: the caller has to name a filter, and also the parent that it filters.
    async fn identity(&self, _: &dyn Storage) -> Result<Option<Identity>> {
        Ok(None)
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        options: &Options,
        access: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let driver = self.below(&*storage, options, access, cx).await?;
        let below = driver.open(storage, &Options::new(), access, cx).await?;
        Ok(match self.kind {
            Kind::Stats => FilteredDevice::with(below, StatsHook::default()),
            Kind::Throttle => FilteredDevice::with(below, ThrottleHook::new(options)),
            Kind::Fault => FilteredDevice::with(below, FaultHook::new(options)?),
            Kind::Log | Kind::Overlay => FilteredDevice::with(below, LogHook::default()),
        })
    }

    async fn create(&self, _: Arc<dyn Storage>, _: &CreateRequest, _: &OpenContext) -> Result<()> {
        Err(self.unsupported())
    }

    async fn check(
        &self,
        _: Arc<dyn Storage>,
        _: CheckMode,
        _: &OpenContext,
    ) -> Result<CheckReport> {
        Err(self.unsupported())
    }

    fn measure(&self, _: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
        Err(self.unsupported())
    }
}
