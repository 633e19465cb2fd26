//! Stock QEMU looks at what a power cut may leave: a sample of crash states, read, checked and written to.
//!
//! The one complaint allowed is about the header's number of allocated blocks: it leads the map on purpose, so
//! that no writer that trusts it hands out a block in use.

mod common;

use std::fs;
use std::sync::Arc;

use block_core::{
    Access, BlockDriver, CheckMode, CreateRequest, OpenContext, Options, Registry, Severity,
    Storage,
};
use block_testkit::exec::block_on;
use block_testkit::model::{Entry, Ledger};
use block_testkit::ops::{Ground, Op};
use block_testkit::rng::{Rng, mix};
use block_testkit::{Image, Level, World};
use block_vdi::VdiDriver;
use common::{Folder, oracles};

/// Sectors of the disk: five blocks of 1 MiB, the last one partial. Other block sizes QEMU does not read.
const SECTORS: u64 = (4 << 11) + 700;

/// Histories, and states of each that are looked at.
const HISTORIES: u64 = 10;
const STATES: usize = 12;

#[test]
fn stock_qemu_reads_and_writes_what_a_power_cut_left() {
    if !oracles() {
        return;
    }
    let mut rng = Rng::new(0x0AC1E);
    let (mut looked, mut partial, mut leading) = (0, 0, 0);
    for _ in 0..HISTORIES {
        let (world, ledger) = play(rng.roll());
        let mut replay = world.replay();
        let moments = replay.moments();
        let mut left = STATES;
        for (n, moment) in moments.iter().enumerate() {
            // The states are spread over the whole history.
            if left == 0 || !rng.one_in((moments.len() / STATES).max(1) as u64) {
                continue;
            }
            left -= 1;
            let states: Vec<_> = replay.cut(*moment, Level::DEFAULT, 40, mix(n as u64)).collect();
            let state = &states[rng.index(states.len())];
            let place = format!("moment {moment}, crash state {}", state.choice);
            leading += u64::from(examine(&state.disks[0].1, &ledger, *moment, &place));
            looked += 1;
            partial += u64::from(state.is_partial());
        }
    }
    println!(
        "{looked} crash states, {partial} partial, {leading} with a counter that leads the map"
    );
    assert!(looked > 60 && partial > 10, "{looked} states, {partial} partial");
}

/// Random requests to a new image, with a record of all that reached its file.
fn play(seed: u64) -> (Arc<World>, Ledger) {
    let mut registry = Registry::new();
    block_vdi::register(&mut registry);
    let cx = OpenContext::new(Arc::new(registry));
    let world = World::new();
    let disk = world.disk("sim:0", Image::default());
    block_on(async {
        VdiDriver.create(disk.clone(), &CreateRequest::new(SECTORS * 512), &cx).await.unwrap();
    });
    // What counts begins with the whole image.
    let image = disk.snapshot();
    let world = World::new();
    let disk = world.disk("sim:0", image);
    let mut ledger = Ledger::new(vec![0; SECTORS as usize], vec![0; SECTORS as usize]);
    block_on(async {
        let storage = Arc::clone(&disk) as Arc<dyn Storage>;
        let device =
            VdiDriver.open(storage, &Options::new(), Access::ReadWrite, &cx).await.unwrap();
        let caps = device.info().caps;
        let ground = Ground { sectors: SECTORS, unit: 2048, caps, maintenance: false };
        for (id, op) in (1..).zip(ground.ops(&mut Rng::new(seed), 12)) {
            let start = world.tick();
            op.send(&*device, id).await.unwrap();
            ledger.push(Entry { op, id, start, end: Some(world.tick()) });
        }
    });
    (world, ledger)
}

/// Says whether the counter leads.
fn examine(image: &Image, ledger: &Ledger, moment: u64, place: &str) -> bool {
    let folder = Folder::new();
    fs::write(folder.file("cut.vdi"), image.to_bytes()).unwrap();
    let leads = stock_check(&folder, place);

    // It reads what our contract allows.
    let mut model = ledger.at(moment);
    let read = |model: &mut block_testkit::model::Model, when: &str| {
        folder.theirs("convert -O raw cut.vdi seen.raw").ok();
        let mut bytes = fs::read(folder.file("seen.raw")).unwrap();
        bytes.resize(SECTORS as usize * 512, 0);
        model.settle(&bytes).unwrap_or_else(|what| panic!("{place}: {when}, {what}"));
    };
    read(&mut model, "read by QEMU");

    // A foreign writer that trusts the counter overwrites nothing: one sector of each block, every other time
    // in another order.
    let mut requests = Vec::new();
    for block in 0..5u64 {
        let id = 1000 + block as u32;
        let (sector, count) = (block * 2048 + 300, 1);
        let bytes = block_testkit::stamp::stamped(id, sector, count);
        let name = format!("sector{block}");
        fs::write(folder.file(&name), bytes).unwrap();
        requests.push(format!("write -s {name} {} 512", sector * 512));
        model.exact(&Op::Write { sector, count, fua: false }, id, &[]);
    }
    if moment.is_multiple_of(2) {
        requests.reverse();
    }
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    folder.qemu_io("vdi", "cut.vdi", &requests);
    read(&mut model, "written by QEMU");
    let mut registry = Registry::new();
    block_vdi::register(&mut registry);
    let cx = OpenContext::new(Arc::new(registry));
    let bytes = fs::read(folder.file("cut.vdi")).unwrap();
    let storage = block_core::MemStorage::from_bytes(&bytes);
    let check = |mode| block_on(VdiDriver.check(storage.clone(), mode, &cx)).unwrap();
    let report = check(CheckMode::Report);
    // It counts on from a counter that leads, if need be to slots behind the last one that the format has for
    // this disk. It reads them all the same, and a repair moves them.
    let counted_on = ["vdi.header.allocated-above-blocks", "vdi.map.too-large"];
    let corrupt = |code: &str| !(leads && counted_on.contains(&code));
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Corruption && corrupt(finding.code))
        .collect();
    assert!(found.is_empty(), "{place}: after QEMU wrote, {found:?}");
    check(CheckMode::RepairAll);
    let report = check(CheckMode::Report);
    assert!(report.is_clean(), "{place}: after a repair, {:?}", report.findings);
    fs::write(folder.file("cut.vdi"), storage.to_bytes().unwrap()).unwrap();
    assert!(!stock_check(&folder, place), "{place}: QEMU complains after a repair");
    read(&mut model, "repaired by us");
    leads
}

/// `qemu-img check` finds nothing but a counter that is ahead.
fn stock_check(folder: &Folder, place: &str) -> bool {
    let report = folder.theirs("check -f vdi cut.vdi");
    assert!(report.status <= 3, "{place}: {report:?}");
    let mut leads = false;
    for line in report.out.lines().chain(report.err.lines()).filter(|l| l.contains("ERROR")) {
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let expected = line.starts_with("ERROR: allocated blocks mismatch, is ");
        let [found, header] = numbers[..] else { panic!("{place}: {line}") };
        assert!(expected && header > found, "{place}: {line}");
        leads = true;
    }
    leads
}
