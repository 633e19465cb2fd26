//! Replays old bugs: the shortened requests of their reports, with every fault or drop.

use block_raw::RawDriver;
use block_testkit::Subject;
use block_testkit::ops::parse;
use block_testkit::promises::{drop_everywhere, fault_everywhere};

/// Seed 0x2da800be21f9d2b0: the storage changed its length but reported failure, and the disk kept the old length.
#[test]
fn a_resize_that_lands_and_fails_is_told_by_the_disk() {
    let subject = Subject::of(RawDriver);
    let golden = subject.golden();
    for ops in ["resize 522", "resize 522 | write 500+22 | flush", "resize 522 | resize 449"] {
        let seen = fault_everywhere(&subject, &golden, &parse(ops).unwrap());
        let seen = seen.unwrap_or_else(|(what, when)| panic!("{ops}: {what}\n{when}"));
        assert!(seen.faults > 3, "{seen}");
    }
}

/// Seed 0x8cde4a3508c4fdaf: a resize was dropped, and a query for the length overtook it.
#[test]
fn a_dropped_resize_is_over_before_the_length_is_asked_for() {
    let subject = Subject::of(RawDriver).size((32 << 10) + 512);
    let golden = subject.golden();
    for ops in ["resize 53 | reopen", "resize 53 | kill", "resize 80 | read 60+5 | reopen"] {
        let seen = drop_everywhere(&subject, &golden, &parse(ops).unwrap());
        let seen = seen.unwrap_or_else(|(what, when)| panic!("{ops}: {what}\n{when}"));
        assert!(seen.dropped > 3, "{seen}");
    }
}
