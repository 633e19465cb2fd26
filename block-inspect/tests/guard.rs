//! A disk whose format was detected, not declared, cannot be turned into another format by writing to it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use block_core::probe::{Probe, ProbeInput};
use block_core::{
    Access, Advice, BlockDevice, BlockDriver, Bytes, CheckMode, CheckReport, CreateRequest,
    Descriptor, Error, ErrorKind, Identity, Measure, MemStorage, OpenContext, OpenRequest, Options,
    Registry, Result, Storage, ZeroMode,
};

const MIB: usize = 1 << 20;

/// A driver that keeps the storage passed to it, and opens nothing.
#[derive(Debug)]
struct Catcher {
    name: &'static str,
    caught: Caught,
}

type Caught = Arc<Mutex<Option<Arc<dyn Storage>>>>;

#[async_trait]
impl BlockDriver for Catcher {
    fn descriptor(&self) -> &'static Descriptor {
        const RAW: Descriptor = Descriptor {
            name: "raw",
            long_name: "raw",
            extensions: &[],
            can_create: false,
            can_check: false,
            can_repair: false,
            has_parents: false,
            open_options: &[],
            create_options: &[],
            amend_options: &[],
        };
        static VHD: Descriptor = Descriptor { name: "vhd", ..RAW };
        if self.name == "vhd" { &VHD } else { &RAW }
    }

    fn probe(&self, _: &ProbeInput) -> Probe {
        Probe::none(self.name)
    }

    async fn identity(&self, _: &dyn Storage) -> Result<Option<Identity>> {
        Ok(None)
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        _: &Options,
        _: Access,
        _: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        *self.caught.lock().unwrap() = Some(storage);
        Err(Error::new(ErrorKind::Unsupported, "caught"))
    }

    async fn create(&self, _: Arc<dyn Storage>, _: &CreateRequest, _: &OpenContext) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "only opens"))
    }

    async fn check(
        &self,
        _: Arc<dyn Storage>,
        _: CheckMode,
        _: &OpenContext,
    ) -> Result<CheckReport> {
        Err(Error::new(ErrorKind::Unsupported, "only opens"))
    }

    fn measure(&self, _: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
        Err(Error::new(ErrorKind::Unsupported, "only opens"))
    }
}

/// Returns the storage that a driver receives when `storage` is opened for writing, as `format` or by detection.
async fn opened(storage: &Arc<MemStorage>, format: Option<&str>) -> Arc<dyn Storage> {
    let caught = Caught::default();
    let mut registry = Registry::new();
    block_inspect::register(&mut registry);
    block_vdi::register(&mut registry);
    for name in ["raw", "vhd"] {
        registry.register(Arc::new(Catcher { name, caught: Arc::clone(&caught) }));
    }
    let mut request = OpenRequest::new("disk", Access::ReadWrite);
    request.format = format.map(str::to_owned);
    let error = Arc::new(registry).open_on(storage.clone(), &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    caught.lock().unwrap().take().unwrap()
}

/// A fixed VHD of 1 MiB of zeros.
fn fixed_vhd() -> Vec<u8> {
    let mut footer = vec![0u8; 512];
    for (at, bytes) in [
        (0, &b"conectix"[..]),
        (8, &[0, 0, 0, 2, 0, 1, 0, 0]),
        (16, &[0xFF; 8]),
        (0x1C, b"win "),
        (0x28, &(MIB as u64).to_be_bytes()),
        (0x30, &(MIB as u64).to_be_bytes()),
        (0x3C, &[0, 0, 0, 2]),
        (0x44, &[7; 16]),
    ] {
        footer[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let sum = !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    footer[0x40..0x44].copy_from_slice(&sum.to_be_bytes());
    [vec![0; MIB], footer].concat()
}

/// Writes the magic of a qcow2 image at the start.
async fn write_magic(storage: &Arc<dyn Storage>) -> Result<()> {
    storage.write_at(0, b"QFI\xFB\0\0\0\x03").await
}

#[tokio::test]
async fn only_a_detected_disk_is_guarded() {
    for (file, format) in [(vec![0; MIB], "raw"), (fixed_vhd(), "vhd")] {
        let storage = MemStorage::from_bytes(&file);
        let error = write_magic(&opened(&storage, None).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{format}: {error}");
        assert_eq!(storage.to_bytes().unwrap(), file, "{format}");
        write_magic(&opened(&storage, Some(format)).await).await.unwrap();
        assert!(storage.to_bytes().unwrap().starts_with(b"QFI"), "{format}");
    }
}

/// Returns a disk of zeros and the guard over it.
async fn guarded(len: usize) -> (Arc<MemStorage>, Arc<dyn Storage>) {
    let storage = MemStorage::from_bytes(&vec![0; len]);
    let guard = opened(&storage, None).await;
    (storage, guard)
}

fn footer() -> Vec<u8> {
    let mut footer = vec![0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[0x3F] = 2;
    footer
}

#[tokio::test]
async fn magic_is_refused_wherever_probing_looks() {
    let (storage, guard) = guarded(4 * MIB).await;
    let before = storage.to_bytes().unwrap();
    let cases: &[(u64, &[u8])] = &[
        (0, b"QFI\xFB\0\0\0\x03"),
        (0, b"KDMV\x01\0\0\0"),
        (0, b"# Disk DescriptorFile\nversion=1\n"),
        (0x40, &[0x7F, 0x10, 0xDA, 0xBE, 1, 0, 1, 0]),
        (0x4000, b"SKUL\xBA\xBE\0\x02"),
        (4 * MIB as u64 - 512, &footer()),
        (4 * MIB as u64 - 512, b"koly\0\0\0\x04\0\0\x02\0"),
    ];
    for (offset, bytes) in cases {
        let mut window = vec![0; 4096];
        window[..bytes.len()].copy_from_slice(bytes);
        let len = window.len().min(4 * MIB - *offset as usize);
        if *offset == 0x4000 {
            window[256..264].copy_from_slice(&0x4000u64.to_be_bytes());
        }
        let given = Bytes::copy_from_slice(&window[..len]);
        for error in [
            guard.write_at(*offset, &window[..len]).await.unwrap_err(),
            guard.write_bytes(*offset, given).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{offset:#x}");
            assert_eq!(error.code(), Some("raw-guard"));
            assert!(error.hint() == Some(&Advice::NameFormat("raw")));
        }
    }
    assert_eq!(storage.to_bytes().unwrap(), before);
    // Usual guest writes are admitted: a boot sector, a file system, data.
    let mut boot = [0u8; 512];
    boot[510..].copy_from_slice(&[0x55, 0xAA]);
    guard.write_at(0, &boot).await.unwrap();
    guard.write_at(1024, &[0x53; 1024]).await.unwrap();
    guard.write_at(MIB as u64, b"QFI\xFB\0\0\0\x03").await.unwrap();
}

#[tokio::test]
async fn a_magic_in_two_halves_is_refused_at_the_second() {
    let (_, guard) = guarded(MIB).await;
    guard.write_at(0, b"QF").await.unwrap();
    guard.write_at(4, &[0, 0, 0, 3]).await.unwrap();
    assert_eq!(guard.write_at(2, b"I\xFB").await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_length_that_exposes_a_footer_is_refused() {
    let (storage, guard) = guarded(4 * MIB).await;
    // Probing does not read the middle of the disk.
    guard.write_at(2 * MIB as u64 - 512, &footer()).await.unwrap();
    assert_eq!(guard.set_len(2 * MIB as u64).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(storage.len().await.unwrap(), 4 * MIB as u64);
    guard.set_len(3 * MIB as u64).await.unwrap();
    guard.set_len(0).await.unwrap();
}

#[tokio::test]
async fn zeros_that_complete_a_magic_are_refused() {
    let (storage, guard) = guarded(4 * MIB).await;
    guard.write_at(0, b"QEDx\0\0\x01\0").await.unwrap();
    let refused = guard.write_zeroes(3, 1, ZeroMode::Deallocate).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(storage.to_bytes().unwrap()[3], b'x');
    guard.write_zeroes(0, 4096, ZeroMode::Deallocate).await.unwrap();
    assert_eq!(storage.to_bytes().unwrap()[0], 0);
}

#[tokio::test]
async fn copies_into_what_probing_reads_go_through_a_buffer() {
    let (_, guard) = guarded(MIB).await;
    let source = MemStorage::from_bytes(b"QFI\xFB\0\0\0\x03");
    assert!(!guard.copy_from(0, &*source, 0, 8).await.unwrap());
}
