//! The protocol `file`: host files and block devices by path.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::{OptionKind, OptionSpec, ProtocolDriver, Result, Storage, StorageOptions};

use crate::blocking::blocking;
use crate::open::open;

/// Opens host files and block devices: `file:PATH`, or a bare path.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileProtocol;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "lock",
        kind: OptionKind::Choice(&["auto", "require", "off"]),
        default: Some("auto"),
        help: "image locks: where the file system has them, always, or never",
    },
    OptionSpec {
        name: "engine",
        kind: OptionKind::Choice(&["auto", "sync", "io_uring"]),
        default: Some("auto"),
        help: "how requests that have to wait are made: queued where it pays, one by one, or queued",
    },
];

#[async_trait]
impl ProtocolDriver for FileProtocol {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(blocking(|| open(location, options))?))
    }
}
