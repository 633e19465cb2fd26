//! The conformance suite, the fault injector and the crash simulator.

pub mod crash;
pub mod exec;
pub mod fault;
pub mod image;
pub mod model;
pub mod ops;
pub mod report;
pub mod rig;
pub mod rng;
pub mod stamp;

pub use crash::{CrashStorage, Level, World};
pub use fault::{Fate, Fault, FaultStorage, Half, OpKind, Rule};
pub use image::{Image, ImageStorage};
pub use report::{Tally, Verdict, Violation};
pub use rig::{Golden, Rig, Subject};
