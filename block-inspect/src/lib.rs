//! What is known of disk-image formats without a driver: naming unknown files, and saying whether they are safe.
//!
//! [`register`] hands the [`CATALOGUE`] to a registry, whose probing then names far more formats than the program has
//! drivers for. [`inspect`] names a file, examines the metadata that can do harm within [`InspectLimits`], and returns
//! an [`InspectReport`]: findings, each with a stable [`Code`], a place and a severity, and a [`Verdict`] under a
//! [`Policy`]. It reads one storage and opens none.
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

/// Adds the catalogue to a registry.
pub fn register(registry: &mut Registry) {
    registry.register_catalogue(&CATALOGUE);
}

/// Inspects `storage` and nothing else: what it names is reported and never opened.
///
/// The findings are complete even when the first of them already means refusal. Every format that claims the file is
/// examined, whether it was selected or not.
///
/// # Errors
/// Whatever reading gives. What is wrong with the file is in the report.
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
