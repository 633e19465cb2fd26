//! The promises of the traits, one test function each.

mod search;
mod stage;

mod caps;
mod crashes;
mod creating;
mod drops;
mod extents;
mod faults;
mod flushes;
mod memory;
mod opening;
mod parents;
mod random;
mod ranges;
mod short;
mod storage;
mod threads;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use caps::{caps, read_only};
pub use crashes::{cut_everywhere, power_cuts};
pub use creating::creating;
pub use drops::{drop_everywhere, every_drop};
pub use extents::extents;
pub use faults::{every_fault, fault_everywhere};
pub use flushes::failed_flushes;
pub use memory::{Meter, memory_bound};
pub use opening::{damaged_images, reopening};
pub use parents::written_parents;
pub use random::random_requests;
pub use ranges::ranges;
pub use short::short_histories;
pub use storage::storage_requests;
pub use threads::threads;

use super::ops::Op;
use super::report::Violation;
use super::rig::Subject;

/// The effort of a test.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of random histories.
    pub histories: u64,
    /// Requests per history.
    pub requests: usize,
    /// Most states examined per power cut.
    pub states: usize,
}

impl Default for Effort {
    /// Returns the effort suitable for a unit test.
    fn default() -> Self {
        Self { seed: 0x5EED, histories: 20, requests: 24, states: 24 }
    }
}

/// Returns the report of a broken promise.
fn broken(
    promise: &'static str,
    subject: &Subject,
    seed: u64,
    ops: &[Op],
    what: impl Into<String>,
    circumstance: Option<String>,
) -> Box<Violation> {
    Box::new(Violation {
        promise,
        subject: subject.name.clone(),
        what: what.into(),
        seed,
        ops: ops.to_vec(),
        circumstance,
    })
}

/// Runs a history. A panic in the code under test becomes an error.
fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(format!("panic: {text}"))
    })
}
