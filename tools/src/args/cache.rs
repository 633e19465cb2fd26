//! The cache modes of `-t` and `-T`.

use block_core::CacheMode;

/// A cache mode of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cache(pub CacheMode);

impl Cache {
    /// Whether the result must survive a power failure.
    pub fn is_durable(self) -> bool {
        self.0 != CacheMode::Unsafe
    }
}

impl std::str::FromStr for Cache {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(Self(match word {
            "none" | "off" => CacheMode::None,
            "writeback" => CacheMode::Writeback,
            "writethrough" => CacheMode::Writethrough,
            "directsync" => CacheMode::Directsync,
            "unsafe" => CacheMode::Unsafe,
            _ => {
                return Err(format!(
                    "Invalid cache option: {word} (known: none, writeback, writethrough, directsync, unsafe)"
                ));
            }
        }))
    }
}
