//! The tests for every release: the stock tools lose data here, and this driver keeps it.

use std::sync::Arc;

use block_core::{Access, CheckMode, Disk, Error, ErrorKind, Storage, WriteFlags, ZeroFlags};
use block_testkit::exec::block_on;
use block_testkit::rig::read_all;
use block_testkit::{Fault, FaultStorage, Half, Image, MemStorage, OpKind, Rig, Rule, Subject};
use block_vdi::VdiDriver;

const MIB: u64 = 1 << 20;

fn subject() -> Subject {
    Subject::of(VdiDriver).size(16 * MIB)
}

/// Opens a disk, with one stored block, over a storage with faults on command.
async fn disk_with_a_block(image: Image) -> (Rig, Arc<FaultStorage>, Disk) {
    let storage = FaultStorage::new(MemStorage::of("sim:0", image));
    let rig = Rig::new(&subject(), vec![Arc::clone(&storage) as Arc<dyn Storage>]);
    let disk = Disk::new(rig.open(Access::ReadWrite).await.unwrap());
    disk.write_at(0, &[1; 65536], WriteFlags::empty()).await.unwrap();
    (rig, storage, disk)
}

/// T1. One write of the storage fails once: data, header or map. The guest repeats the failed request, flushes, and
/// finds its data after reopening.
///
/// Stock `qemu-img` 10.0.2 loses the data, and its check reports no error:
///
/// ```text
/// qemu-img create -f vdi t.vdi 16M
/// printf '[inject-error]\nevent = "pwritev"\nerrno = "28"\nsector = "2050"\nonce = "on"\n' > bd.conf
/// qemu-io -c "open -o driver=vdi,file.driver=blkdebug,file.config=bd.conf,file.image.driver=file,file.image.filename=t.vdi" \
///     -c "write -P 1 0 64k" -c "write -P 2 5M 64k" -c "write -P 2 5M 64k" -c "read -P 2 5M 64k" -c flush
///         write failed: No space left on device            the first time; then it is written, and read
/// qemu-io -f vdi -r -c "read -P 2 5M 64k" t.vdi
///         Pattern verification failed at offset 5242880, 65536 bytes
/// qemu-img check t.vdi
///         No errors were found on the image.
/// ```
#[test]
fn t1_data_written_by_a_retry_after_one_enospc_is_there_after_reopening() {
    let golden = subject().golden();
    let full = ErrorKind::NoSpace;
    let mut struck = 0;
    for fault in [Fault::Fail(full), Fault::Landed(full), Fault::Torn(Half::First, full)] {
        for skip in 0..100 {
            let before = struck;
            block_on(async {
                let (rig, storage, disk) = disk_with_a_block(golden.images[0].clone()).await;
                storage.add(Rule::once(OpKind::TAKES_ROOM, fault).after(skip));
                let data = [2; 65536];
                let mut tries = 0;
                while let Err(error) = write_and_flush(&disk, 5 * MIB, &data).await {
                    assert_eq!(error.kind(), full);
                    tries += 1;
                    assert_eq!(tries, 1, "one fault fails one request");
                }
                struck += storage.injected();
                drop(disk);
                let disk = Disk::new(rig.open(Access::Read).await.unwrap());
                for (at, byte) in [(0, 1), (5 * MIB, 2)] {
                    let mut found = [0; 65536];
                    disk.read_at(at, &mut found).await.unwrap();
                    assert_eq!(found, [byte; 65536], "{fault:?} of request {skip}");
                }
                let report = rig.check(CheckMode::Report).await.unwrap();
                assert_eq!(report.corruptions, 0, "{:?}", report.findings);
            });
            if struck == before {
                break;
            }
        }
    }
    assert!(struck >= 9, "data, header and map, each in three ways: {struck}");
}

async fn write_and_flush(disk: &Disk, at: u64, data: &[u8]) -> Result<(), Error> {
    disk.write_at(at, data, WriteFlags::empty()).await?;
    disk.flush().await
}

/// T2. Small writes into many new blocks take no more space than their data needs.
#[test]
fn t2_64_scattered_4_kib_writes_take_no_more_room_than_they_carry() {
    let subject = Subject::of(VdiDriver).size(64 * MIB);
    let golden = subject.golden();
    block_on(async {
        let storage = MemStorage::of("sim:0", golden.images[0].clone());
        let before = storage.snapshot().stored_bytes();
        let rig = Rig::new(&subject, vec![Arc::clone(&storage) as Arc<dyn Storage>]);
        let disk = Disk::new(rig.open(Access::ReadWrite).await.unwrap());
        for n in 0..64 {
            disk.write_at(n * MIB + 8192 * (n % 100), &[7; 4096], WriteFlags::empty())
                .await
                .unwrap();
        }
        disk.flush().await.unwrap();
        let taken = storage.snapshot().stored_bytes() - before;
        assert!(taken <= 64 * (4096 + 512), "{taken} bytes");
        assert!(taken >= 64 * 4096, "nothing was stored");
        disk.close().await.unwrap();
        let mut found = [0; 4096];
        let disk = Disk::new(rig.open(Access::Read).await.unwrap());
        disk.read_at(63 * MIB + 8192 * 63, &mut found).await.unwrap();
        assert_eq!(found, [7; 4096]);
    });
}

/// T4. Zeros written over a parent's data survive reopening, whether the child is closed or just dropped after the
/// flush.
#[test]
fn t4_zeros_written_over_a_parent_survive_reopening() {
    let subject = subject().size(4 * MIB).with_parents(1);
    let golden = subject.golden();
    for close in [true, false] {
        for flags in [ZeroFlags::empty(), ZeroFlags::MAY_UNMAP] {
            block_on(async {
                let rig = Rig::of_images(&subject, golden.images.clone());
                let device = rig.open(Access::ReadWrite).await.unwrap();
                let before = read_all(&*device).await.unwrap();
                assert!(before.iter().any(|byte| *byte != 0), "the parent holds data");
                let sectors = device.sector_count();
                device.write_zeroes(0, sectors, flags).await.unwrap();
                device.flush().await.unwrap();
                if close {
                    device.close().await.unwrap();
                }
                drop(device);
                let device = rig.open(Access::Read).await.unwrap();
                let after = read_all(&*device).await.unwrap();
                assert!(after.iter().all(|byte| *byte == 0), "the parent shows again");
                let stored: u64 = rig.images()[1].stored_bytes();
                assert!(stored < MIB, "zeros over a parent are entries, not {stored} bytes");
            });
        }
    }
}
