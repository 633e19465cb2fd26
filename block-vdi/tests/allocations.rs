//! Memory used while refusing a broken image: never more than the bytes of the file.

mod support;

use std::alloc::System;

use block_core::{Access, ErrorKind, MemStorage, WriteFlags};
use cap::Cap;
use support::rows::rows;
use support::{FREE, Lab, MIB, ZERO, base4, image, poke};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Opens the image, reads all of it and writes to it. Returns the first failure, and the bytes allocated in total,
/// freed or not.
async fn attempt(bytes: &[u8], access: Access) -> (Option<ErrorKind>, usize) {
    let lab = Lab::new();
    let storage = MemStorage::from_bytes(bytes);
    let mut buffer = vec![0; 4 << 20];
    let before = ALLOCATOR.total_allocated();
    let failed = match lab.open_on(storage, access, "").await {
        Err(error) => Some(error.kind()),
        Ok(disk) => {
            let len = (disk.size() as usize).min(buffer.len());
            let read = disk.read_at(0, &mut buffer[..len]).await;
            let written = match access {
                Access::Read => Ok(()),
                Access::ReadWrite => disk.write_at(0, &[1; 512], WriteFlags::empty()).await,
            };
            read.and(written).err().map(|error| error.kind())
        }
    };
    (failed, ALLOCATOR.total_allocated() - before)
}

// Only one test, because the counter would include tests that run beside it.
#[tokio::test]
async fn no_refusal_takes_more_memory_than_the_file_has_bytes() {
    let mut spoilt: Vec<(String, Vec<u8>)> = Vec::new();
    for row in rows() {
        let mut bytes = base4();
        poke(&mut bytes, row.poke.0, &row.poke.1);
        spoilt.push((format!("{row:?}"), bytes));
    }
    for map in [[0, 0, FREE, ZERO], [0, 4, FREE, ZERO], [0, ZERO - 1, FREE, ZERO]] {
        spoilt.push((format!("{map:?}"), image(4 * MIB, &map, 2)));
    }
    spoilt.push(("surplus".to_owned(), image(2 * MIB, &[0, FREE, 1], 2)));
    for (name, bytes) in spoilt {
        let (failed, allocated) = attempt(&bytes, Access::ReadWrite).await;
        assert!(failed.is_some(), "{name} is not refused");
        assert!(allocated <= bytes.len(), "{name}: {allocated} bytes for {}", bytes.len());
        // The same claims in the smallest file that holds a header cost little more than the error message.
        let small = &bytes[..1024];
        for access in [Access::Read, Access::ReadWrite] {
            let (_, allocated) = attempt(small, access).await;
            assert!(allocated <= 64 << 10, "{name}: {allocated} bytes for 1024");
        }
    }
}
