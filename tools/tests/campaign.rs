//! The search for a byte that can be lost: a million power cuts and a hundred thousand faults.
//!
//! `cargo test --release -p block-img --test campaign -- --ignored --nocapture`
//!
//! `CAMPAIGN_SECS` makes it go on for as long as told, `CAMPAIGN_SEED` lets it begin elsewhere,
//! `CAMPAIGN_STATES`, `CAMPAIGN_FAULTS` and `CAMPAIGN_DROPS` say how much has to be seen.

use std::env;
use std::time::{Duration, Instant};

use block_core::testkit::{Campaign, Subject};
use block_raw::RawDriver;
use block_vdi::VdiDriver;

#[test]
#[ignore = "takes minutes, and wants a release build"]
fn a_million_power_cuts_and_a_hundred_thousand_faults_lose_nothing() {
    let vdi = Subject::of(VdiDriver).option("block_size", "128k").size((384 << 10) + 512);
    let subjects = [
        Subject::of(RawDriver).size((32 << 10) + 512),
        vdi.clone().named("VDI base"),
        vdi.clone().named("VDI child").with_parents(1),
        vdi.named("VDI chain of three").with_parents(2),
    ];
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let campaign = Campaign {
        seed: number("CAMPAIGN_SEED").unwrap_or(0x5EED),
        threads: 2,
        crash_states: number("CAMPAIGN_STATES").unwrap_or(1_000_000),
        faults: number("CAMPAIGN_FAULTS").unwrap_or(100_000),
        drops: number("CAMPAIGN_DROPS").unwrap_or(50_000),
        at_least: Duration::from_secs(number("CAMPAIGN_SECS").unwrap_or(0)),
    };
    let start = Instant::now();
    match campaign.run(&subjects) {
        Ok(seen) => {
            println!("{seen}, in {} s", start.elapsed().as_secs());
            assert!(seen.crash_states >= campaign.crash_states && seen.faults >= campaign.faults);
        }
        Err(violation) => panic!("{violation}"),
    }
}
