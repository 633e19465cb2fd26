//! What a copy could not read, and has made zeros of.

use crate::console::Console;
use crate::error::reasons;

/// So many places are told; a disk that fails everywhere has too many to keep.
const TOLD: usize = 20;

/// What could not be read.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    bytes: u64,
    /// The first places, with the reasons.
    places: Vec<(u64, String)>,
}

impl Lost {
    /// Adds `len` bytes at `offset`.
    pub fn add(&mut self, offset: u64, len: u64, error: &block_core::Error) {
        self.bytes = self.bytes.saturating_add(len);
        if self.places.len() < TOLD {
            self.places.push((offset, reasons(error)));
        }
    }

    /// Warns of it, if there is any, after a copy into `target`.
    pub fn tell(&self, console: &Console, target: &str) {
        for (offset, why) in &self.places {
            console.say(format_args!("warning: error while reading offset {offset}: {why}"));
        }
        if self.bytes > 0 {
            console.say(format_args!(
                "warning: {} bytes could not be read and are zeros in '{target}'",
                self.bytes
            ));
        }
    }
}
