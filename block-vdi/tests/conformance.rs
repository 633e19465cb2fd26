//! Runs the conformance tests of all drivers on VDI images: base, static, child, and a chain of three.

use block_testkit::promises::written_parents;
use block_testkit::{Effort, Image, Subject, conformance};
use block_vdi::VdiDriver;

fn base() -> Subject {
    Subject::of(VdiDriver).named("VDI base").option("block_size", "128k").invariant(counter_leads)
}

fn fixed() -> Subject {
    base().named("VDI static").option("static", "on")
}

fn early() -> Subject {
    base().named("VDI laid out as QEMU does").option("layout", "qemu")
}

fn child() -> Subject {
    base().named("VDI child").with_parents(1)
}

fn chain() -> Subject {
    base().named("VDI chain of three").with_parents(2)
}

/// Returns an error if a live block lies in a slot at or above `blocks_allocated`. Other writers allocate there without
/// looking at the map, and would overwrite the block.
fn counter_leads(image: &Image) -> Result<(), String> {
    let word = |at: u64| {
        let mut bytes = [0; 4];
        image.read(at, &mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    };
    let (map, blocks, allocated) = (word(0x154), word(0x180), word(0x184));
    if allocated > blocks {
        return Err(format!("{allocated} blocks allocated of {blocks}"));
    }
    match (0..blocks).find(|n| (allocated..0xFFFF_FFFE).contains(&word(map + 4 * n))) {
        Some(n) => Err(format!(
            "block {n} is stored in slot {}, and the header's next free slot is {allocated}",
            word(map + 4 * n)
        )),
        None => Ok(()),
    }
}

conformance!(vdi_base: base());
conformance!(vdi_static: fixed());
conformance!(vdi_early: early());
conformance!(vdi_child: child());
conformance!(vdi_chain: chain());

#[test]
fn a_child_reads_as_before_while_its_parent_is_written_and_left() {
    let effort = Effort { histories: 6, states: 12, ..Effort::default() };
    for subject in [child(), chain()] {
        let seen = written_parents(&subject, &effort).unwrap_or_else(|found| panic!("{found}"));
        assert!(seen.crash_states > 500, "the test hardly looked: {seen}");
    }
}
