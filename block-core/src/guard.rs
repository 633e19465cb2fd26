//! Keeping a disk that was detected, as raw or by its trailer alone, from turning into something else.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::RwLock;

use crate::probe::{ProbeInput, ReadPlan};
use crate::storage::forward_storage;
use crate::{Bytes, Error, ErrorKind, Registry, Result, Storage, ZeroMode};

/// A storage whose format was found out by looking, not declared.
///
/// Whoever writes to a raw disk chooses all of its bytes. If they may write what another format begins or ends with,
/// the next program that looks opens other files or another disk. So a write, a zeroing or a new length that would
/// lead probing to another driver is refused. All windows that probing reads are watched, not the first sector only.
#[derive(Debug)]
pub(crate) struct GuardedStorage {
    inner: Arc<dyn Storage>,
    registry: Arc<Registry>,
    /// The driver that probing has to lead to.
    driver: &'static str,
    /// The byte ranges that probing reads. Requests elsewhere share the lock, those inside hold it alone.
    watched: RwLock<Vec<Range<u64>>>,
}

/// Ranges that are watched at most; the plan itself reads fewer.
const MOST_RANGES: usize = 1024;

/// What a request would make of the storage.
#[derive(Clone, Copy, Debug)]
enum Change<'a> {
    Write { offset: u64, bytes: &'a [u8] },
    Zero { offset: u64, len: u64 },
    Length(u64),
}

impl Change<'_> {
    /// The bytes it changes.
    fn range(&self) -> Range<u64> {
        match *self {
            Self::Write { offset, bytes } => offset..offset.saturating_add(bytes.len() as u64),
            Self::Zero { offset, len } => offset..offset.saturating_add(len),
            Self::Length(len) => len..len,
        }
    }

    fn len_after(&self, len: u64) -> u64 {
        match self {
            Self::Length(after) => *after,
            _ => len.max(self.range().end),
        }
    }

    /// Lays the change over `window`, which was read at `start`.
    fn apply(&self, start: u64, window: &mut [u8]) {
        let range = self.range();
        for (byte, at) in window.iter_mut().zip(start..) {
            if range.contains(&at) {
                *byte = match self {
                    Self::Write { offset, bytes } => usize::try_from(at - offset)
                        .ok()
                        .and_then(|at| bytes.get(at))
                        .copied()
                        .unwrap_or(0),
                    _ => 0,
                };
            }
        }
    }
}

impl GuardedStorage {
    /// Guards `inner`, whose probing read the windows of `input` and led to `driver`.
    pub(crate) fn new(
        inner: Arc<dyn Storage>,
        registry: Arc<Registry>,
        driver: &'static str,
        input: &ProbeInput,
    ) -> Self {
        Self { inner, registry, driver, watched: RwLock::new(ranges(input)) }
    }

    /// Whether the request changes what probing reads.
    fn touches(watched: &[Range<u64>], change: &Change<'_>, len: u64) -> bool {
        let range = change.range();
        change.len_after(len) != len
            || watched.iter().any(|window| range.start < window.end && window.start < range.end)
    }

    /// The windows that probing would read after the change.
    async fn after(&self, change: &Change<'_>, len: u64) -> Result<ProbeInput> {
        let mut plan = ReadPlan::new(change.len_after(len), Some(self.inner.uri()));
        loop {
            let round = plan.next_round();
            if round.is_empty() {
                return Ok(plan.finish());
            }
            for request in round {
                let mut window = vec![0; request.len];
                let stored = usize::try_from(len.saturating_sub(request.offset))
                    .unwrap_or(usize::MAX)
                    .min(request.len);
                if let Some(stored) = window.get_mut(..stored).filter(|stored| !stored.is_empty()) {
                    self.inner.read_at(request.offset, stored).await?;
                }
                change.apply(request.offset, &mut window);
                plan.supply(request.offset, window);
            }
        }
    }

    /// Refuses a change after which probing would lead elsewhere; otherwise watches what probing would read then, too.
    async fn admit(
        &self,
        watched: &mut Vec<Range<u64>>,
        change: &Change<'_>,
        len: u64,
    ) -> Result<()> {
        let input = self.after(change, len).await?;
        let report = self.registry.recognise(&input);
        let same = self
            .registry
            .driver_of(&report, self.inner.uri())
            .is_ok_and(|driver| driver.descriptor().name == self.driver);
        if !same && !input.is_empty() {
            let what = report.selected.clone().unwrap_or_else(|| "something ambiguous".to_owned());
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "the disk was detected as {}, and after this it would look like {what}",
                    self.driver
                ),
            )
            .at(change.range().start)
            .in_image(self.inner.uri())
            .with_code("raw-guard")
            .with_hint(format!(
                "give `-f {}` to say that the disk may hold anything",
                self.driver
            )));
        }
        // The old ranges stay: if the change fails half-way, either state may be the true one.
        for range in ranges(&input) {
            if !watched.contains(&range) {
                watched.push(range);
            }
        }
        if watched.len() > MOST_RANGES {
            *watched = ranges(&input);
        }
        Ok(())
    }
}

fn ranges(input: &ProbeInput) -> Vec<Range<u64>> {
    input.windows().into_iter().map(|(start, len)| start..start.saturating_add(len)).collect()
}

/// Does a request under the guard: `$change` is checked if it touches what probing reads.
macro_rules! guarded {
    ($self:ident, $change:expr, $request:expr) => {{
        let change = $change;
        let watched = $self.watched.read().await;
        if !Self::touches(&watched, &change, $self.inner.len().await?) {
            return $request.await;
        }
        drop(watched);
        let mut watched = $self.watched.write().await;
        let len = $self.inner.len().await?;
        $self.admit(&mut watched, &change, len).await?;
        $request.await
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for GuardedStorage {
    forward_storage!(inner: uri caps limits len allocated_bytes id extents);
    forward_storage!(inner: read_at read_bytes try_read_at allocate flush begin_flush);

    async fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        guarded!(self, Change::Write { offset, bytes: buf }, self.inner.write_at(offset, buf))
    }

    async fn write_bytes(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let change = Change::Write { offset, bytes: &bytes };
        guarded!(self, change, self.inner.write_bytes(offset, bytes.clone()))
    }

    async fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        guarded!(self, Change::Zero { offset, len }, self.inner.write_zeroes(offset, len, mode))
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        guarded!(self, Change::Length(len), self.inner.set_len(len))
    }

    async fn copy_from(
        &self,
        offset: u64,
        source: &dyn Storage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let watched = self.watched.read().await;
        // What the layer below copies is not seen here, so that only places nobody probes are copied by it.
        if Self::touches(&watched, &Change::Zero { offset, len }, self.inner.len().await?) {
            return Ok(false);
        }
        self.inner.copy_from(offset, source, source_offset, len).await
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Decision, Probe};
    use crate::{
        Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor,
        Identity, Measure, MemStorage, OpenContext, OpenRequest, Options,
    };

    const MIB: usize = 1 << 20;

    /// A driver that is there to be chosen, under either name.
    #[derive(Debug)]
    struct Raw(&'static str);

    #[async_trait]
    impl BlockDriver for Raw {
        fn descriptor(&self) -> &'static Descriptor {
            const RAW: Descriptor = Descriptor {
                name: "raw",
                long_name: "raw",
                extensions: &[],
                can_create: false,
                can_check: false,
                can_repair: false,
                has_parents: false,
                open_options: &[],
                create_options: &[],
                amend_options: &[],
            };
            static VHD: Descriptor = Descriptor { name: "vhd", ..RAW };
            match self.0 {
                "vhd" => &VHD,
                _ => &RAW,
            }
        }

        fn probe(&self, _: &ProbeInput) -> Probe {
            Probe::none(self.0)
        }

        async fn identity(&self, _: &dyn Storage) -> Result<Option<Identity>> {
            Ok(None)
        }

        async fn open(
            &self,
            storage: Arc<dyn Storage>,
            _: &Options,
            _: Access,
            _: &OpenContext,
        ) -> Result<Arc<dyn BlockDevice>> {
            // The storage is what the test is about: try it here, where the driver would.
            storage.write_at(0, b"QFI\xFB\0\0\0\x03").await?;
            Err(Error::new(ErrorKind::Unsupported, "written"))
        }

        async fn create(
            &self,
            _: Arc<dyn Storage>,
            _: &CreateRequest,
            _: &OpenContext,
        ) -> Result<()> {
            Err(Error::new(ErrorKind::Unsupported, "only opens"))
        }

        async fn check(
            &self,
            _: Arc<dyn Storage>,
            _: CheckMode,
            _: &OpenContext,
        ) -> Result<CheckReport> {
            Err(Error::new(ErrorKind::Unsupported, "only opens"))
        }

        fn measure(&self, _: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
            Err(Error::new(ErrorKind::Unsupported, "only opens"))
        }
    }

    fn with_raw() -> Registry {
        let mut registry = Registry::new();
        registry.register(Arc::new(Raw("raw")));
        registry.register(Arc::new(Raw("vhd")));
        registry
    }

    /// A fixed VHD of 1 MiB of zeros.
    fn fixed_vhd() -> Vec<u8> {
        let mut footer = vec![0u8; 512];
        for (at, bytes) in [
            (0, &b"conectix"[..]),
            (8, &[0, 0, 0, 2, 0, 1, 0, 0]),
            (16, &[0xFF; 8]),
            (0x1C, b"win "),
            (0x28, &(MIB as u64).to_be_bytes()),
            (0x30, &(MIB as u64).to_be_bytes()),
            (0x3C, &[0, 0, 0, 2]),
            (0x44, &[7; 16]),
        ] {
            footer[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let sum = !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        footer[0x40..0x44].copy_from_slice(&sum.to_be_bytes());
        [vec![0; MIB], footer].concat()
    }

    #[tokio::test]
    async fn a_detected_fixed_vhd_is_guarded_too() {
        let registry = Arc::new(with_raw());
        for (format, kind) in [(None, ErrorKind::Denied), (Some("vhd"), ErrorKind::Unsupported)] {
            let storage = MemStorage::from_bytes(&fixed_vhd());
            let input = Registry::probe_input(&*storage, None).await.unwrap();
            assert_eq!(registry.recognise(&input).selected.as_deref(), Some("vhd-fixed"));
            let mut request = OpenRequest::new("disk", Access::ReadWrite);
            request.format = format.map(str::to_owned);
            let error = registry.open_on(storage.clone(), &request).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{format:?}: {error}");
            let written = storage.to_bytes().unwrap().starts_with(b"QFI");
            assert_eq!(written, format.is_some(), "{format:?}");
        }
    }

    #[tokio::test]
    async fn only_a_detected_disk_is_guarded() {
        let registry = Arc::new(with_raw());
        let open = |format: Option<&str>| {
            let mut request = OpenRequest::new("disk", Access::ReadWrite);
            request.format = format.map(str::to_owned);
            let registry = Arc::clone(&registry);
            async move {
                let storage = MemStorage::from_bytes(&vec![0; MIB]);
                registry.open_on(storage, &request).await.unwrap_err().kind()
            }
        };
        assert_eq!(open(None).await, ErrorKind::Denied);
        assert_eq!(open(Some("raw")).await, ErrorKind::Unsupported);
    }

    /// A guard over a disk of zeros, in a program that has a raw driver.
    async fn guarded(len: usize) -> (Arc<MemStorage>, GuardedStorage) {
        let storage = MemStorage::from_bytes(&vec![0; len]);
        let registry = Arc::new(with_raw());
        let input = Registry::probe_input(&*storage, None).await.unwrap();
        assert_eq!(registry.recognise(&input).decision, Decision::Raw);
        let guard = GuardedStorage::new(storage.clone(), registry, "raw", &input);
        (storage, guard)
    }

    fn footer() -> Vec<u8> {
        let mut footer = vec![0; 512];
        footer[..8].copy_from_slice(b"conectix");
        footer[0x3F] = 2;
        footer
    }

    #[tokio::test]
    async fn magic_is_refused_wherever_probing_looks() {
        let (storage, guard) = guarded(4 * MIB).await;
        let before = storage.to_bytes().unwrap();
        let cases: &[(u64, &[u8])] = &[
            (0, b"QFI\xFB\0\0\0\x03"),
            (0, b"KDMV\x01\0\0\0"),
            (0, b"# Disk DescriptorFile\nversion=1\n"),
            (0x40, &[0x7F, 0x10, 0xDA, 0xBE, 1, 0, 1, 0]),
            (0x4000, b"SKUL\xBA\xBE\0\x02"),
            (4 * MIB as u64 - 512, &footer()),
            (4 * MIB as u64 - 512, b"koly\0\0\0\x04\0\0\x02\0"),
        ];
        for (offset, bytes) in cases {
            let mut window = vec![0; 4096];
            window[..bytes.len()].copy_from_slice(bytes);
            let len = window.len().min(4 * MIB - *offset as usize);
            if *offset == 0x4000 {
                window[256..264].copy_from_slice(&0x4000u64.to_be_bytes());
            }
            let given = Bytes::copy_from_slice(&window[..len]);
            for error in [
                guard.write_at(*offset, &window[..len]).await.unwrap_err(),
                guard.write_bytes(*offset, given).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Denied, "{offset:#x}");
                assert_eq!(error.code(), Some("raw-guard"));
                assert!(error.hint().unwrap().contains("-f raw"));
            }
        }
        assert_eq!(storage.to_bytes().unwrap(), before);
        // What a guest usually does goes through: a boot sector, a file system, data.
        let mut boot = [0u8; 512];
        boot[510..].copy_from_slice(&[0x55, 0xAA]);
        guard.write_at(0, &boot).await.unwrap();
        guard.write_at(1024, &[0x53; 1024]).await.unwrap();
        guard.write_at(MIB as u64, b"QFI\xFB\0\0\0\x03").await.unwrap();
    }

    #[tokio::test]
    async fn a_magic_in_two_halves_is_refused_at_the_second() {
        let (_, guard) = guarded(MIB).await;
        guard.write_at(0, b"QF").await.unwrap();
        guard.write_at(4, &[0, 0, 0, 3]).await.unwrap();
        assert_eq!(guard.write_at(2, b"I\xFB").await.unwrap_err().kind(), ErrorKind::Denied);
    }

    #[tokio::test]
    async fn a_length_that_exposes_a_footer_is_refused() {
        let (storage, guard) = guarded(4 * MIB).await;
        // In the middle nobody looks.
        guard.write_at(2 * MIB as u64 - 512, &footer()).await.unwrap();
        assert_eq!(guard.set_len(2 * MIB as u64).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(storage.len().await.unwrap(), 4 * MIB as u64);
        guard.set_len(3 * MIB as u64).await.unwrap();
        guard.set_len(0).await.unwrap();
    }

    #[tokio::test]
    async fn zeros_that_complete_a_magic_are_refused() {
        let (storage, guard) = guarded(4 * MIB).await;
        guard.write_at(0, b"QEDx\0\0\x01\0").await.unwrap();
        let refused = guard.write_zeroes(3, 1, ZeroMode::Deallocate).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
        assert_eq!(storage.to_bytes().unwrap()[3], b'x');
        guard.write_zeroes(0, 4096, ZeroMode::Deallocate).await.unwrap();
        assert_eq!(storage.to_bytes().unwrap()[0], 0);
    }

    #[tokio::test]
    async fn copies_into_what_probing_reads_go_through_a_buffer() {
        let (_, guard) = guarded(MIB).await;
        let source = MemStorage::from_bytes(b"QFI\xFB\0\0\0\x03");
        assert!(!guard.copy_from(0, &*source, 0, 8).await.unwrap());
    }
}
