//! Changed images and what our driver reads from them, for a comparison with stock tools.

use std::sync::Arc;

use arbitrary::Unstructured;
use block_core::{Access, MemStorage, OpenRequest};
use block_testkit::rng::Rng;

use crate::drivers::{Memory, registry};
use crate::poke::{poke, sound_image};
use crate::run::run;

/// Returns a VDI image with changes that `seed` selects. Its blocks are 1 MiB, the only size that every tool reads.
pub fn changed_image(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let bytes: Vec<u8> = (0..64).flat_map(|_| rng.roll().to_le_bytes()).collect();
    let mut u = Unstructured::new(&bytes);
    run(async {
        let file = sound_image(&mut u, &["1M"]).await;
        let mut file = file.expect("bytes enough for an image");
        poke(&mut u, &mut file).expect("bytes enough for the changes");
        file
    })
}

/// Returns the disk in `file` as our driver reads it. `None` if opening or reading fails.
pub fn our_reading(file: &[u8]) -> Option<Vec<u8>> {
    run(async {
        let registry = Arc::clone(&registry(&Memory::default()));
        let request = OpenRequest::new("memory:", Access::Read).format("vdi");
        let disk = registry.open_on(MemStorage::from_bytes(file), &request).await.ok()?;
        let size = usize::try_from(disk.size()).ok().filter(|size| *size <= 16 << 20)?;
        let mut content = vec![0; size];
        disk.read_at(0, &mut content).await.ok()?;
        Some(content)
    })
}
