//! A VDI disk below a filter.

mod support;

use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use block_core::filter::{FilteredDevice, Hook, Request};
use block_core::{Access, BlockDevice, Preallocation, Result, WriteFlags};
use support::{Lab, MIB};

const GIB: u64 = 1 << 30;

/// Grows the disk below before each read of it.
#[derive(Debug)]
struct Grow(Arc<dyn BlockDevice>);

#[async_trait]
impl Hook for Grow {
    async fn before(&self, request: &Request<'_>) -> Result<()> {
        match request {
            Request::Read { .. } => self.0.resize(GIB, Preallocation::Off).await,
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_filter_has_its_turn_before_the_disk_below_is_asked() {
    let lab = Lab::new();
    lab.create("r", 4 * MIB, "").await.unwrap();
    let disk = lab.open("r", Access::ReadWrite, "").await.unwrap();
    disk.write_at(MIB, &[5; 4096], WriteFlags::empty()).await.unwrap();
    let below = Arc::clone(disk.device());
    let filtered = FilteredDevice::with(Arc::clone(&below), Grow(below));
    let mut read = std::pin::pin!(filtered.read_bytes(MIB / 512, 8));
    // Everything here completes at the first poll, unless the read blocks the filter that runs before it.
    let polled = std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
    let Poll::Ready(bytes) = polled else {
        panic!("the filter waits for the read that waits for it")
    };
    assert_eq!(bytes.unwrap()[..], [5; 4096]);
    assert_eq!(filtered.sector_count(), GIB / 512);
}
