//! Each job on disks in memory: what it returns, what it reports, and whom its error names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use block_core::filter::{FaultHook, FilteredDevice, fault};
use block_core::{
    Access, Candidate, CreateRequest, Disk, ErrorKind, FixedGate, MemStorage, NewParent,
    OpenContext, OpenRequest, OptionSpec, Options, ProtocolDriver, Registry, Result, Storage,
    StorageOptions, WriteFlags, ZeroFlags,
};
use block_jobs::{
    CommitOptions, CompareOptions, Comparison, ConvertOptions, DiffOptions, DigestOptions,
    JobProgress, RebaseOptions, Side, Source, Step, commit, compare, convert, diff, digest,
    fingerprint, rebase,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 8 * MIB;

/// Files in memory, which a child finds its parent among.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, Arc<MemStorage>>>>);

#[async_trait]
impl ProtocolDriver for Files {
    fn scheme(&self) -> &'static str {
        "mem"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let files = self.0.lock().unwrap();
        let file = files.get(location).cloned();
        file.map(|file| file as Arc<dyn Storage>)
            .ok_or_else(|| block_core::Error::new(ErrorKind::NotFound, "no such file"))
    }
}

struct Lab {
    files: Files,
    registry: Arc<Registry>,
}

impl Lab {
    fn new() -> Self {
        let files = Files::default();
        let mut registry = Registry::new();
        block_raw::register(&mut registry);
        block_vdi::register(&mut registry);
        registry.register_protocol(Arc::new(files.clone()));
        Self { files, registry: Arc::new(registry) }
    }

    async fn create(&self, name: &str, format: &str, size: u64, parent: Option<&str>) {
        let mut request = CreateRequest::new(size);
        if let Some(parent) = parent {
            let device = self.open(parent, Access::Read).await.device().clone();
            request = request.parent(NewParent { device, reference: parent.to_owned() });
        }
        let storage = MemStorage::named(name);
        self.files.0.lock().unwrap().insert(name.to_owned(), storage.clone());
        let cx = OpenContext::new(Arc::clone(&self.registry));
        self.registry.driver(format).unwrap().create(storage, &request, &cx).await.unwrap();
    }

    /// Opens a file, and its parent, with the same access.
    async fn open(&self, name: &str, access: Access) -> Disk {
        let (names, storage) = {
            let files = self.files.0.lock().unwrap();
            (files.keys().cloned().collect::<Vec<_>>(), files.get(name).unwrap().clone())
        };
        let format = if name.ends_with("raw") { "raw" } else { "vdi" };
        let mut request = OpenRequest::new("mem:", access).format(format);
        let candidate = |name| Candidate::found(format!("mem:{name}"));
        request.gate = Arc::new(FixedGate(names.into_iter().map(candidate).collect()));
        request.parent_access = access;
        if format == "vdi" {
            // A parent that is not the recorded one is an error.
            request.options = vec![("strict".to_owned(), "on".to_owned())];
        }
        self.registry.open_on(storage, &request).await.unwrap()
    }

    /// A new image of 8 MiB, opened for writing.
    async fn disk(&self, name: &str) -> Disk {
        let format = if name.ends_with("raw") { "raw" } else { "vdi" };
        self.create(name, format, SIZE, None).await;
        self.open(name, Access::ReadWrite).await
    }

    fn amend_options(&self) -> &'static [OptionSpec] {
        self.registry.driver("vdi").unwrap().descriptor().amend_options
    }
}

/// Keeps the sizes that a job reports, and the sum of the bytes done.
#[derive(Default)]
struct Kept {
    totals: Mutex<Vec<u64>>,
    done: AtomicU64,
}

impl JobProgress for Kept {
    fn total(&self, bytes: u64) {
        self.totals.lock().unwrap().push(bytes);
    }

    fn done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Kept {
    /// The first size, the last one, and the bytes done.
    fn told(&self) -> (u64, u64, u64) {
        let totals = self.totals.lock().unwrap();
        (totals[0], *totals.last().unwrap(), self.done.load(Ordering::Relaxed))
    }
}

async fn put(disk: &Disk, at: u64, bytes: &[u8]) {
    disk.write_at(at, bytes, WriteFlags::empty()).await.unwrap();
}

async fn content(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    disk.read_at(0, &mut bytes).await.unwrap();
    bytes
}

/// A disk whose requests of this kind fail where they touch this byte.
fn faulty(disk: &Disk, op: &str, at: u64) -> Disk {
    let list = format!("op={op},at={at},times=1000");
    let options = Options::parse(&list, fault::OPTIONS).unwrap();
    let hook = FaultHook::new(&options).unwrap();
    Disk::new(FilteredDevice::with(disk.device().clone(), hook))
}

/// Two disks, of two formats, with 100 bytes in the third mebibyte and a byte at the end.
async fn twins(lab: &Lab) -> (Disk, Disk) {
    let (a, b) = (lab.disk("a.raw").await, lab.disk("b.vdi").await);
    for disk in [&a, &b] {
        put(disk, 2 * MIB + 4096, &[7; 100]).await;
        put(disk, SIZE - 1, &[9]).await;
    }
    (a, b)
}

#[tokio::test]
async fn convert_copies_what_is_data_and_reports_what_it_moves() {
    let lab = Lab::new();
    let (source, target) = (lab.disk("a.vdi").await, lab.disk("b.raw").await);
    // Zeros among the data, and zeros that are not stored, both over what the target held.
    put(&source, 3 * MIB, &[5; MIB as usize]).await;
    put(&source, 3 * MIB + 65536, &[0; 65536]).await;
    put(&target, 3 * MIB + 65536, &[0xEE; 4096]).await;
    put(&target, 6 * MIB, &[0xEE; 4096]).await;
    let progress = Arc::new(Kept::default());
    let options = ConvertOptions::new().fingerprint(true);
    let parts = Source::from(source.clone());
    let converted = convert(&parts, &target, &options, progress.clone()).await.unwrap();
    assert!(content(&target).await == content(&source).await, "what the target held is gone");
    assert_eq!((converted.lost.bytes(), progress.told()), (0, (SIZE, SIZE, SIZE)));
    let expected = converted.fingerprint.unwrap();
    assert_eq!(fingerprint(&target, 0..SIZE, None, Arc::new(())).await.unwrap(), expected);
    put(&target, 5 * MIB, &[1]).await;
    assert_ne!(fingerprint(&target, 0..SIZE, Some(1), Arc::new(())).await.unwrap(), expected);
}

#[tokio::test]
async fn zeros_that_the_target_holds_are_taken_off_the_total() {
    let lab = Lab::new();
    let (source, target) = (lab.disk("a.vdi").await, lab.disk("b.vdi").await);
    put(&source, 3 * MIB, &[5; MIB as usize]).await;
    let progress = Arc::new(Kept::default());
    let options = ConvertOptions::new().target_is_zero(true);
    convert(&source.clone().into(), &target, &options, progress.clone()).await.unwrap();
    assert_eq!(progress.told(), (SIZE, MIB, MIB));
    assert!(content(&target).await == content(&source).await);
}

#[tokio::test]
async fn sources_lie_one_behind_the_other() {
    let lab = Lab::new();
    let (a, b) = twins(&lab).await;
    lab.create("c.raw", "raw", 2 * SIZE, None).await;
    let target = lab.open("c.raw", Access::ReadWrite).await;
    let mut source = Source::new();
    source.push(a.clone()).unwrap();
    source.push(b.clone()).unwrap();
    convert(&source, &target, &ConvertOptions::new(), Arc::new(())).await.unwrap();
    assert!(content(&target).await == [content(&a).await, content(&b).await].concat());
    // And the disk that fails is named by its number.
    let mut source = Source::from(a);
    source.push(faulty(&b, "read", 2 * MIB + 4096)).unwrap();
    let failed = convert(&source, &target, &ConvertOptions::new(), Arc::new(())).await;
    let error = failed.unwrap_err();
    assert_eq!((error.side(), error.step()), (Side::Source(1), Step::Read));
    assert_eq!(error.error().kind(), ErrorKind::Io);
    assert!(error.offset().is_some_and(|at| (2 * MIB..3 * MIB).contains(&at)), "{error:?}");
    assert_eq!(error.to_string().split(" at byte").next(), Some("reading failed on source 1"));
}

#[tokio::test]
async fn a_copy_says_that_the_target_failed_or_is_too_small() {
    let lab = Lab::new();
    let (source, target) = (lab.disk("a.vdi").await, lab.disk("b.raw").await);
    put(&source, 3 * MIB, &[5; 4096]).await;
    let parts = Source::from(source);
    let failing = faulty(&target, "write", 3 * MIB);
    let failed = convert(&parts, &failing, &ConvertOptions::new(), Arc::new(())).await;
    let error = failed.unwrap_err();
    assert_eq!(
        (error.side(), error.step(), error.offset()),
        (Side::Target, Step::Write, Some(3 * MIB))
    );
    lab.create("small.raw", "raw", SIZE - 512, None).await;
    let small = lab.open("small.raw", Access::ReadWrite).await;
    let failed = convert(&parts, &small, &ConvertOptions::new(), Arc::new(())).await;
    let error = failed.unwrap_err();
    assert_eq!((error.side(), error.step()), (Side::Target, Step::Check));
}

#[tokio::test]
async fn a_salvaging_copy_returns_what_it_lost() {
    let lab = Lab::new();
    let (a, target) = (lab.disk("a.raw").await, lab.disk("b.raw").await);
    put(&a, 0, &[5; 2 * MIB as usize]).await;
    let source = Source::from(faulty(&a, "read", MIB + 5000));
    let options = ConvertOptions::new().salvage(true);
    let lost = convert(&source, &target, &options, Arc::new(())).await.unwrap().lost;
    let ranges: Vec<_> = lost.ranges().iter().map(|range| (range.start, range.len)).collect();
    assert_eq!((lost.bytes(), ranges), (4096, vec![(MIB + 4096, 4096)]));
    let mut expected = content(&a).await;
    expected[(MIB + 4096) as usize..][..4096].fill(0);
    assert!(content(&target).await == expected);
}

#[tokio::test]
async fn compare_finds_a_difference_in_the_last_byte() {
    let lab = Lab::new();
    let (a, b) = twins(&lab).await;
    let options = CompareOptions::new();
    let progress = Arc::new(Kept::default());
    assert_eq!(compare(&a, &b, &options, progress.clone()).await.unwrap(), Comparison::Identical);
    let (first, last, done) = progress.told();
    assert_eq!((first, last), (SIZE, done), "holes are taken off, and the rest is done");
    assert!(done < SIZE);
    put(&b, SIZE - 1, &[8]).await;
    let found = compare(&a, &b, &options, Arc::new(())).await.unwrap();
    assert_eq!(found, Comparison::Differ { at: SIZE - 512 });
    put(&b, 2 * MIB + 4096 + 99, &[8]).await;
    let found = compare(&a, &b, &options.threads(1), Arc::new(())).await.unwrap();
    assert_eq!(found.at(), Some(2 * MIB + 4096), "the first difference counts");
    let broken = faulty(&b, "read", 2 * MIB + 4096);
    let error = compare(&a, &broken, &CompareOptions::new(), Arc::new(())).await.unwrap_err();
    assert_eq!((error.side(), error.step()), (Side::Source(1), Step::Read));
}

#[tokio::test]
async fn only_a_strict_comparison_looks_at_allocation() {
    let lab = Lab::new();
    let (a, b) = (lab.disk("a.vdi").await, lab.disk("b.vdi").await);
    put(&b, 4 * MIB, &[1]).await;
    put(&b, 4 * MIB, &[0]).await;
    let loose = compare(&a, &b, &CompareOptions::new(), Arc::new(())).await.unwrap();
    assert_eq!(loose, Comparison::Identical);
    let strict = CompareOptions::new().strict(true);
    let found = compare(&a, &b, &strict, Arc::new(())).await.unwrap();
    assert_eq!(found, Comparison::AllocationDiffers { at: 4 * MIB });
}

#[tokio::test]
async fn diff_returns_ranges_that_touch_as_one() {
    let lab = Lab::new();
    let (a, b) = twins(&lab).await;
    // Over the border of two pieces, in one unit, and in the last byte.
    put(&a, 5 * MIB - 4096, &[1; 8192]).await;
    put(&b, MIB + 700, &[1]).await;
    put(&b, SIZE - 1, &[8]).await;
    let progress = Kept::default();
    let mut differences = diff(&a, &b, &DiffOptions::new(), &progress).unwrap();
    let mut ranges = Vec::new();
    while let Some(range) = differences.next().await.unwrap() {
        ranges.push(range);
    }
    let expected = [MIB..MIB + 4096, 5 * MIB - 4096..5 * MIB + 4096, SIZE - 4096..SIZE];
    assert_eq!(ranges, expected);
    let (first, last, done) = progress.told();
    assert_eq!((first, last), (SIZE, done));
    let fine = DiffOptions::new().granularity(512);
    let mut differences = diff(&a, &b, &fine, &()).unwrap();
    assert_eq!(differences.next().await.unwrap(), Some(MIB + 512..MIB + 1024));
    for bytes in [0, 256, 513, 2 * MIB] {
        let wrong = DiffOptions::new().granularity(bytes);
        assert_eq!(diff(&a, &b, &wrong, &()).err().map(|error| error.step()), Some(Step::Check));
    }
}

#[tokio::test]
async fn a_digest_is_of_the_content_and_the_size() {
    let lab = Lab::new();
    let (a, b) = twins(&lab).await;
    let options = DigestOptions::new();
    let progress = Arc::new(Kept::default());
    let of_a = digest(&a, &options, progress.clone()).await.unwrap();
    assert_eq!(of_a, digest(&b, &options, Arc::new(())).await.unwrap());
    assert_eq!(progress.told().0, SIZE);
    assert_eq!((of_a.to_string().len(), of_a.as_bytes()[0] >> 4), (64, hex(&of_a.to_string())));
    put(&b, SIZE - 1, &[8]).await;
    assert_ne!(of_a, digest(&b, &options, Arc::new(())).await.unwrap());
    lab.create("c.raw", "raw", SIZE + 512, None).await;
    let longer = lab.open("c.raw", Access::ReadWrite).await;
    convert(&a.into(), &longer, &ConvertOptions::new(), Arc::new(())).await.unwrap();
    let of_longer = digest(&longer, &options, Arc::new(())).await.unwrap();
    assert_ne!(of_a, of_longer);
    put(&longer, SIZE + 511, &[1]).await;
    assert_ne!(of_longer, digest(&longer, &options.threads(1), Arc::new(())).await.unwrap());
}

fn hex(text: &str) -> u8 {
    u8::from_str_radix(&text[..1], 16).unwrap()
}

/// A base with data in two blocks, and a child that replaces one of them, hides the other and has one of its own.
async fn chain(lab: &Lab) -> Vec<u8> {
    let base = lab.disk("base.vdi").await;
    put(&base, MIB, &[1; MIB as usize]).await;
    put(&base, 2 * MIB, &[2; MIB as usize]).await;
    base.close().await.unwrap();
    lab.create("child.vdi", "vdi", SIZE, Some("base.vdi")).await;
    let child = lab.open("child.vdi", Access::ReadWrite).await;
    put(&child, MIB, &[3; 4096]).await;
    child.write_zeroes(2 * MIB, MIB, ZeroFlags::MAY_UNMAP).await.unwrap();
    put(&child, 4 * MIB, &[4; 512]).await;
    let shown = content(&child).await;
    child.parent().unwrap().close().await.unwrap();
    child.close().await.unwrap();
    shown
}

#[tokio::test]
async fn commit_gives_the_base_what_the_child_holds() {
    for keep in [false, true] {
        let lab = Lab::new();
        let shown = chain(&lab).await;
        let child = lab.open("child.vdi", Access::ReadWrite).await;
        let progress = Kept::default();
        let options = CommitOptions::new().keep(keep);
        let moved = commit(&child, lab.amend_options(), &options, &progress).await.unwrap();
        assert_eq!((moved.data, moved.zeros), (2 * MIB, MIB));
        assert_eq!(progress.told(), (SIZE, SIZE, SIZE));
        assert!(content(&lab.open("base.vdi", Access::Read).await).await == shown);
        // The child finds the parent it recorded, shows what it did, and has blocks only where it keeps them.
        let child = lab.open("child.vdi", Access::Read).await;
        assert!(content(&child).await == shown);
        let extents = child.extents(0..SIZE).await.unwrap().into_vec();
        assert_eq!(extents.iter().any(|extent| extent.depth == 0 && extent.is_data()), keep);
    }
}

#[tokio::test]
async fn commit_wants_a_parent() {
    let lab = Lab::new();
    let disk = lab.disk("a.vdi").await;
    let failed = commit(&disk, lab.amend_options(), &CommitOptions::new(), &()).await;
    let error = failed.unwrap_err();
    assert_eq!((error.side(), error.step()), (Side::Source(0), Step::Check));
}

#[tokio::test]
async fn rebase_keeps_the_content_unless_only_the_name_changes() {
    for only_name in [false, true] {
        let lab = Lab::new();
        let shown = chain(&lab).await;
        let other = lab.disk("other.vdi").await;
        put(&other, 6 * MIB, &[6; MIB as usize]).await;
        other.close().await.unwrap();
        let child = lab.open("child.vdi", Access::ReadWrite).await;
        let other = lab.open("other.vdi", Access::Read).await;
        let options = RebaseOptions::new().only_name(only_name);
        let progress = Kept::default();
        let specs = lab.amend_options();
        let moved = rebase(&child, Some(&other), specs, &options, &progress).await.unwrap();
        let child = lab.open("child.vdi", Access::Read).await;
        let parent = child.parent().unwrap();
        assert_eq!(parent.device().storage().uri(), "other.vdi");
        assert_eq!(content(&child).await == shown, !only_name);
        assert_eq!((moved.zeros > 0, progress.done.into_inner() == SIZE), (!only_name, !only_name));
    }
}

#[tokio::test]
async fn a_rebase_to_no_parent_makes_the_child_whole() {
    let lab = Lab::new();
    let shown = chain(&lab).await;
    let child = lab.open("child.vdi", Access::ReadWrite).await;
    let specs = lab.amend_options();
    rebase(&child, None, specs, &RebaseOptions::new(), &()).await.unwrap();
    lab.files.0.lock().unwrap().remove("base.vdi");
    let child = lab.open("child.vdi", Access::Read).await;
    assert!(child.parent().is_none() && content(&child).await == shown);
}
