//! Making a copy durable while it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use block_core::Disk;

/// Bytes written between two looks at the disk.
const EVERY: u64 = 64 << 20;

/// Starts to make written bytes durable while a disk is still being filled.
///
/// Every 64 MiB it asks the disk's storage to begin. The hardware is then busy while the rest is copied, and the flush
/// at the end finds little to do.
#[derive(Debug, Default)]
pub struct EarlyFlush {
    written: AtomicU64,
    /// The storage is at it.
    busy: Arc<AtomicBool>,
}

impl EarlyFlush {
    /// Counts `len` bytes more that were written to `disk`.
    pub fn wrote(&self, disk: &Disk, len: u64) {
        let written = self.written.fetch_add(len, Ordering::Relaxed) + len;
        if written < EVERY || self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let (storage, busy) = (disk.device().storage(), Arc::clone(&self.busy));
        // It may wait for the disk, and whoever copies should not. Nobody waits for it: the flush does all
        // that it has not done.
        let spawned = thread::Builder::new().name("flush".to_owned()).spawn(move || {
            storage.begin_flush();
            busy.store(false, Ordering::Relaxed);
        });
        // Where the system allows no thread, it stays busy, and is not tried again.
        drop(spawned);
    }
}
