//! Saying whether a file is safe to hand to other programs, without opening anything it names.
//!
//! [`inspect`] names the file ([`crate::probe`]), reads the metadata that can do harm within [`InspectLimits`], and
//! answers an [`InspectReport`]: what was found, each with a stable [`Code`], a place and a severity, and a [`Verdict`]
//! under a [`Policy`]. It reads one storage and opens none.
//!
//! ```
//! use block_core::inspect::{Code, InspectOptions, Verdict, inspect};
//! use block_core::{MemStorage, Registry};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let mut file = vec![0u8; 0x10000];
//! file[..8].copy_from_slice(b"QFI\xFB\0\0\0\x03");
//! let storage = MemStorage::from_bytes(&file);
//! let report = inspect(&*storage, &InspectOptions::default(), &Registry::new()).await.unwrap();
//! assert_eq!(report.format.as_deref(), Some("qcow2"));
//! assert_eq!(report.verdict, Verdict::Refuse);
//! assert!(report.findings.iter().any(|finding| finding.code == Code::Structure));
//! # });
//! ```
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
mod finding;
mod formats;
mod general;
mod guest;
mod options;
mod partitions;
mod paths;
mod policy;
mod report;

pub use code::{Code, Severity};
pub use finding::Finding;
pub use guest::{GuestStorage, inspect_deep};
pub use options::{InspectLimits, InspectOptions};
pub use partitions::{Partition, partitions};
pub use policy::{Origin, Policy, Verdict};
pub use report::InspectReport;

use crate::{Registry, Result, Storage};
use examination::Examination;

/// Inspects `storage` and nothing else: what it names is reported and never opened.
///
/// The findings are complete even when the first of them already means refusal.
///
/// # Errors
/// Whatever reading gives. What is wrong with the file is in the report.
pub async fn inspect(
    storage: &dyn Storage,
    options: &InspectOptions,
    registry: &Registry,
) -> Result<InspectReport> {
    let input = Registry::probe_input(storage, Some(storage.uri())).await?;
    let probe = registry.recognise(&input);
    let mut examination = Examination::new(storage, input, options.limits);
    general::examine(&mut examination, &probe, options);
    formats::examine(&mut examination, &probe).await?;
    let is_raw = probe.is_raw();
    let mut report = examination.report(probe, options);
    if is_raw {
        report.partitions = partitions(storage).await?;
    }
    Ok(report)
}
