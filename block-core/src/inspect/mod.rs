//! Examines a file for harmful content, with bounded reads and stable finding codes.
//!
//! An **inspector** reads one format's metadata through an [`Examination`] and records findings, each with a stable
//! [`Code`]. It opens no file that the image names. A driver brings its own inspector
//! ([`BlockDriver::inspect`](crate::BlockDriver::inspect)). A [`Catalogue`](crate::probe::Catalogue) brings those for
//! formats without a driver. The caller decides what the findings mean for using the file.
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
