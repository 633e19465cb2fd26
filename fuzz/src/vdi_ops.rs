//! Any sequence of requests to a VDI image reads like a model of the disk, even after reopening.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use block_core::{
    Access, BlockDevice, BlockDriver, Candidate, CheckMode, CreateRequest, DeviceCaps, ErrorKind,
    FixedGate, MemStorage, NewParent, OpenContext, Options, SECTOR_SIZE, WriteFlags,
};
use block_testkit::model::Model;
use block_testkit::ops::Op;
use block_testkit::stamp::{Id, SECTOR, ZERO, stamped};
use block_vdi::VdiDriver;

use crate::drivers::{Memory, registry};
use crate::run::run;

/// Maximum size of a disk in sectors.
const LARGEST: u64 = 3000;

/// Takes from the input which image to create and which requests to send to it.
pub(crate) fn body(data: &[u8]) {
    run(async {
        let mut u = Unstructured::new(data);
        let Ok(mut bench) = Bench::new(&mut u).await else { return };
        for id in 1..=64 {
            if u.is_empty() {
                break;
            }
            let Ok(op) = bench.next_op(&mut u) else { break };
            bench.step(&op, id).await;
        }
        bench.step(&Op::Flush, 0).await;
        bench.step(&Op::Reopen, 0).await;
        bench.look_at_everything("at the end").await;
    });
}

/// An image and the model of its content.
struct Bench {
    storage: Arc<MemStorage>,
    cx: OpenContext,
    device: Arc<dyn BlockDevice>,
    caps: DeviceCaps,
    model: Model,
    /// Content of the parent, cut or extended with zeros to the child's size.
    below: Vec<Id>,
    /// Whole content of the parent.
    parent: Vec<Id>,
    unit: u64,
    /// Requests so far, for the panic message.
    history: Vec<Op>,
}

impl Bench {
    async fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let (unit, block_size) = *u.choose(&[(256, "128k"), (256, "128k"), (512, "256k")])?;
        let size = u.int_in_range(1..=5 * unit + 9)?;
        let layout = *u.choose(&["qemu", "virtualbox"])?;
        let is_child = u.ratio(1, 3)?;
        let is_static = !is_child && u.ratio(1, 5)?;
        let preallocation = if u.ratio(1, 8)? { "metadata" } else { "off" };
        let memory = Memory::default();
        let gate = FixedGate(vec![Candidate::named("memory:parent", "vdi")]);
        let cx = OpenContext::new(registry(&memory)).gate(Arc::new(gate));
        let mut content = Vec::new();
        let mut parent = None;
        if is_child {
            let storage = MemStorage::named("memory:parent");
            memory.put("parent", storage.clone());
            let sectors = if u.ratio(1, 4)? { u.int_in_range(1..=size + 300)? } else { size };
            content = make_parent(u, &storage, sectors, &cx).await?;
            let device = open(storage, Access::Read, &cx).await;
            parent = Some(NewParent { device, reference: "parent".to_owned() });
        }
        let mut options = format!("block_size={block_size},layout={layout}");
        if is_static {
            options.push_str(",static=on");
        } else if !is_child {
            options.push_str(&format!(",preallocation={preallocation}"));
        }
        let storage = MemStorage::named("memory:top");
        let options = Options::parse(&options, VdiDriver.descriptor().create_options);
        let mut request =
            CreateRequest::new(size * SECTOR_SIZE).options(options.expect("the options exist"));
        if let Some(parent) = parent {
            request = request.parent(parent);
        }
        let created = VdiDriver.create(storage.clone(), &request, &cx).await;
        created.expect("an image of any small size can be made");
        let device = open(storage.clone(), Access::ReadWrite, &cx).await;
        let caps = device.info().caps;
        let below = reaching(&content, size);
        let model = Model::new(below.clone());
        let (parent, history) = (content, Vec::new());
        Ok(Self { storage, cx, device, caps, model, below, parent, unit, history })
    }

    /// Returns the next request, possibly one past the end of the disk.
    fn next_op(&self, u: &mut Unstructured<'_>) -> Result<Op> {
        let sectors = self.model.sectors();
        let kind = u.int_in_range(0..=31u8)?;
        if kind >= 20 {
            return Ok(match kind {
                20..=23 => Op::Flush,
                24..=26 => Op::Reopen,
                27 | 28 => Op::Compact,
                29 => Op::MakeEmpty,
                _ => Op::Resize(u.int_in_range(1..=LARGEST)?),
            });
        }
        let block = u.int_in_range(0..=sectors / self.unit)? * self.unit;
        let sector = match u.int_in_range(0..=3u8)? {
            0 => block,
            1 => block.saturating_sub(u.int_in_range(1..=3)?),
            _ => block + u.int_in_range(0..=self.unit)?,
        };
        let count = match u.int_in_range(0..=3u8)? {
            0 => self.unit,
            1 => u.int_in_range(0..=self.unit * 2)?,
            _ => u.int_in_range(1..=9)?,
        };
        let (count, fua) = if u.ratio(1, 32)? {
            (count, false)
        } else {
            (count.min(sectors.saturating_sub(sector)), u.ratio(1, 16)?)
        };
        Ok(match kind {
            0..=3 => Op::Read { sector, count },
            4..=12 => Op::Write { sector, count, fua },
            13..=16 => Op::Zeroes { sector, count, unmap: u.arbitrary()?, fua },
            _ => Op::Discard { sector, count },
        })
    }

    async fn step(&mut self, op: &Op, id: Id) {
        self.history.push(op.clone());
        if !op.possible(self.caps, self.model.sectors()) {
            return;
        }
        let result = op.send(&*self.device, id).await;
        if !op.fits(self.model.sectors()) {
            let kind = result.map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::OutOfRange), "{}", self.story());
            return;
        }
        let read = match result {
            Ok(read) => read,
            Err(error) => panic!("{error:?}\n{}", self.story()),
        };
        self.model.exact(op, id, &self.below);
        match (op, read) {
            (Op::Read { sector, .. }, Some(bytes)) => {
                let verdict = self.model.verify(*sector, &bytes);
                verdict.unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.story()));
            }
            (Op::Resize(sectors), _) => {
                // A grown child reads as zeros in the new part, until it is emptied. Then it shows its parent again.
                self.below = reaching(&self.parent, *sectors);
            }
            (Op::Reopen, _) => {
                self.is_sound(true).await;
                self.device = open(self.storage.clone(), Access::ReadWrite, &self.cx).await;
                self.look_at_everything("after reopening").await;
            }
            (Op::Flush, _) => self.is_sound(false).await,
            _ => {}
        }
        if matches!(op.change(), block_testkit::ops::Change::MaybeZero(_)) {
            self.look_at_everything("after a discard").await;
        }
        assert_eq!(self.device.sector_count(), self.model.sectors(), "{}", self.story());
    }

    /// Compares all sectors, and asserts that extents reported as zeros are zeros.
    async fn look_at_everything(&mut self, when: &str) {
        let len = self.model.sectors() as usize * SECTOR;
        let mut bytes = vec![0xA5; len];
        let read = self.device.read_sectors(0, &mut bytes).await;
        read.unwrap_or_else(|error| panic!("{when}: {error:?}\n{}", self.story()));
        let verdict = self.model.settle(&bytes);
        verdict.unwrap_or_else(|wrong| panic!("{when}: {wrong}\n{}", self.story()));
        let disk = block_core::Disk::new(Arc::clone(&self.device));
        let extents = disk.extents(0..len as u64).await;
        let extents = extents.unwrap_or_else(|error| panic!("{when}: {error:?}\n{}", self.story()));
        let mut at = 0;
        for extent in &extents {
            let part = bytes.get(at as usize..extent.end() as usize).unwrap_or_default();
            assert!(extent.start == at && !part.is_empty(), "{when}: {extent:?}");
            let zeros = part.iter().all(|byte| *byte == 0);
            assert!(zeros || extent.is_data(), "{when}: {extent:?}\n{}", self.story());
            at = extent.end();
        }
        assert_eq!(at, len as u64, "{when}: the extents end too early\n{}", self.story());
    }

    /// Asserts that the stored image has no corruption. A closed image must not have leaks either, unless blocks were
    /// freed.
    async fn is_sound(&self, closed: bool) {
        let gives_up = |op: &Op| {
            matches!(op, Op::Discard { .. } | Op::Zeroes { .. } | Op::MakeEmpty | Op::Resize(_))
        };
        let closed = closed && !self.history.iter().any(gives_up);
        let report = VdiDriver.check(self.storage.clone(), CheckMode::Report, &self.cx).await;
        let report = report.unwrap_or_else(|error| panic!("{error:?}\n{}", self.story()));
        let sound = report.corruptions == 0 && (!closed || report.is_clean());
        assert!(sound, "{report:?}\n{}", self.story());
    }

    fn story(&self) -> String {
        let ops: Vec<String> = self.history.iter().map(ToString::to_string).collect();
        format!("blocks of {} sectors; {}", self.unit, ops.join("; "))
    }
}

/// Returns the first `sectors` of a parent, with zeros past its end.
fn reaching(parent: &[Id], sectors: u64) -> Vec<Id> {
    let mut below = parent.to_vec();
    below.resize(sectors as usize, ZERO);
    below
}

async fn open(storage: Arc<MemStorage>, access: Access, cx: &OpenContext) -> Arc<dyn BlockDevice> {
    let opened = VdiDriver.open(storage, &Options::new(), access, cx).await;
    opened.expect("an image we made opens")
}

/// Creates a base image with some data, and returns the content of its sectors.
async fn make_parent(
    u: &mut Unstructured<'_>,
    storage: &Arc<MemStorage>,
    sectors: u64,
    cx: &OpenContext,
) -> Result<Vec<Id>> {
    let options = Options::parse("block_size=128k", VdiDriver.descriptor().create_options);
    let request =
        CreateRequest::new(sectors * SECTOR_SIZE).options(options.expect("the option exists"));
    let created = VdiDriver.create(storage.clone(), &request, cx).await;
    created.expect("an image of any small size can be made");
    let device = open(storage.clone(), Access::ReadWrite, cx).await;
    let mut content = vec![ZERO; sectors as usize];
    for id in 1000..1000 + u.int_in_range(0..=4)? {
        let sector = u.int_in_range(0..=sectors - 1)?;
        let count = u.int_in_range(1..=300)?.min(sectors - sector);
        let data = stamped(id, sector, count);
        let written = device.write_sectors(sector, &data, WriteFlags::empty()).await;
        written.expect("a new image is written");
        content[sector as usize..(sector + count) as usize].fill(id);
    }
    device.close().await.expect("a new image closes");
    Ok(content)
}
