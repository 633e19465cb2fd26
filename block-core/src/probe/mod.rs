//! Identifies a file's format from a few bounded windows of its bytes.
//!
//! A **prober** is a function that examines the windows and returns a [`Probe`]: its [`Evidence`] for one format.
//! [`score()`] turns that evidence into a number. [`decide`] combines all answers into a [`ProbeReport`]. Nothing here
//! does I/O, fails or panics, and the order of the probers does not matter:
//!
//! ```
//! use block_core::probe::{self, Decision, ProbeInput};
//!
//! let file = vec![0u8; 4096];
//! let report = probe::decide(&ProbeInput::of_bytes(&file), Vec::new(), Vec::new());
//! assert_eq!(report.decision, Decision::Raw);
//! assert_eq!(report.selected.as_deref(), Some("raw"));
//! ```
//!
//! The [`Registry`](crate::Registry) decides which probers run: those of its drivers, and those of each registered
//! [`Catalogue`] of formats without a driver. A [`ReadPlan`] says which windows to read next and keeps the total under
//! [`limits`].
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod catalogue;
mod claim;
mod decide;
mod evidence;
pub mod fields;
mod guard;
mod hint;
mod input;
pub mod limits;
mod plan;
mod report;
mod score;

pub use catalogue::{Catalogue, LookForHints, Recogniser, RequestWindows};
pub use claim::{Kind, Placement, Probe, ProbeBuilder};
pub use decide::decide;
pub(crate) use evidence::to_hex;
pub use evidence::{Effect, Evidence, Integrity, Location, Mirror};
pub(crate) use guard::GuardedStorage;
pub use hint::{Hint, HintBuilder};
pub use input::ProbeInput;
pub use plan::{ReadPlan, Request, WindowRequests};
pub use report::{Candidate, Decision, ProbeReport, Relation, RelationKind, WindowRead};
pub use score::{Band, Score, raw_score, score};
