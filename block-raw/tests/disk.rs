//! Raw disks over memory: any length, windows, sizes, and refusals.
#![allow(missing_docs)]

use std::sync::Arc;

use block_core::probe::{Catalogue, Decision, Probe, ProbeInput, Recogniser};
use block_core::{
    Access, BlockDriver, CheckMode, CreateRequest, DeviceCaps, Disk, ErrorKind, ExtentFlags,
    MemStorage, NewParent, OpenContext, OpenRequest, Options, Place, Preallocation, Registry,
    Result, Storage, WriteFlags, ZeroFlags,
};
use block_raw::RawDriver;

fn registry() -> Arc<Registry> {
    let mut registry = Registry::new();
    block_raw::register(&mut registry);
    Arc::new(registry)
}

async fn open(storage: &Arc<MemStorage>, options: &[(&str, &str)]) -> Result<Disk> {
    open_for(storage, options, Access::ReadWrite).await
}

async fn open_for(
    storage: &Arc<MemStorage>,
    options: &[(&str, &str)],
    access: Access,
) -> Result<Disk> {
    let mut request = OpenRequest::new("memory:", access).format("raw");
    request.options = options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    registry().open_on(Arc::<MemStorage>::clone(storage), &request).await
}

async fn read(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xEE; len];
    disk.read_at(offset, &mut buf).await.unwrap();
    buf
}

#[tokio::test]
async fn an_odd_length_is_rounded_up_and_the_rest_reads_as_zeros() {
    for len in [0usize, 1, 511, 512, 513, 3000] {
        let storage = MemStorage::from_bytes(&vec![7; len]);
        let disk = open(&storage, &[]).await.unwrap();
        assert_eq!(disk.size(), len.next_multiple_of(512) as u64);
        let mut expected = vec![7; len];
        expected.resize(len.next_multiple_of(512), 0);
        assert_eq!(read(&disk, 0, expected.len()).await, expected);
        for sector in 0..disk.device().sector_count() {
            let mut buf = [0xEE; 512];
            disk.device().try_read_sectors(sector, &mut buf).unwrap().unwrap();
            assert_eq!(buf[..], expected[sector as usize * 512..][..512]);
            assert_eq!(disk.device().read_bytes(sector, 1).await.unwrap(), buf[..]);
        }
        assert_eq!(storage.len().await.unwrap(), len as u64, "reading changes nothing");
    }
}

#[tokio::test]
async fn writing_the_last_sector_makes_it_whole_and_discarding_it_does_not() {
    let storage = MemStorage::from_bytes(&[7; 3000]);
    let disk = open(&storage, &[]).await.unwrap();
    disk.discard(2560, 512).await.unwrap();
    assert_eq!(storage.len().await.unwrap(), 3000);
    assert_eq!(read(&disk, 2560, 512).await, [0; 512]);
    disk.write_at(2570, b"x", WriteFlags::empty()).await.unwrap();
    assert_eq!(storage.len().await.unwrap(), 3072);
    let bytes = read(&disk, 2048, 1024).await;
    assert!(bytes[..512].iter().all(|b| *b == 7) && bytes[522] == b'x');
    assert!(bytes[523..].iter().all(|b| *b == 0));

    let storage = MemStorage::from_bytes(&[7; 3000]);
    let disk = open(&storage, &[]).await.unwrap();
    disk.write_zeroes(2560, 512, ZeroFlags::MAY_UNMAP).await.unwrap();
    assert_eq!(storage.len().await.unwrap(), 3072);
}

#[tokio::test]
async fn requests_past_the_end_are_refused_and_change_nothing() {
    let storage = MemStorage::from_bytes(&[7; 1000]);
    let disk = open(&storage, &[]).await.unwrap();
    let device = disk.device();
    for (sector, count) in [(2, 1), (1, 2), (0, 3), ((i64::MAX as u64) / 512 - 1, 1)] {
        let mut buf = vec![1; count * 512];
        let kinds = [
            device.read_sectors(sector, &mut buf).await.unwrap_err().kind(),
            device.read_bytes(sector, count as u64).await.unwrap_err().kind(),
            device.try_read_sectors(sector, &mut buf).unwrap().unwrap_err().kind(),
            device.write_sectors(sector, &buf, WriteFlags::empty()).await.unwrap_err().kind(),
            device.write_zeroes(sector, count as u64, ZeroFlags::empty()).await.unwrap_err().kind(),
            device.discard(sector, count as u64).await.unwrap_err().kind(),
            device.is_allocated(sector, count as u64).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::OutOfRange; 7], "{sector} {count}");
    }
    assert_eq!(storage.to_bytes().unwrap(), [7; 1000]);
}

#[tokio::test]
async fn a_window_is_a_disk_of_its_own() {
    let bytes: Vec<u8> = (0..5000u32).map(|n| (n / 100) as u8).collect();
    let storage = MemStorage::from_bytes(&bytes);
    let disk = open(&storage, &[("offset", "1000"), ("size", "1k")]).await.unwrap();
    assert_eq!(disk.size(), 1024);
    assert_eq!(read(&disk, 0, 1024).await, bytes[1000..2024]);
    disk.write_at(0, &[0xAA; 1024], WriteFlags::FUA).await.unwrap();
    let now = storage.to_bytes().unwrap();
    assert_eq!(now[..1000], bytes[..1000]);
    assert_eq!(now[1000..2024], [0xAA; 1024]);
    assert_eq!(now[2024..], bytes[2024..]);
    let extents = disk.extents(0..u64::MAX).await.unwrap();
    assert_eq!(extents.as_slice()[0].offset, Some(1000));
    assert_eq!(extents.end(), Some(1024));
    let error = disk.device().resize(2048, Preallocation::Off).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!disk.info().caps.intersects(DeviceCaps::GROW | DeviceCaps::SHRINK));

    let rest = open(&storage, &[("offset", "1000")]).await.unwrap();
    assert_eq!(rest.size(), 4096, "4000 bytes, rounded up");
    rest.device().resize(8192, Preallocation::Off).await.unwrap();
    assert_eq!(storage.len().await.unwrap(), 9192);
}

#[tokio::test]
async fn a_window_that_is_not_inside_the_file_is_refused() {
    let storage = MemStorage::from_bytes(&[0; 3072]);
    for (offset, size, message) in [
        ("0", "600", "Specified size is not multiple of 512"),
        (
            "1024",
            "100k",
            "The sum of offset (1024) and size (102400) has to be smaller or equal to the actual \
             size of the containing file (3072)",
        ),
        (
            "102400",
            "512",
            "Offset (102400) cannot be greater than size of the containing file (3072)",
        ),
    ] {
        let error = open(&storage, &[("offset", offset), ("size", size)]).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, message));
    }
}

#[tokio::test]
async fn extents_are_those_of_the_storage_and_the_missing_end_is_a_hole() {
    let storage = MemStorage::new();
    storage.write_at(8192, &[1; 3000]).await.unwrap();
    let disk = open(&storage, &[]).await.unwrap();
    let extents = disk.extents(0..u64::MAX).await.unwrap();
    let data = ExtentFlags::PRESENT | ExtentFlags::DATA;
    let hole = ExtentFlags::PRESENT | ExtentFlags::ZERO;
    let found: Vec<_> =
        extents.as_slice().iter().map(|e| (e.start, e.len, e.flags, e.offset)).collect();
    assert_eq!(
        found,
        [(0, 8192, hole, Some(0)), (8192, 3000, data, Some(8192)), (11192, 72, hole, Some(11192)),]
    );
    let inside = disk.extents(8000..8300).await.unwrap();
    let found: Vec<_> = inside.as_slice().iter().map(|e| (e.start, e.len)).collect();
    assert_eq!(found, [(8000, 192), (8192, 108)]);
    let allocation = disk.is_allocated(0).await.unwrap();
    assert!(allocation.allocated);
    assert_eq!(allocation.sectors, 22);
}

#[tokio::test]
async fn the_map_leads_to_the_bytes_themselves() {
    let storage = MemStorage::from_bytes(&[9; 1000]);
    let disk = open(&storage, &[("offset", "100")]).await.unwrap();
    let mapped = disk.map(10..u64::MAX).await.unwrap();
    assert_eq!(mapped.runs.len(), 2);
    assert_eq!((mapped.runs[0].start, mapped.runs[0].len), (10, 890));
    match &mapped.runs[0].place {
        Place::Stored { storage: place, offset } => {
            assert_eq!(place.id(), storage.id());
            assert_eq!(*offset, 110);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((mapped.runs[1].start, mapped.runs[1].len), (900, 124));
    assert!(matches!(mapped.runs[1].place, Place::Zero));
}

#[tokio::test]
async fn resizing_shows_zeros_and_keeps_the_rest() {
    let storage = MemStorage::from_bytes(&[7; 3000]);
    let disk = open(&storage, &[]).await.unwrap();
    disk.device().resize(8192, Preallocation::Full).await.unwrap();
    assert_eq!(disk.size(), 8192);
    let bytes = read(&disk, 0, 8192).await;
    assert!(bytes[..3000].iter().all(|b| *b == 7) && bytes[3000..].iter().all(|b| *b == 0));
    disk.device().resize(1024, Preallocation::Off).await.unwrap();
    assert_eq!((disk.size(), storage.len().await.unwrap()), (1024, 1024));
    assert!(disk.device().read_sectors(2, &mut [0; 512]).await.is_err());
    disk.device().resize(2048, Preallocation::Off).await.unwrap();
    assert_eq!(read(&disk, 1024, 1024).await, [0; 1024], "old bytes came back");
    for bad in [100, u64::MAX - 511, 1 << 63] {
        let error = disk.device().resize(bad, Preallocation::Off).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:#x}");
    }
    assert_eq!(disk.size(), 2048);
}

#[tokio::test]
async fn a_new_disk_is_zeros_whatever_was_there() {
    let cx = OpenContext::new(registry());
    for preallocation in ["off", "falloc", "full"] {
        let storage = MemStorage::from_bytes(&[7; 5000]);
        let options = Options::parse(
            &format!("preallocation={preallocation}"),
            RawDriver.descriptor().create_options,
        );
        let request = CreateRequest::new(1000).options(options.unwrap());
        RawDriver.create(Arc::<MemStorage>::clone(&storage), &request, &cx).await.unwrap();
        assert_eq!(storage.to_bytes().unwrap(), [0; 1024], "{preallocation}");
        let stored = storage.allocated_bytes().await.unwrap();
        assert_eq!(stored, Some(if preallocation == "full" { 4096 } else { 0 }));
    }
    let storage = MemStorage::new();
    let request = CreateRequest::new(i64::MAX as u64);
    let error = RawDriver.create(storage, &request, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_raw_disks_do_not_have_is_refused() {
    let cx = OpenContext::new(registry());
    let storage = MemStorage::from_bytes(&[7; 512]);
    let disk = open(&storage, &[]).await.unwrap();
    let device = disk.device();
    let parent = NewParent { device: Arc::clone(device), reference: "base".into() };
    let request = CreateRequest::new(512).parent(parent);
    let target = MemStorage::new();
    let kinds = [
        RawDriver.create(target, &request, &cx).await.unwrap_err().kind(),
        device.compact(&|_, _| true).await.unwrap_err().kind(),
        device.make_empty().await.unwrap_err().kind(),
        device.amend(&Options::new()).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Unsupported; 4]);
    let error = RawDriver.check(storage, CheckMode::Report, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.message(), "This image format does not support checks");
}

#[tokio::test]
async fn a_disk_opened_for_reading_or_closed_refuses_changes() {
    let storage = MemStorage::from_bytes(&[7; 512]);
    let disk = open_for(&storage, &[], Access::Read).await.unwrap();
    let device = disk.device();
    let kinds = [
        device.write_sectors(0, &[0; 512], WriteFlags::empty()).await.unwrap_err().kind(),
        device.write_zeroes(0, 1, ZeroFlags::empty()).await.unwrap_err().kind(),
        device.discard(0, 1).await.unwrap_err().kind(),
        device.resize(1024, Preallocation::Off).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::ReadOnly; 4]);
    assert!(!disk.info().caps.contains(DeviceCaps::WRITE));
    device.close().await.unwrap();
    assert!(device.read_sectors(0, &mut [0; 512]).await.is_err());
    assert_eq!(storage.to_bytes().unwrap(), [7; 512]);
}

#[test]
fn nobody_elses_file_is_raw_and_a_foreign_claim_beats_it() {
    let report = registry().recognise(&ProbeInput::of_bytes(&[5; 4096]));
    assert_eq!((report.decision, report.selected.as_deref()), (Decision::Raw, Some("raw")));
    static TOY: Catalogue = Catalogue {
        recognisers: &[&[Recogniser::new("toy", |input| {
            Probe::of("toy", input).signature(8, b"TOYDISK\0").version((16, 4), "1", false).done()
        })]],
        hints: &[],
        hint_windows: &[],
        inspectors: &[],
    };
    let mut toy = vec![0; 4096];
    toy[8..16].copy_from_slice(b"TOYDISK\0");
    let mut registry = Registry::new();
    block_raw::register(&mut registry);
    registry.register_catalogue(&TOY);
    let report = registry.recognise(&ProbeInput::of_bytes(&toy));
    assert_eq!((report.decision, report.selected.as_deref()), (Decision::Broken, Some("toy")));
}
