//! The formats recognised without a driver, one file per family.

pub(crate) mod android;
pub(crate) mod apple;
mod archive;
pub(crate) mod bochs;
mod forensic;
pub(crate) mod luks;
pub(crate) mod optical;
pub(crate) mod parallels;
pub(crate) mod qcow;
mod saved;
mod stream;
mod text;
pub(crate) mod vhd;
pub(crate) mod vhdx;
pub(crate) mod vmdk;

use block_core::probe::Recogniser;

/// All recognisers, grouped by family.
pub(crate) const ALL: &[&[Recogniser]] = &[
    qcow::ALL,
    vhd::ALL,
    vhdx::ALL,
    vmdk::ALL,
    parallels::ALL,
    apple::ALL,
    bochs::ALL,
    luks::ALL,
    forensic::ALL,
    android::ALL,
    saved::ALL,
    text::ALL,
    optical::ALL,
    archive::ALL,
    stream::ALL,
];
