//! How much a probe may read and hold, whatever the file says.

/// Bytes read by one probe, not counting the tail.
pub const HEAD_BYTES: u64 = 1 << 20;
/// Bytes read by one probe from the last [`TAIL_REGION`] bytes of the file.
pub const TAIL_BYTES: u64 = 128 << 10;
/// The part of the file that counts as its tail, in bytes before the end.
pub const TAIL_REGION: u64 = 128 << 10;
/// Read calls of one probe.
pub const READS: usize = 64;
/// Rounds of reads: the first is unconditional, later ones follow what earlier ones found.
pub const ROUNDS: usize = 4;
/// Windows with no more bytes than this between them are read as one,
pub const GAP: u64 = 4096;
/// as long as that is no longer than this, in bytes.
pub const JOINED: u64 = 64 << 10;
/// Length in bytes of the first window, which starts at 0.
pub const HEAD: u64 = 0x11000;
/// Length in bytes of the window that ends at the end of the file.
pub const TAIL: u64 = 4096;
/// Bytes of the image quoted in one piece of evidence.
pub const FOUND: usize = 32;
