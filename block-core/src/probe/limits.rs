//! Limits on what a probe may read and hold, regardless of the file's content.

/// Most bytes that one probe reads outside the tail region.
pub const HEAD_BYTES: u64 = 1 << 20;
/// Most bytes that one probe reads from the last [`TAIL_REGION`] bytes of the file.
pub const TAIL_BYTES: u64 = 128 << 10;
/// Length in bytes of the file's tail.
pub const TAIL_REGION: u64 = 128 << 10;
/// Most read calls of one probe.
pub const READS: usize = 64;
/// Most rounds of reads. The first is unconditional; later ones depend on what was read.
pub const ROUNDS: usize = 4;
/// Most bytes between two windows that are read as one.
pub const GAP: u64 = 4096;
/// Most bytes in a window joined from several.
pub const JOINED: u64 = 64 << 10;
/// Length in bytes of the first window, which starts at 0.
pub const HEAD: u64 = 0x11000;
/// Length in bytes of the window that ends at the end of the file.
pub const TAIL: u64 = 4096;
/// Most bytes of the image quoted in one piece of evidence.
pub const FOUND: usize = 32;
