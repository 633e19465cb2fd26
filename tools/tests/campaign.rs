//! The search for a byte that can be lost: a million power cuts and a hundred thousand faults.
//!
//! `cargo test --release -p block-img --test campaign -- --ignored --nocapture`
//!
//! It prints how many crash states it saw, and how many of them differ from all others in a byte that is not
//! random (the identities in a header are).
//!
//! | variable | what it does | default |
//! |---|---|---|
//! | `CAMPAIGN_SECONDS` | goes on for at least so long, however much was seen | 0 |
//! | `CAMPAIGN_SEED` | begins elsewhere | 0x5EED (24301) |
//! | `CAMPAIGN_STATES` | crash states to see, at least | 1,000,000 |
//! | `CAMPAIGN_FAULTS` | faults to see, at least | 100,000 |
//! | `CAMPAIGN_DROPS` | dropped futures to see, at least | 50,000 |
//!
//! A soak of an hour with seeds of its own: `CAMPAIGN_SECONDS=3600 CAMPAIGN_SEED=$(date +%s)`.

use std::collections::BTreeSet;
use std::env;
use std::ops::Range;
use std::time::{Duration, Instant};

use block_raw::RawDriver;
use block_testkit::promises::{Effort, every_drop, every_fault, failed_flushes, power_cuts};
use block_testkit::{Campaign, Image, Subject, Window};
use block_vdi::VdiDriver;

/// Raw disks, VDI images, chains of them, and images of many blocks of which some are looked at.
fn subjects() -> [Subject; 6] {
    let vdi = Subject::of(VdiDriver).option("block_size", "128k").size((384 << 10) + 512);
    [
        Subject::of(RawDriver).size((32 << 10) + 512).weight(4),
        vdi.clone().named("VDI base").volatile(IDENTITIES).weight(4),
        vdi.clone().named("VDI child").with_parents(1).volatile(IDENTITIES).weight(4),
        vdi.named("VDI chain of three").with_parents(2).volatile(IDENTITIES).weight(4),
        window("VDI of 310 blocks, its map at an odd offset", 310, &[0, 2, 3, 131, 132, 259, 309]),
        // Each of these has its entry in another page, and there is memory for eight.
        window("VDI of 40,000 blocks, its map at an odd offset, in pages", 40_000, &PAGES)
            .metadata(0),
    ]
}

/// Where a VDI header holds what is random.
const IDENTITIES: Range<u64> = 0x188..0x1C8;

/// Blocks with entries in different pages of the map, and the last block.
const PAGES: [u64; 10] = [0, 4_099, 8_200, 12_288, 16_500, 20_480, 24_700, 28_672, 32_768, 39_999];

/// A VDI of so many blocks, the last one partial, of which these show.
fn window(name: &str, blocks: u64, shown: &'static [u64]) -> Subject {
    let (block_size, size) = (128 << 10, blocks * (128 << 10) - 1536);
    Subject::window(VdiDriver, Window { size, block_size, blocks: shown })
        .named(name)
        .option("block_size", "128k")
        .option("layout", "qemu")
        .rework(move_map)
        .volatile(IDENTITIES)
}

/// Where the map begins: three of its entries lie in the sector of the header, and no sector begins with an
/// entry that is a multiple of 128.
const ODD: u64 = 500;

/// Moves the map of a new image to [`ODD`].
fn move_map(image: &mut Image) {
    let word = |at| {
        let mut bytes = [0; 4];
        image.read(at, &mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    };
    let (map, data, entries) = (word(0x154), word(0x158), word(0x180));
    assert!(map == 512 && ODD + 4 * entries <= data, "the map is at {map}, the data at {data}");
    let mut bytes = vec![0; 4 * entries as usize];
    image.read(map, &mut bytes);
    image.zero(map..data);
    image.write(ODD, &bytes);
    image.write(0x154, &(ODD as u32).to_le_bytes());
}

/// The search proves something about images of many blocks only if their maps are as they are said to be.
#[test]
fn the_maps_of_many_blocks_are_paged_and_at_an_odd_offset() {
    for subject in &subjects()[4..] {
        let golden = subject.golden();
        let mut header = [0; 512];
        golden.images[0].read(0, &mut header);
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let (map, entries) = (u64::from(word(0x154)), u64::from(word(0x180)));
        assert!(map == ODD && entries >= 300, "{}: {entries} entries at {map}", subject.name);
        let effort = Effort { seed: 7, histories: 1, requests: 12, states: 12 };
        for promise in [power_cuts, every_fault] {
            let seen = promise(subject, &effort).unwrap_or_else(|found| panic!("{found}"));
            assert!(seen.crash_states + seen.faults > 50, "{}: {seen}", subject.name);
        }
    }
    let pages: BTreeSet<u64> = PAGES.iter().map(|block| block / 4096).collect();
    assert_eq!(pages.len(), 10);
}

/// Seeds 0xf0efb3402eba099d and 0x2278bea48640932e (a flush that failed lost a change of length), and
/// 0xc17be1bcee61e663 (a dropped shrink of a raw disk never happened): each was a mistake of the simulator.
#[test]
fn what_once_ended_the_campaign_holds() {
    let effort = |seed| Effort { seed, histories: 8, requests: 16, states: 40 };
    for subject in subjects() {
        for (promise, seed) in [
            (failed_flushes as fn(&Subject, &Effort) -> _, 0x5EEE),
            (failed_flushes, 0x5EF1),
            (every_drop, 0x5F03),
        ] {
            let seen = promise(&subject, &effort(seed)).unwrap_or_else(|found| panic!("{found}"));
            assert!(seen.faults + seen.dropped > 20, "{}: {seen}", subject.name);
        }
    }
}

#[test]
#[ignore = "takes minutes, and wants a release build"]
fn a_million_power_cuts_and_a_hundred_thousand_faults_lose_nothing() {
    let subjects = subjects();
    let number = |name, default| match env::var(name) {
        Ok(value) => value.parse::<u64>().unwrap_or_else(|error| panic!("{name}: {error}")),
        Err(_) => default,
    };
    let campaign = Campaign {
        seed: number("CAMPAIGN_SEED", 0x5EED),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        crash_states: number("CAMPAIGN_STATES", 1_000_000),
        faults: number("CAMPAIGN_FAULTS", 100_000),
        drops: number("CAMPAIGN_DROPS", 50_000),
        at_least: Duration::from_secs(number("CAMPAIGN_SECONDS", 0)),
    };
    let start = Instant::now();
    match campaign.run(&subjects) {
        Ok(seen) => {
            println!("{seen}\nin {} s, 0 violations", start.elapsed().as_secs());
            let total = seen.total;
            assert!(total.crash_states >= campaign.crash_states, "{total}");
            assert!(total.distinct_states >= campaign.crash_states / 10, "{total}");
            assert!(total.faults >= campaign.faults && total.dropped >= campaign.drops, "{total}");
        }
        Err(violation) => panic!("{violation}"),
    }
}
