//! The protocols `file` and `host_device`: host files and block devices by path.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::{
    Error, ErrorKind, OptionKind, OptionSpec, ProtocolDriver, Result, Storage, StorageAccess,
    StorageOptions,
};

use crate::blocking::blocking;
use crate::open::open;

/// The protocol of host files and block devices: `file:PATH`, or a bare path.
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

/// The protocol of block devices: `host_device:PATH`. It creates no files.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDeviceProtocol;

#[async_trait]
impl ProtocolDriver for HostDeviceProtocol {
    fn scheme(&self) -> &'static str {
        "host_device"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let mut options = options.clone();
        if matches!(options.access, StorageAccess::Create | StorageAccess::CreateNew) {
            options.access = StorageAccess::ReadWrite;
        }
        let storage = blocking(|| open(location, &options))?;
        if storage.is_device() {
            return Ok(Arc::new(storage));
        }
        let text = format!("'host_device' driver requires '{location}' to be a block device");
        Err(Error::new(ErrorKind::InvalidInput, text).in_image(location))
    }
}
