//! The error codes of host files.

use block_core::{Advice, ErrorCode};

/// All error codes of this crate.
pub(crate) const CODES: &[ErrorCode] = &[ErrorCode::new(
    "image-locked",
    "another program has the image open in a way that excludes this use",
    "Stop that program, a virtual machine as a rule. Reading while it writes is possible where the result may be stale; writing is not.",
)
.advice(&[Advice::ReadShared])];
