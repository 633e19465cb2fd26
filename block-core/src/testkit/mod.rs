//! The kit with which a driver proves that it never loses a byte: one line runs everything.
//!
//! ```ignore
//! // in tests/conformance.rs of the driver's crate, with `block-core`'s feature `testkit`
//! block_core::testkit::conformance!(MyDriver);
//! block_core::testkit::conformance!(children: Subject::of(MyDriver).with_parents(1));
//! ```
//!
//! Each test is one promise of the traits. What is promised is written on
//! [`BlockDevice`](crate::BlockDevice), on [`Storage`](crate::Storage), and as the *write contract* on
//! [`engine`](crate::engine). A driver over [`engine::Mapped`](crate::engine::Mapped) gets the contract
//! from the engine as long as its map does what [`BlockMapper`](crate::engine::BlockMapper) asks; a
//! driver of another kind is held to the same words.
//!
//! | promise | how it is looked at |
//! |---|---|
//! | [`ranges`](promises::ranges) | requests behind, across and far past the end; unaligned bytes against a vector |
//! | [`caps`](promises::caps), [`read_only`](promises::read_only) | what is declared works, the rest is refused; opened for reading, no byte of any file changes |
//! | [`extents`](promises::extents) | they tile the disk and agree with reading, as do `is_allocated` and `map`; a mapped place is not given away |
//! | [`creating`](promises::creating) | every choice of every option, odd sizes, a fault and a power cut at every request of `create` |
//! | [`reopening`](promises::reopening), [`damaged_images`](promises::damaged_images) | own images are recognised and stay as they are; no damaged one causes a panic |
//! | [`random_requests`](promises::random_requests) | a model, with reopening, the death of the process, compaction, resizing |
//! | [`every_fault`](promises::every_fault) | each storage request fails in turn: not done, half done, done all the same; then retry, or go on |
//! | [`every_drop`](promises::every_drop) | each future is dropped at each await; its I/O never happens, happens, or happens late |
//! | [`power_cuts`](promises::power_cuts), [`short_histories`](promises::short_histories) | every moment of a history, every sector old or any unflushed version, any length |
//! | [`threads`](promises::threads) | each sector's history must be that of an atomic register |
//!
//! # Reading a report
//!
//! ```text
//! toy: the promise 'power cuts' is broken
//!   WHAT  after the power cut, check finds corruption: toy.table.entry (Corruption): at 0x1004: block 1 is stored behind the end of the file: entry 2
//!   SEED  0x5eed
//!   OPS   write 128+128 | flush
//!   WHEN  power cut at moment 8 (Atoms(512)), crash state 0.1.0
//! ```
//!
//! * **WHAT** is the broken promise. Sectors name the write their data comes from: `the data of write #3
//!   for sector 40` in sector 9 is data that moved; `zeros` where write #3 is allowed alone is data lost
//!   after a flush.
//! * **OPS** is the shortest list of requests that still breaks it: `write sector+count`, in sectors.
//!   Numbers of writes count up from the first after the parents' own.
//! * **WHEN** says what struck. For a fault: the rule, and whether the request was sent again. For a
//!   dropped future: the request by its place in the list, after how many polls, and what became of its
//!   I/O. For a power cut: the moment (each request is two: issued and done), how torn the disk may be,
//!   and the state: one number for the length of the file, then one for each piece of unflushed data,
//!   0 being its old content.
//! * **SEED** in an [`Effort`] finds the same again before shortening.
//!
//! The report above reads: with the flush acknowledged by nobody yet, the map entry was on disk and the
//! file was not longer. The barrier between data and entry is missing.
//!
//! # Beyond one driver's tests
//!
//! [`Campaign`] searches many subjects on several threads until a number of crash states, faults and
//! dropped futures has been seen. [`FaultStorage`] and [`CrashStorage`] go under any code that takes a
//! [`Storage`](crate::Storage), and [`World`] cuts the power of several of them at once.
//!
//! # The kit itself is tested
//!
//! `block-core/mutations/run.sh` makes these mistakes one after the other and demands that the named test
//! fails:
//!
//! | mistake | caught by |
//! |---|---|
//! | no barrier between data and map | `power_cuts` of the example driver |
//! | readers see an entry before its data is written | `every_fault` of the example driver |
//! | a slot is reused before the entry that gave it up is durable | `power_cuts` of the example driver |
//! | entries count as written before they are | `every_fault` of the example driver |
//! | a slot that held data counts as fresh | `random_requests` of the example driver |
//! | a flush that skips the map | `power_cuts` of the example driver |
//! | zeros over a parent are not kept | `t4_…` of block-vdi |
//! | a partial block is not filled from the parent | `random_requests` of a VDI child |
//! | the header's counter follows the map instead of leading it | `power_cuts` of a VDI base |

pub mod campaign;
mod conformance;
pub mod crash;
pub mod exec;
pub mod fault;
pub mod image;
pub mod linear;
pub mod model;
pub mod ops;
pub mod promises;
pub mod report;
pub mod rig;
pub mod rng;
pub mod stamp;

pub use campaign::Campaign;
pub use conformance::conformance;
pub use crash::{CrashStorage, Level, World};
pub use fault::{Fate, Fault, FaultStorage, Half, OpKind, Rule};
pub use image::{Image, ImageStorage};
pub use promises::Effort;
pub use report::{Tally, Verdict, Violation};
pub use rig::{Golden, Rig, Subject};
