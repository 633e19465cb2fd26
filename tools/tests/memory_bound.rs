//! What an image costs in memory depends on what is done with it: a disk of a tebibyte, read at random places,
//! written to, listed and checked. Alone in its process: the allocator counts everything.

use std::alloc::System;

use block_raw::RawDriver;
use block_testkit::Subject;
use block_testkit::promises::{Effort, memory_bound};
use block_vdi::VdiDriver;
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn allocated() -> u64 {
    ALLOCATOR.allocated() as u64
}

const MIB: u64 = 1 << 20;

#[test]
fn a_disk_of_a_tebibyte_costs_no_more_than_its_cache() {
    let effort = Effort::default();
    for (subject, bound) in [
        (Subject::of(RawDriver), MIB),
        (Subject::of(VdiDriver), 20 * MIB),
        (Subject::of(VdiDriver).named("VDI, small blocks").option("block_size", "128k"), 20 * MIB),
    ] {
        match memory_bound(&subject, &effort, allocated, 1 << 40, bound) {
            Ok((seen, most)) => {
                println!("{}: {most} bytes at most; {seen}", subject.name);
                assert!(seen.requests > 1000, "{seen}");
            }
            Err(violation) => panic!("{violation}"),
        }
    }
    // The bound means something: a hundredth of what is needed is not enough.
    assert!(memory_bound(&Subject::of(VdiDriver), &effort, allocated, 1 << 40, 1000).is_err());
}
