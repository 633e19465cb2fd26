//! Saved machine states, which are not disks.

use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::within;
use block_core::probe::{Kind, Probe};

pub(crate) const ALL: &[Recogniser] =
    &[Recogniser::new("libvirt-save", libvirt), Recogniser::new("qemu-vmstate", qemu)];

fn libvirt(input: &ProbeInput) -> Probe {
    let whole =
        Probe::of("libvirt-save", input).kind(Kind::NotADisk).signature(0, b"LibvirtQemudSave");
    let probe = if whole.is_signed() {
        whole
    } else {
        Probe::of("libvirt-save", input)
            .kind(Kind::NotADisk)
            .signature(0, b"LibvirtQemudPart")
            .variant("unfinished")
    };
    probe
        .structure("version", (16, 4), "1 to 3", within(input.u32_le(16), 1..=3))
        .at_most(90)
        .payload_from(64)
        .done()
}

fn qemu(input: &ProbeInput) -> Probe {
    Probe::of("qemu-vmstate", input)
        .kind(Kind::NotADisk)
        .word(0, b"QEVM")
        .structure("version", (4, 4), "2 or 3", within(input.u32_be(4), 2..=3))
        .at_most(60)
        .payload_from(8)
        .done()
}
