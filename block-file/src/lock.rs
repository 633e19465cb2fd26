//! Image locks that QEMU understands: locked bytes say what a program does with the image and what others must not do.
//!
//! The protocol gives each permission a bit. A program that uses a permission locks byte 100 + bit; a program that does
//! not share it locks byte 200 + bit. All locks are shared locks, so announcing never fails. The program then asks
//! whether another one holds an opposing byte, and if so unlocks all of its own. Two programs that start at the same
//! moment may both fail but never both succeed, so a program retries a conflict after a short pause.
//!
//! | opened | bytes |
//! |---|---|
//! | for writing | 100, 101, 103, 201, 203 |
//! | for reading | 100, 201, 203 |
//! | for reading, others may write ([`Sharing::Force`]) | 100 |
//!
//! A raw image is its disk, so a writer cannot change metadata under a reader. Once the format is found to be raw, the
//! reader calls [`FileStorage::let_others_write`](crate::FileStorage::let_others_write) and holds byte 100 alone, as
//! QEMU's does.
//!
//! The locks belong to the open file description. They end when the storage is dropped or its process dies. Two
//! storages of one process exclude each other like those of two processes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use block_core::{Error, ErrorKind, Result, Sharing};

use crate::sys;

/// Whether image locks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Takes locks where the file system has them. Elsewhere logs a warning.
    #[default]
    Auto,
    /// Takes locks, and fails where the file system has none.
    Require,
    /// Takes no locks.
    Off,
}

impl LockMode {
    /// Returns the mode of this name: `auto`, `require` or `off`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "require" => Some(Self::Require),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Byte to lock for using a permission, minus the permission's bit.
const USED: u64 = 100;
/// Byte to lock for not sharing a permission, minus the permission's bit.
const UNSHARED: u64 = 200;

/// A permission on an image. The discriminant is QEMU's bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Permission {
    ConsistentRead = 0,
    Write = 1,
    Resize = 3,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Self::ConsistentRead => "consistent read",
            Self::Write => "write",
            Self::Resize => "resize",
        }
    }

    fn byte(self, base: u64) -> u64 {
        base + u64::from(self as u8)
    }
}

use Permission::{ConsistentRead, Resize, Write};

/// The permissions that a storage uses, and those that it does not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    uses: &'static [Permission],
    unshares: &'static [Permission],
}

impl Claim {
    fn new(sharing: Sharing, writable: bool) -> Option<Self> {
        match (sharing, writable) {
            (Sharing::Unlocked, _) => None,
            (Sharing::Force, _) => Some(Self { uses: &[ConsistentRead], unshares: &[] }),
            (Sharing::Exclusive, false) => {
                Some(Self { uses: &[ConsistentRead], unshares: &[Write, Resize] })
            }
            (Sharing::Exclusive, true) => {
                Some(Self { uses: &[ConsistentRead, Write, Resize], unshares: &[Write, Resize] })
            }
        }
    }

    fn bytes(self) -> impl Iterator<Item = u64> {
        let uses = self.uses.iter().map(|permission| permission.byte(USED));
        uses.chain(self.unshares.iter().map(|permission| permission.byte(UNSHARED)))
    }

    fn announce(self, fd: BorrowedFd<'_>) -> std::io::Result<()> {
        self.bytes().try_for_each(|byte| sys::share(fd, byte))
    }

    fn withdraw(self, fd: BorrowedFd<'_>) {
        for byte in self.bytes() {
            // Closing the file unlocks the byte too, and there is no better answer to a failure.
            let _ = sys::unlock(fd, byte);
        }
    }

    /// Returns the message for the first permission that another program's locks deny, if any.
    fn conflict(self, fd: BorrowedFd<'_>) -> std::io::Result<Option<String>> {
        for permission in self.uses {
            if sys::conflicts(fd, permission.byte(UNSHARED))? {
                return Ok(Some(format!("Failed to get \"{}\" lock", permission.name())));
            }
        }
        for permission in self.unshares {
            if sys::conflicts(fd, permission.byte(USED))? {
                return Ok(Some(format!("Failed to get shared \"{}\" lock", permission.name())));
            }
        }
        Ok(None)
    }
}

/// Retries of a conflict, each after a pause of 1 ms plus a random time below `PAUSE_MICROS`.
const RETRIES: u64 = 3;
const PAUSE_MICROS: u64 = 8_000;

/// Takes the locks for `sharing`. They are held until `fd` is closed.
///
/// # Errors
/// `Busy` with the code `image-locked` when another program's use of the image excludes this one, and `Unsupported`
/// when the file system has no locks and `mode` requires them.
pub(crate) fn acquire(
    fd: BorrowedFd<'_>,
    path: &str,
    sharing: Sharing,
    writable: bool,
    mode: LockMode,
) -> Result<()> {
    let Some(claim) = Claim::new(sharing, writable).filter(|_| mode != LockMode::Off) else {
        return Ok(());
    };
    let mut attempt = 0;
    loop {
        let found = claim.announce(fd).and_then(|()| claim.conflict(fd));
        match found {
            Ok(None) => return Ok(()),
            Ok(Some(conflict)) => {
                claim.withdraw(fd);
                if attempt == RETRIES {
                    return Err(busy(path, conflict));
                }
            }
            Err(error) => {
                claim.withdraw(fd);
                if !matches!(error.kind(), std::io::ErrorKind::WouldBlock) {
                    return without_locks(path, mode, error);
                }
                // Another program holds an exclusive lock over these bytes, although the protocol has none.
                if attempt == RETRIES {
                    return Err(busy(path, "Failed to lock the image".into()));
                }
            }
        }
        attempt += 1;
        std::thread::sleep(pause());
    }
}

/// Returns whether no program holds an image lock on the file, as far as its file system reports.
pub(crate) fn is_unused(fd: BorrowedFd<'_>) -> bool {
    let Some(claim) = Claim::new(Sharing::Exclusive, true) else { return false };
    claim.bytes().all(|byte| sys::conflicts(fd, byte).is_ok_and(|held| !held))
}

/// Lets other programs write and resize from now on, by unlocking the bytes with which a reader excludes them.
pub(crate) fn let_others_write(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    [Write, Resize]
        .into_iter()
        .try_for_each(|permission| sys::unlock(fd, permission.byte(UNSHARED)))
}

fn busy(path: &str, message: String) -> Error {
    Error::new(ErrorKind::Busy, message)
        .with_code("image-locked")
        .with_hint(format!("Is another process using the image [{path}]?"))
        .in_image(path)
}

fn without_locks(path: &str, mode: LockMode, error: std::io::Error) -> Result<()> {
    if mode == LockMode::Require {
        return Err(Error::new(ErrorKind::Unsupported, "the file system has no image locks")
            .in_image(path)
            .with_hint("lock=auto goes on without them")
            .because(error));
    }
    tracing::warn!("{path}: no image lock is held, another program may use it too: {error}");
    Ok(())
}

/// Returns a random pause, so that two processes that start together do not retry together.
fn pause() -> Duration {
    let random = RandomState::new().build_hasher().finish();
    Duration::from_micros(1_000 + random % PAUSE_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sharing: Sharing, writable: bool) -> Vec<u64> {
        Claim::new(sharing, writable).map(|claim| claim.bytes().collect()).unwrap_or_default()
    }

    #[test]
    fn the_bytes_are_those_qemu_expects() {
        assert_eq!(bytes(Sharing::Exclusive, true), [100, 101, 103, 201, 203]);
        assert_eq!(bytes(Sharing::Exclusive, false), [100, 201, 203]);
        assert_eq!(bytes(Sharing::Force, false), [100]);
        assert_eq!(bytes(Sharing::Unlocked, true), [0u64; 0]);
    }
}
