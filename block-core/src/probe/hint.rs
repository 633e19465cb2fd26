//! What a raw disk seems to hold: partition tables and file systems.

use super::evidence::Evidence;
use serde::Serialize;
use std::borrow::Cow;

/// A partition table or file system seen in the windows. It supports raw and never selects a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// What it is: `mbr`, `gpt`, `ext`, `ntfs`.
    pub id: Cow<'static, str>,
    /// How sure, 0 to 100; 60 and more counts against a container that does not own the place.
    pub weight: u8,
    /// Byte offset of the magic from the start of the file.
    pub offset: u64,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
}
