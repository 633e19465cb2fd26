//! Any bytes, opened by every driver and by detection. Content, extents and refusals must be exactly right.

use block_core::{Access, MemStorage, OpenRequest, Registry};

use crate::drivers::{Memory, blames_the_image, registry};
use crate::image::examine;
use crate::reference::SECTOR;
use crate::run::run;

/// Opens the input as an image file.
pub(crate) fn body(file: &[u8]) {
    run(async {
        let registry = registry(&Memory::default());
        let request = OpenRequest::new("memory:", Access::Read);
        open_raw(&registry, file).await;
        match registry.open_on(MemStorage::from_bytes(file), &request).await {
            Err(error) => blames_the_image(&error),
            Ok(disk) => {
                let mut sector = [0; SECTOR];
                if disk.size() > 0
                    && let Err(error) = disk.read_at(0, &mut sector).await
                {
                    blames_the_image(&error);
                }
            }
        }
        examine(file).await;
    });
}

/// Asserts that the file opens as a raw disk: its bytes, and zeros up to a whole sector.
async fn open_raw(registry: &std::sync::Arc<Registry>, file: &[u8]) {
    let request = OpenRequest::new("memory:", Access::Read).format("raw");
    let disk = registry.open_on(MemStorage::from_bytes(file), &request).await;
    let disk = disk.expect("every file is a raw disk");
    assert_eq!(disk.size(), (file.len() as u64).next_multiple_of(SECTOR as u64));
    let mut content = vec![0xA5; file.len().next_multiple_of(SECTOR)];
    disk.read_at(0, &mut content).await.expect("the disk is the file");
    let (bytes, rest) = content.split_at(file.len());
    assert!(bytes == file && rest.iter().all(|byte| *byte == 0), "raw: other content");
}
