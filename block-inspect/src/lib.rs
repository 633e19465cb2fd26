//! Identifies disk-image files and judges whether they are safe, without the formats' drivers.
//!
//! [`register`] adds the [`CATALOGUE`] to a registry, so that probing recognises far more formats than the program has
//! drivers for. [`inspect`] identifies a file's format and examines its metadata within [`InspectLimits`]. It returns
//! an [`InspectReport`] with a [`Verdict`] under a [`Policy`] and all findings, each with a stable [`Code`], a location
//! and a severity. It reads one storage and opens no other.
//!
//! ```
//! use block_core::inspect::Code;
//! use block_core::{MemStorage, Registry};
//! use block_inspect::{InspectOptions, Verdict, inspect};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let mut registry = Registry::new();
//! block_inspect::register(&mut registry);
//! let mut file = vec![0u8; 0x10000];
//! file[..8].copy_from_slice(b"QFI\xFB\0\0\0\x03");
//! let storage = MemStorage::from_bytes(&file);
//! let report = inspect(&*storage, &InspectOptions::default(), &registry).await.unwrap();
//! assert_eq!(report.format.as_deref(), Some("qcow2"));
//! assert_eq!(report.verdict, Verdict::Refuse);
//! assert!(report.findings.iter().any(|finding| finding.code == Code::Structure));
//! # });
//! ```
#![forbid(unsafe_code)]
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

mod checksum;
mod finding;
mod general;
mod guest;
mod hints;
mod inspectors;
mod options;
mod partitions;
mod policy;
mod recognisers;
mod report;
mod sha256;

pub use block_core::inspect::{Code, InspectLimits, Severity};
pub use finding::Finding;
pub use guest::{GuestStorage, inspect_deep};
pub use options::InspectOptions;
pub use partitions::{Partition, partitions};
pub use policy::{Origin, Policy, Verdict};
pub use report::InspectReport;

use block_core::inspect::Examination;
use block_core::probe::Catalogue;
use block_core::{Registry, Result, Storage};

/// The formats that this crate recognises and inspects.
pub static CATALOGUE: Catalogue = Catalogue {
    recognisers: recognisers::ALL,
    hints: hints::ALL,
    hint_windows: hints::WINDOWS,
    inspectors: inspectors::ALL,
};

/// Adds the [`CATALOGUE`] to a registry.
pub fn register(registry: &mut Registry) {
    registry.register_catalogue(&CATALOGUE);
}

/// Inspects `storage` alone. Files that it names are reported but never opened.
///
/// The findings are complete even if the first one already means refusal. Every format that claims the file is
/// examined, not only the selected one.
///
/// # Errors
/// Returns the error of a failed read. Defects of the file are findings, not errors.
pub async fn inspect(
    storage: &dyn Storage,
    options: &InspectOptions,
    registry: &Registry,
) -> Result<InspectReport> {
    let input = registry.probe_input(storage, Some(storage.uri())).await?;
    let probe = registry.recognise(&input);
    let mut examination = Examination::new(storage, input, options.limits);
    general::examine(&mut examination, &probe, options);
    for candidate in probe.candidates.iter().filter(|candidate| candidate.score.is_claim()) {
        registry.examine(candidate, &mut examination).await?;
    }
    inspectors::partitions(&mut examination, &probe);
    let is_raw = probe.is_raw();
    let mut report = InspectReport::new(examination, probe, options);
    if is_raw {
        report.partitions = partitions(storage).await?;
    }
    Ok(report)
}
