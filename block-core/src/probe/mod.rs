//! Naming what a file is from a few bounded windows of it.
//!
//! A prober looks at bytes and answers [`Evidence`]; one shared function, [`score()`], turns evidence into a number, and
//! [`decide`] turns all answers into a [`ProbeReport`]. Nothing here does I/O, fails, panics, or depends on the order in
//! which probers are asked:
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
//! Which probers are asked is for the [`Registry`](crate::Registry) to say: those of its drivers, and those of each
//! [`Catalogue`] of formats that are known without a driver. The bytes come through a [`ReadPlan`], which says what to read next and keeps the total under [`limits`].
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
pub use evidence::{At, Copy, Effect, Evidence, Integrity};
pub(crate) use guard::GuardedStorage;
pub use hint::{Hint, HintBuilder};
pub use input::ProbeInput;
pub use plan::{ReadPlan, Request, WindowRequests};
pub use report::{Candidate, Decision, ProbeReport, Relation, RelationKind, WindowRead};
pub use score::{Band, Score, raw_score, score};
