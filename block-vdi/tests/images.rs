//! Images written by VirtualBox, images created here, and the changes that writes make in the file.

mod support;

use std::io::Read as _;

use block_core::{
    Access, ErrorKind, InfoValue, MemStorage, Options, Preallocation, WriteFlags, ZeroFlags,
};
use sha2::{Digest as _, Sha256};
use support::{
    FREE, Lab, MIB, ZERO, allocated_of, base4, content, detail, image, map_of, number, poke,
};

/// The samples as VirtualBox reads them: name, disk size in bytes, SHA-256 of the content.
const SAMPLES: [(&str, u64, &str); 7] = [
    ("dyn", 5244416, "ed6922153ae874c88b751a6c3376717b4b155c8fc02fa69d7c6611211a8a10be"),
    ("fixed", 5244416, "ed6922153ae874c88b751a6c3376717b4b155c8fc02fa69d7c6611211a8a10be"),
    ("empty", 1 << 30, "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"),
    ("chain-base", 8391168, "0a0f5e85fb17cb37d4f31b42da344682f7a9ea961a4bccda953fbe7cc541f194"),
    ("chain-d1", 8391168, "921c5b120bd045c7d53239494494762d6087e8d6e6fcbf691cd4a4de5eb8eef6"),
    ("chain-d2", 8391168, "adbbe3c9ca9bad2806bd67321c87f501843a2a056a49d17dc8344317dc93b39b"),
    ("chain-flat", 8391168, "adbbe3c9ca9bad2806bd67321c87f501843a2a056a49d17dc8344317dc93b39b"),
];

/// Loads the unpacked samples under their names.
fn samples() -> Lab {
    let lab = Lab::new();
    for name in SAMPLES.map(|(name, _, _)| name).into_iter().chain(["resized"]) {
        lab.add(name, MemStorage::named(name));
        let path = format!("{}/tests/samples/{name}.vdi.gz", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();
        lab.add(name, named(name, &bytes));
    }
    lab
}

fn named(name: &str, bytes: &[u8]) -> std::sync::Arc<MemStorage> {
    use block_core::Storage as _;
    use block_testkit::exec::block_on;
    let storage = MemStorage::named(name);
    block_on(storage.write_at(0, bytes)).unwrap();
    storage
}

async fn digest(disk: &block_core::Disk, len: u64) -> String {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; MIB as usize];
    let mut at = 0;
    while at < len {
        let part = &mut buf[..(len - at).min(MIB) as usize];
        disk.read_at(at, part).await.unwrap();
        hasher.update(&*part);
        at += part.len() as u64;
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_images_of_virtualbox_read_as_virtualbox_reads_them() {
    let lab = samples();
    for (name, size, wanted) in SAMPLES {
        let disk = lab.open(name, Access::Read, "").await.unwrap();
        assert_eq!(disk.size(), size, "{name}");
        assert_eq!(digest(&disk, size).await, wanted, "{name}");
        let storage = disk.device().storage();
        let report = lab.check_with_parents(storage, block_core::CheckMode::Report).await.unwrap();
        assert_eq!(report.findings, [], "{name}");
    }
}

#[tokio::test]
async fn an_image_that_virtualbox_grew_reads_as_before_and_zeros_behind() {
    let lab = samples();
    let disk = lab.open("resized", Access::Read, "").await.unwrap();
    assert_eq!((disk.size(), digest(&disk, 5244416).await.as_str()), (32 << 30, SAMPLES[0].2));
    let runs = disk.map(5244416..32 << 30).await.unwrap().runs;
    assert!(
        runs.iter().all(|run| matches!(run.place, block_core::Place::Zero) || run.start < 6 * MIB)
    );
    let info = disk.info();
    assert!(!info.details.iter().any(|(name, _)| *name == "geometry"), "its geometry is garbage");
}

#[tokio::test]
async fn a_child_of_virtualbox_is_written_over_its_parents_and_flattens_to_a_model() {
    let lab = samples();
    let disk = lab.open("chain-d2", Access::ReadWrite, "strict=on").await.unwrap();
    let mut model = content(&disk).await;
    for (at, len, value) in [(100, 5000, 1u8), (MIB - 7, 2 * MIB, 2), (8 * MIB, 2000, 3)] {
        disk.write_at(at, &vec![value; len as usize], WriteFlags::empty()).await.unwrap();
        model[at as usize..(at + len) as usize].fill(value);
    }
    disk.write_zeroes(4 * MIB, MIB + 4096, ZeroFlags::MAY_UNMAP).await.unwrap();
    model[4 * MIB as usize..(5 * MIB + 4096) as usize].fill(0);
    disk.close().await.unwrap();
    let again = lab.open("chain-d2", Access::Read, "strict=on").await.unwrap();
    assert!(content(&again).await == model);
    assert_eq!(again.parent().unwrap().parent().unwrap().info().format, "vdi");
    for name in ["chain-base", "chain-d1"] {
        let parent = lab.open(name, Access::Read, "").await.unwrap();
        let wanted = SAMPLES.iter().find(|sample| sample.0 == name).unwrap().2;
        assert_eq!(digest(&parent, parent.size()).await, wanted, "a parent stays as it is");
    }
}

#[tokio::test]
async fn new_images_have_the_layout_of_virtualbox_or_of_qemu() {
    let lab = Lab::new();
    let vbox = lab.create("v", 10 * MIB, "").await.unwrap();
    let disk = lab.open("v", Access::Read, "").await.unwrap();
    assert_eq!(vbox.to_bytes().unwrap().len() as u64, 2 * MIB);
    assert_eq!((number(&disk, "map-offset"), number(&disk, "data-offset")), (MIB, 2 * MIB));
    assert_eq!((number(&disk, "header-size"), number(&disk, "blocks")), (0x190, 10));
    assert_eq!(vbox.to_bytes().unwrap()[0x1D4..0x1D8], 512u32.to_le_bytes());
    assert_eq!(map_of(&vbox), [FREE; 10]);
    assert_eq!(content(&disk).await, vec![0; 10 * MIB as usize]);

    let qemu = lab.create("q", 10 * MIB, "layout=qemu").await.unwrap();
    let bytes = qemu.to_bytes().unwrap();
    assert_eq!(bytes.len(), 1024);
    assert_eq!(bytes[0x154..0x15C], [0, 2, 0, 0, 0, 4, 0, 0]);
    assert_eq!(bytes[0x48..0x50], [0x80, 1, 0, 0, 1, 0, 0, 0]);
    assert!(bytes[0x1C8..0x200].iter().all(|byte| *byte == 0));
    assert_eq!((bytes[0x188 + 7] >> 4, bytes[0x198 + 7] >> 4), (4, 4), "random UUIDs");
}

#[tokio::test]
async fn sizes_are_rounded_up_to_sectors_and_blocks() {
    let lab = Lab::new();
    for (size, disk_size, blocks) in [
        (1, 512, 1),
        (511, 512, 1),
        (512, 512, 1),
        (1000, 1024, 1),
        (MIB - 1, MIB, 1),
        (MIB + 1, MIB + 512, 2),
    ] {
        lab.create("x", size, "layout=qemu").await.unwrap();
        let disk = lab.open("x", Access::Read, "").await.unwrap();
        assert_eq!((disk.size(), number(&disk, "blocks")), (disk_size, blocks), "{size}");
    }
    let empty = lab.create("x", 0, "layout=qemu").await.unwrap();
    assert_eq!(empty.to_bytes().unwrap().len(), 512);
    assert_eq!(lab.open("x", Access::ReadWrite, "").await.unwrap().size(), 0);
    let empty = lab.create("x", 0, "").await.unwrap();
    assert_eq!(empty.to_bytes().unwrap().len(), 1 << 20);
    assert_eq!(lab.open("x", Access::ReadWrite, "").await.unwrap().size(), 0);
}

#[tokio::test]
async fn what_the_format_cannot_express_is_refused() {
    let lab = Lab::new();
    for (size, options) in [
        (2 << 50, ""),
        (562_949_819_203_585, "layout=qemu"),
        (u64::MAX, ""),
        (MIB, "block_size=3M"),
        (MIB, "layout=qemu,geometry=1/2/3"),
        (MIB, "geometry=1/2"),
    ] {
        let error = lab.create("x", size, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{size} {options}: {error}");
    }
    let long = format!("comment={}", "x".repeat(256));
    assert!(lab.create("x", MIB, &long).await.is_err());
}

#[tokio::test]
async fn a_static_image_has_all_its_blocks_and_keeps_them() {
    let lab = Lab::new();
    let file = lab.create("s", 3 * MIB + 1, "static=on,layout=qemu").await.unwrap();
    assert_eq!(map_of(&file), [0, 1, 2, 3]);
    assert_eq!(file.to_bytes().unwrap().len() as u64, 0x400 + 4 * MIB);
    let disk = lab.open("s", Access::ReadWrite, "").await.unwrap();
    assert_eq!(
        (disk.size(), detail(&disk, "variant")),
        (3 * MIB + 512, InfoValue::Text("static".into()))
    );
    disk.write_at(MIB, &[7; 4096], WriteFlags::empty()).await.unwrap();
    disk.discard(MIB, MIB).await.unwrap();
    disk.write_zeroes(0, 2 * MIB, ZeroFlags::MAY_UNMAP).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, 1, 2, 3], 4));
    assert_eq!(
        content(&lab.open("s", Access::Read, "").await.unwrap()).await,
        vec![0; 3 * MIB as usize + 512]
    );
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn preallocated_images_are_dynamic_and_full() {
    let lab = Lab::new();
    for kind in ["metadata", "falloc", "full"] {
        let options = format!("preallocation={kind},block_size=128k");
        let file = lab.create("p", MIB, &options).await.unwrap();
        assert_eq!(map_of(&file), [0, 1, 2, 3, 4, 5, 6, 7], "{kind}");
        assert_eq!(file.to_bytes().unwrap().len() as u64, 3 * MIB, "{kind}");
        lab.assert_clean(file).await;
    }
}

#[tokio::test]
async fn every_block_size_is_written_and_read_back() {
    let lab = Lab::new();
    for block_size in ["128k", "512k", "2M", "8M", "128M"] {
        let options = format!("block_size={block_size}");
        let file = lab.create("b", 300 * MIB, &options).await.unwrap();
        let disk = lab.open("b", Access::ReadWrite, "").await.unwrap();
        let places = [0, 128 * MIB - 3, 299 * MIB];
        for (index, at) in places.into_iter().enumerate() {
            disk.write_at(at, &[index as u8 + 1; 7], WriteFlags::empty()).await.unwrap();
        }
        disk.close().await.unwrap();
        let disk = lab.open("b", Access::Read, "").await.unwrap();
        for (index, at) in places.into_iter().enumerate() {
            let mut read = [0; 9];
            disk.read_at(at.saturating_sub(1), &mut read).await.unwrap();
            let from = usize::from(at > 0);
            assert_eq!(read[from..from + 7], [index as u8 + 1; 7], "{block_size}");
        }
        lab.assert_clean(file).await;
    }
}

#[tokio::test]
async fn blocks_in_any_order_read_in_the_order_of_the_disk() {
    let bytes = image(4 * MIB, &[2, 1, 0, FREE], 3);
    let disk = Lab::new().open_on(MemStorage::from_bytes(&bytes), Access::Read, "").await.unwrap();
    let content = content(&disk).await;
    let firsts: Vec<u8> = content.chunks(MIB as usize).map(|block| block[0]).collect();
    assert_eq!(firsts, [0xA2, 0xA1, 0xA0, 0]);
}

#[tokio::test]
async fn a_new_block_never_lands_on_one_in_use_whatever_the_count_says() {
    for (map, count) in [([0, 1, FREE, FREE], 0u32), ([0, 2, FREE, FREE], 2)] {
        let mut bytes = image(4 * MIB, &map, 3);
        poke(&mut bytes, 0x184, &count.to_le_bytes());
        let file = MemStorage::from_bytes(&bytes);
        let disk = Lab::new().open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
        disk.write_at(2 * MIB, &[1; 512], WriteFlags::empty()).await.unwrap();
        disk.close().await.unwrap();
        let entry = map_of(&file)[2];
        assert!(!map.contains(&entry), "slot {entry} was in use");
        let disk = Lab::new().open_on(file.clone(), Access::Read, "").await.unwrap();
        let content = content(&disk).await;
        assert_eq!((content[0], content[MIB as usize]), (0xA0, 0xA0 + map[1] as u8));
        assert_eq!(content[2 * MIB as usize + 512], 0, "the rest of a new block is zeros");
    }
}

#[tokio::test]
async fn zeros_over_free_blocks_of_a_base_cost_nothing_and_freed_space_goes_back() {
    let file = MemStorage::from_bytes(&base4());
    let lab = Lab::new();
    let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    disk.write_zeroes(2 * MIB, 2 * MIB, ZeroFlags::MAY_UNMAP).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, 1, FREE, ZERO], 2));
    disk.discard(MIB, MIB).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![0, ZERO, FREE, ZERO], 1));
    assert_eq!(file.to_bytes().unwrap().len() as u64, 0x400 + MIB, "the file's tail was free");
}

#[tokio::test]
async fn the_modification_uuid_changes_with_the_first_write_and_with_nothing_else() {
    let uuids = |file: &MemStorage| {
        let bytes = file.to_bytes().unwrap();
        (bytes[0x188..0x198].to_vec(), bytes[0x198..0x1A8].to_vec())
    };
    let file = MemStorage::from_bytes(&base4());
    let lab = Lab::new();
    let before = (uuids(&file), file.to_bytes());
    for access in [Access::Read, Access::ReadWrite] {
        let disk = lab.open_on(file.clone(), access, "").await.unwrap();
        content(&disk).await;
        disk.flush().await.unwrap();
        disk.close().await.unwrap();
        assert!(file.to_bytes() == before.1, "{access:?}");
    }
    let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    disk.write_at(0, &[1; 512], WriteFlags::empty()).await.unwrap();
    let in_place = uuids(&file);
    assert_eq!(in_place.0, before.0.0);
    assert_ne!(in_place.1, before.0.1, "before a write in place, too");
    disk.write_at(1024, &[2; 512], WriteFlags::empty()).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!(uuids(&file), in_place, "once a session without new blocks");
}

#[tokio::test]
async fn facts_are_amended_in_the_file_and_bad_ones_refused() {
    let lab = Lab::new();
    let file = lab.create("a", 4 * MIB, "").await.unwrap();
    let specs = lab.registry.driver("vdi").unwrap().descriptor().amend_options;
    let disk = lab.open("a", Access::ReadWrite, "").await.unwrap();
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let list = format!("uuid={uuid},comment=two\u{1b}words,geometry=100/16/63");
    disk.device().amend(&Options::parse(&list, specs).unwrap()).await.unwrap();
    assert_eq!(
        file.to_bytes().unwrap()[0x188..0x190],
        [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]
    );
    let again = lab.open("a", Access::Read, "").await.unwrap();
    assert_eq!(detail(&again, "uuid"), InfoValue::Uuid(uuid.parse().unwrap()));
    assert_eq!(detail(&again, "comment"), InfoValue::Text("two\\u{1b}words".into()));
    assert_eq!(detail(&again, "geometry"), InfoValue::Text("100/16/63".into()));
    let nil = "00000000-0000-0000-0000-000000000000";
    for bad in [&format!("uuid={nil}"), "geometry=0/1/1", &format!("comment={}", "é".repeat(128))]
    {
        let error = disk.device().amend(&Options::parse(bad, specs).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    let unterminated = {
        let mut bytes = base4();
        poke(&mut bytes, 0x54, &[b'x'; 256]);
        MemStorage::from_bytes(&bytes)
    };
    let disk = lab.open_on(unterminated, Access::Read, "").await.unwrap();
    assert_eq!(detail(&disk, "comment"), InfoValue::Text("x".repeat(255)));
}

/// Returns [`base4`] in version 0.2: the map at 420, the data right after it.
fn version_0() -> Vec<u8> {
    let new = base4();
    let mut bytes = vec![0; 436];
    poke(&mut bytes, 0x40, &[0x7F, 0x10, 0xDA, 0xBE, 2, 0, 0, 0]);
    poke(&mut bytes, 0x48, &1u32.to_le_bytes());
    poke(&mut bytes, 0x160, &new[0x170..0x178]);
    poke(&mut bytes, 0x168, &new[0x178..0x17C]);
    poke(&mut bytes, 0x16C, &new[0x180..0x188]);
    poke(&mut bytes, 0x174, &new[0x188..0x1A8]);
    poke(&mut bytes, 420, &new[0x200..0x210]);
    bytes.extend_from_slice(&new[0x400..]);
    bytes
}

#[tokio::test]
async fn version_0_2_is_read_and_written_and_keeps_its_size() {
    let lab = Lab::new();
    let file = MemStorage::from_bytes(&version_0());
    let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    assert_eq!(detail(&disk, "version"), InfoValue::Text("0.2".into()));
    let mut model = content(&disk).await;
    assert_eq!((model[0], model[MIB as usize]), (0xA0, 0xA1));
    for at in [10, 2 * MIB + 77] {
        disk.write_at(at, &[5; 1000], WriteFlags::empty()).await.unwrap();
        model[at as usize..][..1000].fill(5);
    }
    let refused = disk.device().resize(8 * MIB, Preallocation::Off).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    disk.close().await.unwrap();
    let again = lab.open_on(file.clone(), Access::Read, "").await.unwrap();
    assert!(content(&again).await == model);
    let bytes = file.to_bytes().unwrap();
    assert_eq!(bytes[420..436], [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]);
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn private_bytes_in_front_of_blocks_are_stepped_over_kept_and_moved_along() {
    let mut bytes = image(4 * MIB, &[1, 0, FREE, FREE], 0);
    poke(&mut bytes, 0x17C, &512u32.to_le_bytes());
    poke(&mut bytes, 0x184, &2u32.to_le_bytes());
    for slot in 0..2u8 {
        bytes.extend([0xE0 + slot; 512]);
        bytes.extend(vec![0xA0 + slot; MIB as usize]);
    }
    let lab = Lab::new();
    let file = MemStorage::from_bytes(&bytes);
    let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    let firsts: Vec<u8> = content(&disk).await.chunks(MIB as usize).map(|block| block[0]).collect();
    assert_eq!(firsts, [0xA1, 0xA0, 0, 0]);
    disk.write_at(2 * MIB, &[7; 512], WriteFlags::empty()).await.unwrap();
    disk.discard(MIB, MIB).await.unwrap();
    disk.flush().await.unwrap();
    disk.device().compact(&|_, _| true).await.unwrap();
    disk.close().await.unwrap();
    let after = file.to_bytes().unwrap();
    let map = map_of(&file);
    assert_eq!(map[1], ZERO);
    let stride = 512 + MIB as usize;
    let lead = |slot: u32| after[0x400 + slot as usize * stride];
    assert_eq!(
        (lead(map[0]), lead(map[2])),
        (0xE1, 0),
        "its own moved along, a new block has zeros"
    );
    let again = lab.open_on(file, Access::Read, "").await.unwrap();
    let firsts: Vec<u8> =
        content(&again).await.chunks(MIB as usize).map(|block| block[0]).collect();
    assert_eq!(firsts, [0xA1, 0, 7, 0]);
}

#[tokio::test]
async fn an_image_at_odd_offsets_is_written_in_place() {
    let mut bytes = base4();
    bytes.splice(0x400..0x400, [0; 32]);
    bytes.splice(0x200..0x200, [0; 4]);
    poke(&mut bytes, 0x154, &0x204u32.to_le_bytes());
    poke(&mut bytes, 0x158, &0x424u32.to_le_bytes());
    let lab = Lab::new();
    let file = MemStorage::from_bytes(&bytes);
    let disk = lab.open_on(file.clone(), Access::ReadWrite, "").await.unwrap();
    let mut model = content(&disk).await;
    disk.write_at(3 * MIB - 10, &[9; 20], WriteFlags::empty()).await.unwrap();
    model[3 * MIB as usize - 10..][..20].fill(9);
    disk.close().await.unwrap();
    let again = lab.open_on(file.clone(), Access::Read, "").await.unwrap();
    assert!(content(&again).await == model);
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn compacting_drops_zero_blocks_and_emptying_drops_all() {
    let lab = Lab::new();
    let file = lab.create("c", 8 * MIB, "").await.unwrap();
    let disk = lab.open("c", Access::ReadWrite, "").await.unwrap();
    for block in 0..8u8 {
        let value = if block % 3 == 0 { 0 } else { block };
        disk.write_at(u64::from(block) * MIB, &vec![value; MIB as usize], WriteFlags::empty())
            .await
            .unwrap();
    }
    let before = content(&disk).await;
    let report = disk.device().compact(&|_, _| true).await.unwrap();
    assert_eq!(report.blocks_dropped, 3);
    assert!(content(&disk).await == before);
    assert_eq!(allocated_of(&file), 5);
    assert_eq!(file.to_bytes().unwrap().len() as u64, 2 * MIB + 5 * MIB);
    disk.device().make_empty().await.unwrap();
    disk.close().await.unwrap();
    assert_eq!((allocated_of(&file), map_of(&file)), (0, vec![FREE; 8]));
    assert_eq!(file.to_bytes().unwrap().len() as u64, 2 * MIB);
    lab.assert_clean(file).await;
}
