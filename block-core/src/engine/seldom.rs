//! Values that every request reads and that change seldom, or never.

use std::fmt;

use crate::sync::{PoisonError, RwLock};
use crate::{Access, Error, ErrorKind, Result};

/// A value that changes when an image changes its shape. That of an image that is only read never does, and its
/// readers take no lock.
pub struct Seldom<T>(Kind<T>);

enum Kind<T> {
    Never(T),
    Seldom(RwLock<T>),
}

impl<T> Seldom<T> {
    /// A value of an image that is opened for this.
    pub fn new(value: T, access: Access) -> Self {
        Self(match access {
            Access::Read => Kind::Never(value),
            Access::ReadWrite => Kind::Seldom(RwLock::new(value)),
        })
    }

    /// What `f` makes of it. It does not change meanwhile, so `f` should be short.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match &self.0 {
            Kind::Never(value) => f(value),
            Kind::Seldom(value) => f(&value.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Changes it by `f`, while nobody reads it.
    ///
    /// # Errors
    /// `ReadOnly` where it belongs to an image that is only read.
    pub fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        match &self.0 {
            Kind::Never(_) => {
                Err(Error::new(ErrorKind::ReadOnly, "the image was opened for reading only"))
            }
            Kind::Seldom(value) => {
                Ok(f(&mut value.write().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Seldom<T> {
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
            let value = Seldom::new(1, access);
            let changed = value.change(|value| *value = 2);
            assert_eq!(value.with(|value| *value), after);
            assert_eq!(changed.is_ok(), access == Access::ReadWrite);
        }
    }
}
