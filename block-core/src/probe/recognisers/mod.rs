//! The formats that are recognised without a driver, one file per family.

pub(crate) mod android;
pub(crate) mod apple;
mod archive;
pub(crate) mod bochs;
pub(crate) mod fields;
mod forensic;
pub(crate) mod hints;
pub(crate) mod luks;
pub(crate) mod optical;
pub(crate) mod parallels;
pub(crate) mod qcow;
mod relations;
mod saved;
mod stream;
mod text;
mod vdi;
pub(crate) mod vhd;
pub(crate) mod vhdx;
pub(crate) mod vmdk;

use super::claim::Probe;
use super::input::ProbeInput;
use super::plan::Wants;

pub use hints::hints;
pub(super) use hints::wants as hint_wants;
pub(super) use relations::{carries_hints, is_trailer, relation, same_bytes};

/// One format: how to see it in the windows, and which windows it needs beyond the first ones.
#[derive(Clone, Copy, Debug)]
pub struct Recogniser {
    /// The name of the format.
    pub id: &'static str,
    /// Looks at the windows. Pure; cannot fail.
    pub probe: fn(&ProbeInput) -> Probe,
    /// Asks for more windows after seeing the ones there are.
    pub wants: fn(&ProbeInput, &mut Wants),
}

impl Recogniser {
    /// A format whose probe needs no more than the first windows.
    pub const fn new(id: &'static str, probe: fn(&ProbeInput) -> Probe) -> Self {
        Self { id, probe, wants: nothing }
    }

    /// A format that asks for more windows.
    pub const fn wanting(
        id: &'static str,
        probe: fn(&ProbeInput) -> Probe,
        wants: fn(&ProbeInput, &mut Wants),
    ) -> Self {
        Self { id, probe, wants }
    }
}

fn nothing(_: &ProbeInput, _: &mut Wants) {}

/// The built-in recognisers, family by family.
pub const RECOGNISERS: &[&[Recogniser]] = &[
    qcow::ALL,
    vdi::ALL,
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

/// All built-in recognisers.
pub fn all() -> impl Iterator<Item = &'static Recogniser> {
    RECOGNISERS.iter().copied().flatten()
}
