//! The hot functions, each as a repeatable step.

use std::hint::black_box;
use std::sync::Arc;

use block_core::engine::PagedTable;
use block_core::probe::ProbeInput;
use block_core::{
    Access, CacheMode, CreateRequest, Disk, Extent, ExtentFlags, ExtentList, MemStorage,
    OpenRequest, Registry, Storage, StorageAccess, StorageOptions, WriteFlags, is_zero,
};

/// A hot function: its name, and a step that runs it once.
pub type Step = (&'static str, Box<dyn FnMut()>);

const MIB: usize = 1 << 20;

/// Runs a future that never blocks.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}

fn registry() -> Arc<Registry> {
    let mut registry = Registry::new();
    block_inspect::register(&mut registry);
    block_raw::register(&mut registry);
    block_vdi::register(&mut registry);
    Arc::new(registry)
}

/// Creates a VDI image of 256 MiB in memory.
fn image(registry: &Arc<Registry>) -> Arc<MemStorage> {
    let storage = MemStorage::new();
    now(make_image(registry, storage.clone())).expect("made");
    storage
}

/// Number of blocks, from the first one, in which an image stores 4 KiB each.
const STORED: u64 = 64;

async fn make_image(registry: &Arc<Registry>, on: Arc<dyn Storage>) -> block_core::Result<()> {
    let cx = block_core::OpenContext::new(Arc::clone(registry));
    let driver = registry.driver("vdi").expect("registered");
    driver.create(Arc::clone(&on), &CreateRequest::new(256 << 20), &cx).await?;
    let request = OpenRequest::new("new:", Access::ReadWrite).format("vdi");
    let disk = registry.open_on(on, &request).await?;
    for block in 0..STORED {
        disk.write_at(block * MIB as u64, &[7; 4096], WriteFlags::empty()).await?;
    }
    disk.close().await
}

fn open(registry: &Arc<Registry>, storage: &Arc<MemStorage>) -> Disk {
    let request = OpenRequest::new("memory:", Access::ReadWrite).format("vdi");
    now(registry.open_on(storage.clone(), &request)).expect("opened")
}

/// Returns all steps.
pub fn steps() -> Vec<Step> {
    let registry = registry();
    let storage = image(&registry);
    let disk = open(&registry, &storage);
    let mut all: Vec<Step> = vec![zero_detection(), extent_coalescing(), map_lookup()];

    let mut head = vec![0; 4096];
    now(storage.read_at(0, &mut head)).expect("read");
    let input = ProbeInput::of_bytes(&head);
    let drivers = Arc::clone(&registry);
    all.push(("probe", Box::new(move || drop(black_box(drivers.recognise(black_box(&input)))))));

    let (drivers, opened) = (Arc::clone(&registry), Arc::clone(&storage));
    all.push(("open", Box::new(move || drop(black_box(open(&drivers, &opened))))));

    let (reader, mut buffer) = (disk.clone(), vec![0; 4096]);
    let mut at = 0;
    all.push((
        "read-4k",
        Box::new(move || {
            at = (at + 37 * MIB as u64) % (64 * MIB as u64);
            now(reader.read_at(at, black_box(&mut buffer))).expect("read");
        }),
    ));

    let (reader, mut buffer) = (disk.clone(), vec![0; MIB]);
    all.push((
        "read-1m",
        Box::new(move || {
            now(reader.read_at(MIB as u64 / 2, black_box(&mut buffer))).expect("read");
        }),
    ));

    let writer = disk;
    let mut at = 0;
    all.push((
        "overwrite-4k",
        Box::new(move || {
            at = (at + 37 * MIB as u64) % (64 * MIB as u64);
            now(writer.write_at(at, black_box(&[3; 4096]), WriteFlags::empty())).expect("written");
        }),
    ));

    match direct_reads() {
        Ok(step) => all.push(step),
        Err(error) => eprintln!("SKIPPED: direct-512: {error}"),
    }

    all.push((
        "allocate-64",
        Box::new(move || {
            let storage = image(&registry);
            black_box(&storage);
        }),
    ));
    all
}

/// Returns a step of 512 direct reads, 64 in flight, which wait for the disk. There are 512 so that the cost of
/// creating the tasks matters little.
fn direct_reads() -> block_core::Result<Step> {
    let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = made.path().join("direct.vdi").to_str().expect("a name").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("a runtime");
    let disk = runtime.block_on(async {
        let mut registry = Registry::new();
        block_file::register(&mut registry);
        block_vdi::register(&mut registry);
        let registry = Arc::new(registry);
        let new = StorageOptions::new(StorageAccess::Create);
        make_image(&registry, registry.open_storage(&path, &new).await?).await?;
        let mut direct = OpenRequest::new(&path, Access::Read).format("vdi");
        direct.cache = CacheMode::None;
        direct.storage_options = vec![("engine".into(), "io_uring".into())];
        registry.open(&direct).await
    })?;
    let step = move || {
        let _ = &made;
        runtime.block_on(async {
            let mut readers = tokio::task::JoinSet::new();
            for block in 0..STORED {
                let disk = disk.clone();
                readers.spawn(async move {
                    for _ in 0..512 / STORED {
                        let read = disk.read_bytes(block * MIB as u64, 4096).await.expect("read");
                        assert_eq!(read.first(), Some(&7));
                    }
                });
            }
            while let Some(ended) = readers.join_next().await {
                ended.expect("alive");
            }
        });
    };
    Ok(("direct-512", Box::new(step)))
}

fn zero_detection() -> Step {
    let zeros = vec![0; MIB];
    ("zero-1m", Box::new(move || assert!(is_zero(black_box(&zeros)))))
}

fn extent_coalescing() -> Step {
    let step = || {
        let mut list = ExtentList::new();
        for n in 0..1000u64 {
            // Every third extent continues its neighbour.
            let offset = Some(n * 65536 + if n % 3 == 0 { 4096 } else { 0 });
            let flags = ExtentFlags::PRESENT | ExtentFlags::DATA;
            list.push(Extent { start: n * 65536, len: 65536, flags, depth: 0, offset });
        }
        drop(black_box(list));
    };
    ("extents-1000", Box::new(step))
}

fn map_lookup() -> Step {
    let storage = MemStorage::new();
    now(storage.set_len(4 << 20)).expect("extended");
    let table = PagedTable::new(storage, 0, 1 << 20, 16 << 20);
    for index in (0..1 << 20).step_by(1024) {
        now(table.load(index)).expect("loaded");
    }
    let mut index = 0u64;
    let step = move || {
        index = (index + 7919) % (1 << 20);
        black_box(table.get(black_box(index)));
    };
    ("map-lookup", Box::new(step))
}
