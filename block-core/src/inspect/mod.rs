//! Examining a file for what can do harm: the codes of findings, and bounded reads.
//!
//! An **inspector** reads the metadata of one format through an [`Examination`] and records findings, each with a
//! stable [`Code`]. It opens nothing that the file names. A driver brings its own
//! ([`BlockDriver::inspect`](crate::BlockDriver::inspect)), a [`Catalogue`](crate::probe::Catalogue) those of formats
//! without a driver. What the findings mean for the use of the file is for the caller to judge.
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

mod code;
mod examination;
mod limits;
mod paths;

pub use code::{Code, Severity};
pub use examination::{Examination, Found, Inspector};
pub use limits::InspectLimits;
pub use paths::broken_rules;
