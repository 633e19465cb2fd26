//! Replays old bugs: the shortened requests of their reports, with every fault.

use block_testkit::Subject;
use block_testkit::ops::parse;
use block_testkit::promises::fault_everywhere;
use block_vdi::VdiDriver;

/// Seed 0x6366bda89b58ddb5: the last flush of a resize failed, and the engine and the map used different sizes.
#[test]
fn a_resize_that_fails_at_its_last_flush_leaves_one_size() {
    let base = Subject::of(VdiDriver).option("block_size", "128k").size((384 << 10) + 512);
    let base = base.named("VDI base");
    for subject in [base.clone(), base.named("VDI child").with_parents(1)] {
        let golden = subject.golden();
        for ops in ["resize 831", "resize 831 | write 760+8 | flush", "resize 831 | resize 769"] {
            let seen = fault_everywhere(&subject, &golden, &parse(ops).unwrap());
            let name = &subject.name;
            let seen = seen.unwrap_or_else(|(what, when)| panic!("{name}: {ops}: {what}\n{when}"));
            assert!(seen.faults > 10, "{seen}");
        }
    }
}

/// A map entry that did not reach the file while a child grew: whoever writes to its block afterwards must not take
/// it for one that is there.
#[test]
fn an_entry_that_failed_while_a_child_grew_is_not_taken_for_written() {
    let child = Subject::of(VdiDriver).option("block_size", "128k").size((384 << 10) + 512);
    let child = child.named("VDI child").with_parents(1);
    let golden = child.golden();
    // Block 2, which the child leaves to its parent, is the one in which the parent ends.
    let ops = "make-empty | resize 831 | write 513+1 | flush";
    let seen = fault_everywhere(&child, &golden, &parse(ops).unwrap());
    let seen = seen.unwrap_or_else(|(what, when)| panic!("{ops}: {what}\n{when}"));
    assert!(seen.faults > 10, "{seen}");
}
