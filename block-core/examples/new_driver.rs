//! A complete custom read/write image format: probing, creating, opening, checking.
//!
//! `cargo run -p block-core --example new_driver` creates an image, recognises it and writes to it. `cargo
//! test -p block-core --example new_driver` runs the conformance suite on the format.
//!
//! A "toy" image has its header in the first 24 bytes and a table of `u32` at 4096. The slots follow. Table
//! entries: 0 is never written, 1 is zeros, n + 2 is a block stored in slot n.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use block_core::engine::{
    BlockMapper, Change, Effect, EntryLocation, Layout, Mapped, PagedTable, ResizePlan, Slot,
    SlotRun,
};
use block_core::probe::{Probe, ProbeInput};
use block_core::{
    Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor,
    DeviceCaps, Error, ErrorKind, Finding, Identity, ImageInfo, Measure, OpenContext, OptionKind,
    OptionSpec, Options, Preallocation, Result, Severity, Storage,
};

const MAGIC: &[u8; 8] = b"TOYDISK\0";
const TABLE: u64 = 4096;

/// The format.
#[derive(Debug, Default)]
struct Toy {
    /// Simulates a common driver bug: writes entries before the data that they point to is durable.
    entries_first: bool,
}

/// The map of one opened image.
#[derive(Debug)]
struct ToyMap {
    storage: Arc<dyn Storage>,
    table: PagedTable,
    layout: Layout,
    /// Known minimum length of the file, in bytes. Slots below it can be read.
    len: AtomicU64,
    entries_first: bool,
}

static DESCRIPTOR: Descriptor = Descriptor {
    name: "toy",
    long_name: "the format of the example",
    extensions: &["toy"],
    can_create: true,
    can_check: true,
    can_repair: false,
    has_parents: false,
    open_options: &[],
    create_options: &[OptionSpec {
        name: "block_size",
        kind: OptionKind::Size { min: 512, max: 1 << 26 },
        default: Some("65536"),
        help: "Bytes in a block, a power of two",
    }],
    amend_options: &[],
};

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "toy images stay as they are")
}

fn layout(virtual_size: u64, block_size: u64) -> Result<Layout> {
    let sound = block_size.is_power_of_two()
        && (512..=1 << 26).contains(&block_size)
        && virtual_size.is_multiple_of(512)
        && virtual_size / block_size < 1 << 30;
    if !sound {
        let text = format!("{virtual_size} bytes in blocks of {block_size}: no toy image has that");
        return Err(Error::new(ErrorKind::Unsupported, text).at(8));
    }
    let slot_limit = virtual_size.div_ceil(block_size);
    let slots_start = TABLE + (4 * slot_limit).next_multiple_of(4096);
    let (stride, lead) = (block_size, 0);
    let (has_zero_slots, is_fixed) = (true, false);
    Ok(Layout {
        virtual_size,
        block_size,
        slots_start,
        stride,
        lead,
        slot_limit,
        has_zero_slots,
        is_fixed,
    })
}

impl ToyMap {
    async fn open(storage: Arc<dyn Storage>, entries_first: bool) -> Result<Self> {
        let mut header = [0; 24];
        storage.read_at(0, &mut header).await?;
        if !header.starts_with(MAGIC) {
            return Err(Error::new(ErrorKind::Unrecognised, "no toy image: the magic is missing"));
        }
        let number = |at: usize| header[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let layout = layout(number(8), number(16))?;
        let len = storage.len().await?;
        if len < layout.slots_start {
            let text = format!("the table ends at {:#x}, the file at {len:#x}", layout.slots_start);
            return Err(Error::new(ErrorKind::Corrupt, text).at(TABLE));
        }
        let table = PagedTable::new(
            Arc::clone(&storage),
            TABLE,
            layout.slot_limit,
            PagedTable::DEFAULT_CACHE,
        );
        Ok(Self { storage, table, layout, len: AtomicU64::new(len), entries_first })
    }

    /// Decodes an entry. Returns `None` if it points past the known length of the file.
    fn decode(&self, entry: u32, len: u64) -> Option<Slot> {
        match entry {
            0 => Some(Slot::Free),
            1 => Some(Slot::Zero),
            n => {
                let slot = u64::from(n - 2);
                let end = self.layout.slot_start(slot + 1)?;
                let fits = slot < self.layout.slot_limit && end <= len;
                fits.then_some(Slot::Data(slot))
            }
        }
    }
}

#[async_trait]
impl BlockMapper for ToyMap {
    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn layout(&self) -> Layout {
        self.layout
    }

    fn info(&self) -> ImageInfo {
        let caps = DeviceCaps::WRITE
            | DeviceCaps::SPARSE
            | DeviceCaps::COMPACT
            | DeviceCaps::MAKE_EMPTY
            | DeviceCaps::MAP;
        let mut info = ImageInfo::new("toy", self.layout.virtual_size, caps);
        info.block_size = Some(self.layout.block_size);
        info
    }

    fn slot(&self, block: u64) -> Option<Slot> {
        self.decode(self.table.get(block)?, self.len.load(Ordering::Acquire))
    }

    async fn load(&self, block: u64) -> Result<Slot> {
        let entry = self.table.load(block).await?;
        let len = self.storage.len().await?;
        self.len.store(len, Ordering::Release);
        self.decode(entry, len).ok_or_else(|| {
            let text = format!("block {block} is stored behind the end of the file: entry {entry}");
            Error::new(ErrorKind::Corrupt, text).at(self.table.place(block))
        })
    }

    async fn run(&self, block: u64, _limit: u64) -> Result<SlotRun> {
        Ok(SlotRun { first: self.load(block).await?, blocks: 1 })
    }

    fn entry_location(&self, block: u64) -> EntryLocation {
        EntryLocation { field: "table entry", offset: self.table.place(block) }
    }

    async fn start_writing(&self, _: Effect) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, changes: &[Change], _slots_end: u64) -> Result<()> {
        // The engine flushes after this, so entries written here do not wait for the data.
        if self.entries_first { self.publish(changes).await } else { Ok(()) }
    }

    async fn publish(&self, changes: &[Change]) -> Result<()> {
        let entry = |slot| match slot {
            Slot::Free => 0,
            Slot::Zero => 1,
            Slot::Data(n) => n as u32 + 2,
        };
        let entries: Vec<_> = changes.iter().map(|c| (c.block, entry(c.slot))).collect();
        self.table.write(&entries).await
    }

    async fn settle(&self, _slots_end: u64) -> Result<()> {
        Ok(())
    }

    async fn plan_resize(&self, _size: u64, _slots_end: u64) -> Result<ResizePlan> {
        Err(unsupported())
    }

    async fn resize(&self, _: u64, _: ResizePlan, _: u64, _: Preallocation) -> Result<()> {
        Err(unsupported())
    }

    async fn amend(&self, _options: &Options) -> Result<()> {
        Err(unsupported())
    }

    async fn close(&self, _slots_end: u64) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl BlockDriver for Toy {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn probe(&self, input: &ProbeInput) -> Probe {
        let number = |at| input.u64_le(at);
        let layout = number(8).zip(number(16)).and_then(|(size, block)| layout(size, block).ok());
        Probe::of("toy", input)
            .signature(0, MAGIC)
            .structure("size and block size", (8, 16), "sound numbers", layout.is_some())
            .structure(
                "table",
                (16, 8),
                "a table inside the file",
                layout.is_some_and(|layout| layout.slots_start <= input.len()),
            )
            .done()
    }

    /// Returns `None`: this format has no parents, so its images need no identity.
    async fn identity(&self, _storage: &dyn Storage) -> Result<Option<Identity>> {
        Ok(None)
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        _options: &Options,
        access: Access,
        _cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let map = ToyMap::open(storage, self.entries_first).await?;
        Ok(Mapped::open(Arc::new(map), access, None)?)
    }

    async fn create(
        &self,
        storage: Arc<dyn Storage>,
        request: &CreateRequest,
        _cx: &OpenContext,
    ) -> Result<()> {
        let block_size = request.options.number("block_size").unwrap_or(1 << 16);
        let size = request.size.next_multiple_of(512);
        let layout = layout(size, block_size)?;
        // Write the header last. Until it exists, this is not a toy image.
        storage.set_len(0).await?;
        storage.flush().await?;
        storage.set_len(layout.slots_start).await?;
        storage.flush().await?;
        let header = [&MAGIC[..], &size.to_le_bytes(), &block_size.to_le_bytes()].concat();
        storage.write_at(0, &header).await?;
        storage.flush().await
    }

    async fn check(
        &self,
        storage: Arc<dyn Storage>,
        _mode: CheckMode,
        _cx: &OpenContext,
    ) -> Result<CheckReport> {
        let map = ToyMap::open(storage, false).await?;
        let mut report = CheckReport::default();
        let mut used = vec![false; map.layout.slot_limit as usize];
        for block in 0..map.layout.slot_limit {
            let slot = map.load(block).await;
            let (code, message) = match slot {
                Ok(Slot::Data(slot)) if std::mem::replace(&mut used[slot as usize], true) => {
                    ("toy.table.shared", format!("slot {slot} has two owners, one is {block}"))
                }
                Ok(_) => continue,
                Err(error) => ("toy.table.entry", error.to_string()),
            };
            let (severity, offset) = (Severity::Corruption, Some(map.table.place(block)));
            let (block, repair, fixed) = (Some(block), None, false);
            report.push(Finding { code, severity, message, offset, block, repair, fixed });
        }
        Ok(report)
    }

    fn measure(
        &self,
        size: u64,
        options: &Options,
        data_blocks: &(dyn Fn(u64) -> u64 + Sync),
    ) -> Result<Measure> {
        let layout = layout(size, options.number("block_size").unwrap_or(1 << 16))?;
        let with = |blocks: u64| layout.slots_start + blocks * layout.block_size;
        let required = with(data_blocks(layout.block_size));
        Ok(Measure { required, fully_allocated: with(layout.slot_limit) })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    use block_core::{MemStorage, OpenRequest, Registry, WriteFlags};

    let mut registry = Registry::new();
    registry.register(Arc::new(Toy::default()));
    let registry = Arc::new(registry);
    let storage: Arc<dyn Storage> = MemStorage::named("example.toy");
    let cx = OpenContext::new(Arc::clone(&registry));
    Toy::default().create(Arc::clone(&storage), &CreateRequest::new(10 << 20), &cx).await?;

    println!("{}", registry.probe(&*storage).await?.explain());
    let request = OpenRequest::new("example.toy", Access::ReadWrite);
    let disk = registry.open_on(Arc::clone(&storage), &request).await?;
    disk.write_at(3_000_000, b"any byte range", WriteFlags::empty()).await?;
    let mut back = [0; 14];
    disk.read_at(3_000_000, &mut back).await?;
    println!("{:?} at 3000000 of {} bytes", String::from_utf8_lossy(&back), disk.size());
    disk.close().await?;
    println!("the file has {} bytes", storage.len().await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    block_testkit::conformance!(super::Toy::default());

    /// Checks the report that the author of a driver with this bug gets.
    #[test]
    fn entries_before_their_data_are_found_and_the_report_says_what_to_do_about_it() {
        use block_testkit::{Effort, Subject, ops::parse, promises::power_cuts};

        let hasty = Subject::of(super::Toy { entries_first: true });
        let report = power_cuts(&hasty, &Effort::default()).unwrap_err().to_string();
        println!("{report}");
        let lines: Vec<&str> = report.lines().collect();
        let [title, what, seed, ops, when] = lines[..] else { panic!("{report}") };
        assert_eq!(title, "toy: the promise 'power cuts' is broken");
        let lost = what.contains("is stored behind the end of the file")
            || what.contains("holds zeros, allowed: the data of write #")
            || what.contains("holds the data of write #");
        assert!(what.starts_with("  WHAT  after the power cut, ") && lost, "{report}");
        assert!(seed.starts_with("  SEED  0x"), "{report}");
        // Reduced to the minimum: an operation that needs an entry, and one that writes the entry.
        let ops = parse(ops.strip_prefix("  OPS   ").unwrap()).unwrap();
        assert!(ops.len() <= 2, "{report}");
        assert!(ops.iter().any(|op| op.makes_durable()), "{report}");
        assert!(when.starts_with("  WHEN  power cut at moment "), "{report}");
        assert!(when.contains(", crash state "), "{report}");
    }

    /// Runs the command line that a third party ships, with the built-in drivers and its own.
    fn block_img(words: &[&str]) -> String {
        let mut registry = block_img::registry();
        registry.register(Arc::new(super::Toy::default()));
        let args = std::iter::once("block-img").chain(words.iter().copied());
        format!("{:?}", block_img::run(registry, args.map(Into::into)))
    }

    #[test]
    fn the_command_line_creates_probes_converts_and_checks_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (raw, toy, back) = (path("disk.raw"), path("disk.toy"), path("back.raw"));
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
        std::fs::write(&raw, [&bytes[..], &[0; 724_000]].concat()).unwrap();
        let good = format!("{:?}", std::process::ExitCode::SUCCESS);
        for words in [
            &["create", "-q", "-f", "toy", "-o", "block_size=4k", &path("new.toy"), "1M"][..],
            &["convert", "-f", "raw", "-O", "toy", &raw, &toy],
            // No format is given from here on: it is detected.
            &["probe", &toy],
            &["check", &toy],
            &["compare", "-F", "raw", &toy, &raw],
            &["convert", "-O", "raw", &toy, &back],
        ] {
            assert_eq!(block_img(words), good, "{words:?}");
        }
        assert!(std::fs::read(&toy).unwrap().starts_with(super::MAGIC));
        assert!(std::fs::read(&back).unwrap().starts_with(&bytes));
        assert_ne!(block_img(&["compare", "-F", "raw", &path("new.toy"), &raw]), good);
    }
}
