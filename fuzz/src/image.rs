//! Compares an opened image with a plain reading of its file.

use std::sync::Arc;

use block_core::{
    Access, BlockDevice, BlockDriver, Disk, Error, ErrorKind, ExtentFlags, MemStorage, Options,
    Storage, WriteFlags,
};
use block_vdi::VdiDriver;

use crate::drivers::{blames_the_image, closed_context};
use crate::reference::{Content, Entry, Reference, SECTOR};

/// Opens `file` as VDI in every way, reads it, writes to a copy of it, and compares the results.
pub(crate) async fn examine(file: &[u8]) {
    let reference = Reference::parse(file);
    match (open(file, Access::Read, "base=on").await, &reference) {
        (Ok(_), None) => panic!("opened, though it has to be refused"),
        (Err(error), Some(_)) => panic!("refused, though there is nothing wrong: {error:?}"),
        (Err(error), None) => blames_the_image(&error),
        (Ok(disk), Some(reference)) => {
            compare(&disk, reference, None).await;
            compare_extents(&disk, reference).await;
            let storage = disk.device().storage();
            assert_eq!(bytes(&*storage), file, "reading has changed the file");
        }
    }
    if let Err(error) = open(file, Access::Read, "").await {
        blames_the_image(&error);
    } else {
        assert!(reference.is_some_and(|r| !r.needs_parent), "opened without its parent");
    }
    if let Some(reference) = &reference {
        write_one_sector(file, reference).await;
    }
}

/// Opens a copy of `file` in a [`MemStorage`].
async fn open(file: &[u8], access: Access, options: &str) -> Result<Disk, Error> {
    open_storage(MemStorage::from_bytes(file), access, options).await.map(Disk::new)
}

async fn open_storage(
    storage: Arc<MemStorage>,
    access: Access,
    options: &str,
) -> Result<Arc<dyn BlockDevice>, Error> {
    let options = Options::parse(options, VdiDriver.descriptor().open_options);
    let options = options.expect("the options exist");
    VdiDriver.open(storage, &options, access, &closed_context()).await
}

/// Returns all bytes of a [`MemStorage`].
fn bytes(storage: &dyn Storage) -> Vec<u8> {
    let memory = storage.as_any().downcast_ref::<MemStorage>();
    memory.and_then(MemStorage::to_bytes).expect("a small storage in memory")
}

/// Compares sectors in pairs. `written` is the sector that now holds `0xD7`.
async fn compare(disk: &Disk, reference: &Reference<'_>, written: Option<u64>) {
    let sectors = reference.sectors();
    assert_eq!(disk.device().sector_count(), sectors, "another size");
    let in_block = |block: u64| written.is_some_and(|w| w / reference.block_sectors() == block);
    for sector in reference.places_to_look() {
        let count = 2.min(sectors - sector);
        let mut wanted = Some(Vec::new());
        for sector in sector..sector + count {
            // The write may have filled in the missing bytes of its block.
            let expected = match reference.sector(sector) {
                _ if written == Some(sector) => Some([0xD7; SECTOR]),
                Content::Zeros => Some([0; SECTOR]),
                Content::Stored(bytes) => bytes.try_into().ok(),
                Content::Missing => {
                    assert!(!in_block(sector / reference.block_sectors()), "wrote into nowhere");
                    None
                }
            };
            wanted = wanted.zip(expected).map(|(sum, bytes)| [sum, bytes.to_vec()].concat());
        }
        let mut found = vec![0xA5; count as usize * SECTOR];
        let result = disk.device().read_sectors(sector, &mut found).await;
        match (result, wanted) {
            (Ok(()), Some(wanted)) => assert!(found == wanted, "sector {sector}: other content"),
            (Ok(()), None) => panic!("sector {sector}: read, though the file has no such bytes"),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}"),
            (Err(error), Some(_)) => panic!("sector {sector}: not read: {error:?}"),
        }
    }
    let past = disk.device().read_sectors(sectors, &mut [0; SECTOR]).await;
    assert_eq!(past.map_err(|error| error.kind()), Err(ErrorKind::OutOfRange), "past the end");
}

/// Compares the extents.
async fn compare_extents(disk: &Disk, reference: &Reference<'_>) {
    let unit = reference.block_sectors() * SECTOR as u64;
    let missing = (0..reference.blocks()).any(|block| reference.is_missing(block));
    let extents = match disk.extents(0..disk.size()).await {
        Ok(extents) => extents,
        Err(error) => {
            assert!(missing, "no extents, though every entry is sound: {error:?}");
            return blames_the_image(&error);
        }
    };
    assert!(!missing, "extents, though an entry points nowhere");
    let mut at = 0;
    for extent in &extents {
        assert!(extent.start == at && extent.len > 0, "a gap or an overlap at {at:#x}");
        at = extent.end();
        for block in extent.start / unit..at.div_ceil(unit) {
            let flags = extent.flags;
            let agrees = match reference.entry(block) {
                Entry::Free => !flags.contains(ExtentFlags::DATA) && extent.is_zero(),
                Entry::Zero => flags.contains(ExtentFlags::PRESENT) && extent.is_zero(),
                Entry::At(place) => {
                    // Stored zeros may be reported as zeros, if they really are.
                    let at = (block * unit).max(extent.start) as usize / SECTOR;
                    let zeros = reference.sector(at as u64) == Content::Stored(&[0; SECTOR]);
                    let here = u128::from(extent.start) + place;
                    flags.contains(ExtentFlags::DATA | ExtentFlags::PRESENT)
                        && (zeros || !extent.is_zero())
                        && extent.offset.map(|at| u128::from(at) + u128::from(block * unit))
                            == Some(here)
                }
            };
            assert!(agrees, "block {block}: {:?} reported as {extent:?}", reference.entry(block));
            // Limited to a few blocks, because each answer may scan as far as it holds.
            if block < 16 || block + 2 > reference.blocks() {
                let allocation = disk.is_allocated(block * unit).await.expect("a sound map");
                let present = reference.entry(block) != Entry::Free;
                assert_eq!(allocation.allocated, present, "block {block}: {allocation:?}");
            }
        }
    }
    assert_eq!(at, disk.size(), "the extents end too early");
}

/// Writes one sector in the middle of the first block. Nothing else may change, now or after reopening.
async fn write_one_sector(file: &[u8], reference: &Reference<'_>) {
    let storage = MemStorage::from_bytes(file);
    let device = match open_storage(storage.clone(), Access::ReadWrite, "base=on").await {
        Ok(device) => device,
        Err(error) => return blames_the_image(&error),
    };
    let sector = (reference.block_sectors() / 2).min(reference.sectors().saturating_sub(1));
    let written = device.write_sectors(sector, &[0xD7; SECTOR], WriteFlags::empty()).await;
    let written = match written {
        Ok(()) => Some(sector),
        Err(error) if reference.sectors() == 0 => {
            assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error:?}");
            None
        }
        Err(error) => {
            blames_the_image(&error);
            None
        }
    };
    compare(&Disk::new(Arc::clone(&device)), &reference.for_writing(), written).await;
    if let Err(error) = device.close().await {
        // A write that cannot be made durable is not promised, but the previous image must still be there.
        blames_the_image(&error);
        return;
    }
    match open_storage(storage, Access::Read, "base=on").await {
        Ok(device) => compare(&Disk::new(device), reference, written).await,
        Err(error) => panic!("does not open after a write: {error:?}"),
    }
}
