//! Values that every request reads and that change seldom, or never.

use std::fmt;

use crate::sync::{PoisonError, RwLock};
use crate::{Access, Error, ErrorKind, Result};

/// A value that changes only when an image changes its shape. In a read-only image it never changes, and
/// readers take no lock.
pub struct ReadMostly<T>(Kind<T>);

enum Kind<T> {
    Never(T),
    ReadMostly(RwLock<T>),
}

impl<T> ReadMostly<T> {
    /// Creates the value for an image opened with `access`.
    pub fn new(value: T, access: Access) -> Self {
        Self(match access {
            Access::Read => Kind::Never(value),
            Access::ReadWrite => Kind::ReadMostly(RwLock::new(value)),
        })
    }

    /// Calls `f` with the value and returns its result. The value cannot change during the call, so `f`
    /// should be short.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match &self.0 {
            Kind::Never(value) => f(value),
            Kind::ReadMostly(value) => f(&value.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Changes the value by `f`, excluding readers.
    ///
    /// # Errors
    /// `ReadOnly` if the image was opened read-only.
    pub fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        match &self.0 {
            Kind::Never(_) => {
                Err(Error::new(ErrorKind::ReadOnly, "the image was opened for reading only"))
            }
            Kind::ReadMostly(value) => {
                Ok(f(&mut value.write().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadMostly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|value| value.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_where_the_image_can() {
        for (access, after) in [(Access::Read, 1), (Access::ReadWrite, 2)] {
            let value = ReadMostly::new(1, access);
            let changed = value.change(|value| *value = 2);
            assert_eq!(value.with(|value| *value), after);
            assert_eq!(changed.is_ok(), access == Access::ReadWrite);
        }
    }
}
