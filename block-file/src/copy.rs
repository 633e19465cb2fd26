//! Copying between two files without the bytes passing through this process.

use std::sync::atomic::Ordering;

use block_core::{Result, Storage};
use rustix::fs::copy_file_range;
use rustix::io::Errno;

use crate::failure::past_end;
use crate::io::retry;
use crate::storage::FileStorage;
use crate::sys;

/// Bytes that one call copies at most: a call cannot be stopped while it runs.
const STEP: u64 = 64 << 20;

/// Alignment of shareable blocks in bytes. No file system in use has smaller blocks.
const BLOCK: u64 = 4096;

impl FileStorage {
    /// Shares or copies a range. Returns `Ok(false)` and does nothing where this pair of files cannot.
    pub(crate) fn copy_range(
        &self,
        offset: u64,
        source: &FileStorage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let end = self.end_of(offset, len)?;
        let source_end = source.end_of(source_offset, len)?;
        let both = [self, source];
        if !both.iter().all(|file| file.is_regular() && file.direct().is_none()) {
            return Ok(false);
        }
        if self.id() == source.id() && offset < source_end && source_offset < end {
            return Ok(false);
        }
        let size =
            source.length().map_err(|e| source.error("could not find its size".into(), e))?;
        if source_end > size {
            return Err(past_end(source.uri(), source_offset, len, Some(size)));
        }
        if len == 0 || self.shared(offset, source, source_offset, len) {
            return Ok(true);
        }
        self.copied(offset, source, source_offset, len)
    }

    /// Makes the range share the source's blocks, if the file system can. Returns whether it does.
    fn shared(&self, offset: u64, source: &FileStorage, source_offset: u64, len: u64) -> bool {
        let aligned = [offset, source_offset, len].iter().all(|n| n.is_multiple_of(BLOCK));
        if !aligned || self.no_clone.load(Ordering::Relaxed) {
            return false;
        }
        let _writing = self.writing();
        let cloned = sys::clone_range(source.fd(), source_offset, len, self.fd(), offset);
        if cloned.is_err() {
            // Copy instead, whatever the reason, and do not ask again.
            self.no_clone.store(true, Ordering::Relaxed);
        }
        cloned.is_ok()
    }

    fn copied(
        &self,
        offset: u64,
        source: &FileStorage,
        source_offset: u64,
        len: u64,
    ) -> Result<bool> {
        let mut done = 0;
        while done < len {
            let (mut from, mut to) = (source_offset + done, offset + done);
            let step = usize::try_from((len - done).min(STEP)).unwrap_or(usize::MAX);
            let copied = {
                let _writing = self.writing();
                retry(|| {
                    copy_file_range(source.fd(), Some(&mut from), self.fd(), Some(&mut to), step)
                })
            };
            match copied {
                Ok(0) => {
                    return Err(past_end(source.uri(), source_offset, len, source.length().ok()));
                }
                Ok(n) => done += n as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF)
                    if done == 0 =>
                {
                    return Ok(false);
                }
                Err(errno) => {
                    let what = format!("could not copy {len} bytes from {}", source.uri());
                    return Err(self.error(what, errno).at(offset + done));
                }
            }
        }
        Ok(true)
    }
}
