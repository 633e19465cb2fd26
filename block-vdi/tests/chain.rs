//! Differencing images: parents found by UUID, verified, read through, hidden and never written.

mod support;

use std::error::Error as _;
use std::sync::Arc;

use block_core::{
    Access, Candidate, CheckMode, ErrorKind, InfoValue, MemStorage, Options, Severity, Storage,
    WriteFlags, ZeroFlags, chain,
};
use block_testkit::rng::Rng;
use block_vdi::InvalidImage;
use support::{FREE, Lab, MIB, ZERO, allocated_of, content, detail, image, map_of, poke};

const BLOCK: usize = MIB as usize;

/// Creates a base in file `base`. All of its four blocks are stored.
async fn base(lab: &Lab) {
    let storage = lab.file("base");
    storage.write_at(0, &image(4 * MIB, &[0, 1, 2, 3], 4)).await.unwrap();
}

fn reason(error: &block_core::Error) -> Option<&InvalidImage> {
    error.source().and_then(|source| source.downcast_ref())
}

fn uuid(disk: &block_core::Disk, name: &str) -> uuid::Uuid {
    match detail(disk, name) {
        InfoValue::Uuid(uuid) => uuid,
        other => panic!("{other:?}"),
    }
}

async fn amend(disk: &block_core::Disk, list: &str) {
    let specs = Lab::new().registry.driver("vdi").unwrap().descriptor().amend_options;
    disk.device().amend(&Options::parse(list, specs).unwrap()).await.unwrap();
}

#[tokio::test]
async fn free_shows_the_parent_zero_hides_it_and_data_covers_it() {
    for image_type in [3u8, 4] {
        let lab = Lab::new();
        base(&lab).await;
        let mut bytes = image(4 * MIB, &[FREE, ZERO, 0, FREE], 1);
        bytes[0x400..].fill(0xC0);
        bytes[0x4C] = image_type;
        poke(&mut bytes, 0x188, &[0x33; 16]);
        poke(&mut bytes, 0x1A8, &[0x11; 16]);
        poke(&mut bytes, 0x1B8, &[0x22; 16]);
        lab.file("child").write_at(0, &bytes).await.unwrap();
        let disk = lab.open("child", Access::Read, "strict=on").await.unwrap();
        let firsts: Vec<u8> = content(&disk).await.chunks(BLOCK).map(|block| block[0]).collect();
        assert_eq!(firsts, [0xA0, 0, 0xC0, 0xA3]);
    }
}

#[tokio::test]
async fn a_new_child_names_its_parent_and_shows_it() {
    let lab = Lab::new();
    base(&lab).await;
    let file = lab.create_child("child", "base", "").await.unwrap();
    let disk = lab.open("child", Access::Read, "strict=on").await.unwrap();
    let parent = disk.parent().unwrap();
    assert_eq!(uuid(&disk, "parent-uuid"), uuid(&parent, "uuid"));
    assert_eq!(uuid(&disk, "parent-modification-uuid"), uuid(&parent, "modification-uuid"));
    assert_eq!(disk.info().parent.unwrap().opened.as_deref(), Some("base"));
    assert_eq!((map_of(&file), disk.size()), (vec![FREE; 4], 4 * MIB));
    assert!(content(&disk).await == content(&parent).await);
    let error = lab.create_child("x", "base", "static=on").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn zeros_over_a_parent_are_still_zeros_after_reopening() {
    let lab = Lab::new();
    base(&lab).await;
    let file = lab.create_child("child", "base", "layout=qemu").await.unwrap();
    let disk = lab.open("child", Access::ReadWrite, "").await.unwrap();
    disk.write_zeroes(MIB, MIB, ZeroFlags::MAY_UNMAP).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!((map_of(&file), allocated_of(&file)), (vec![FREE, ZERO, FREE, FREE], 0));
    drop(disk);
    let disk = lab.open("child", Access::Read, "").await.unwrap();
    assert!(content(&disk).await[BLOCK..2 * BLOCK].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn part_of_a_block_is_written_over_a_copy_of_the_parents() {
    let lab = Lab::new();
    base(&lab).await;
    let file = lab.create_child("child", "base", "").await.unwrap();
    let disk = lab.open("child", Access::ReadWrite, "").await.unwrap();
    disk.write_at(MIB + 512, &[1; 512], WriteFlags::empty()).await.unwrap();
    disk.write_zeroes(2 * MIB, 65536, ZeroFlags::MAY_UNMAP).await.unwrap();
    disk.discard(3 * MIB, MIB).await.unwrap();
    disk.close().await.unwrap();
    let disk = lab.open("child", Access::Read, "").await.unwrap();
    let content = content(&disk).await;
    let mut wanted: Vec<u8> = (0..4u8).flat_map(|slot| vec![0xA0 + slot; BLOCK]).collect();
    wanted[BLOCK + 512..BLOCK + 1024].fill(1);
    wanted[2 * BLOCK..2 * BLOCK + 65536].fill(0);
    assert!(content == wanted);
    assert_eq!((map_of(&file)[0], allocated_of(&file)), (FREE, 2));
    lab.assert_clean(file).await;
}

#[tokio::test]
async fn only_the_parent_that_is_meant_is_taken() {
    let lab = Lab::new();
    base(&lab).await;
    lab.create("other", 4 * MIB, "").await.unwrap();
    let child = lab.create_child("child", "base", "").await.unwrap();
    let named = |name: &str| vec![Candidate::named(format!("mem:{name}"), "vdi")];
    let found = |name: &str| vec![Candidate::found(format!("mem:{name}"))];
    let open = |options: &'static str, candidates| {
        lab.open_below(child.clone(), Access::Read, options, candidates)
    };
    let error = open("", named("other")).await.unwrap_err();
    assert_eq!(reason(&error), Some(&InvalidImage::ParentMismatch));
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(0x1A8)));
    assert_eq!(error.image(), Some("mem:other"));
    let forced = open("verify_parent=off", named("other")).await.unwrap();
    assert_eq!(content(&forced).await, vec![0; 4 * BLOCK]);
    let missing = open("", named("nowhere")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let all = [named("nowhere"), named("other"), found("base")].concat();
    assert_eq!(content(&open("", all).await.unwrap()).await[0], 0xA0);
    for unnamed in ["", "verify_parent=off"] {
        let none = open(unnamed, [found("nowhere"), found("other")].concat()).await.unwrap_err();
        let link = "11111111-1111-1111-1111-111111111111";
        assert_eq!((none.kind(), none.offset()), (ErrorKind::NotFound, Some(0x1A8)));
        assert!(none.message().contains(link), "{none}");
    }
}

/// Creates two copies of a parent, as it was when the child was created.
async fn two_copies(lab: &Lab, left: &str, right: &str) {
    base(lab).await;
    lab.create_child("child", "base", "").await.unwrap();
    let bytes = lab.file_bytes("base").await;
    lab.file(left).write_at(0, &bytes).await.unwrap();
    lab.file(right).write_at(0, &bytes).await.unwrap();
    lab.remove("base");
}

#[tokio::test]
async fn a_stale_copy_beside_the_parent_is_passed_over_whatever_their_names() {
    for (parent, copy) in [("b", "a"), ("b", "c")] {
        let lab = Lab::new();
        two_copies(&lab, parent, copy).await;
        let stale = lab.open(copy, Access::ReadWrite, "").await.unwrap();
        stale.write_at(0, &[1; 512], WriteFlags::empty()).await.unwrap();
        stale.close().await.unwrap();
        let disk = lab.open("child", Access::Read, "strict=on").await.unwrap();
        assert_eq!(disk.info().parent.unwrap().opened.as_deref(), Some(parent));
        assert_eq!(content(&disk).await[0], 0xA0);
        let disk = lab.open_with_parent("child").await.unwrap();
        assert_eq!(disk.info().parent.unwrap().opened.as_deref(), Some(parent));
    }
}

#[tokio::test]
async fn of_two_copies_alike_none_is_taken() {
    let lab = Lab::new();
    two_copies(&lab, "a", "b").await;
    let error = lab.open("child", Access::Read, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.message().ends_with("'mem:a', 'mem:b'"), "{error}");
    assert_eq!(lab.open_with_parent("child").await.unwrap_err().kind(), ErrorKind::Ambiguous);
    // The same holds if both were written to since.
    for copy in ["a", "b"] {
        let stale = lab.open(copy, Access::ReadWrite, "").await.unwrap();
        stale.write_at(0, &[1; 512], WriteFlags::empty()).await.unwrap();
        stale.close().await.unwrap();
    }
    let error = lab.open("child", Access::Read, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
}

#[tokio::test]
async fn a_parent_that_was_written_to_is_not_written_into_unless_it_was_named() {
    let lab = Lab::new();
    base(&lab).await;
    let child = lab.create_child("child", "base", "").await.unwrap();
    lab.open_with_parent("child").await.unwrap();
    let parent = lab.open("base", Access::ReadWrite, "").await.unwrap();
    parent.write_at(0, &[1; 512], WriteFlags::empty()).await.unwrap();
    parent.close().await.unwrap();
    let error = lab.open_with_parent("child").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("parent-stale")));
    let mut request = block_core::OpenRequest::new("mem:child", Access::ReadWrite).format("vdi");
    request.parent_access = Access::ReadWrite;
    request.gate =
        std::sync::Arc::new(block_core::FixedGate(vec![Candidate::named("mem:base", "vdi")]));
    let disk = lab.registry.open_on(child, &request).await.unwrap();
    assert_eq!(disk.info().warnings.len(), 1, "{:?}", disk.info().warnings);
}

#[tokio::test]
async fn a_damaged_parent_is_told_and_no_copy_takes_its_place() {
    let lab = Lab::new();
    two_copies(&lab, "a", "b").await;
    // The block size becomes zero, but the identity is still there.
    lab.file_at("a").await.write_at(0x178, &[0; 4]).await.unwrap();
    let error = lab.open("child", Access::Read, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    lab.remove("b");
    let error = lab.open("child", Access::Read, "").await.unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(0x178)));
    assert_eq!(error.image(), Some("a"));
}

#[tokio::test]
async fn without_leave_nothing_is_opened_and_the_parent_is_named() {
    let lab = Lab::new();
    base(&lab).await;
    let child = lab.create_child("child", "base", "").await.unwrap();
    let request = block_core::OpenRequest::new("mem:child", Access::Read).format("vdi");
    let error = lab.registry.open_on(child, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("11111111-1111-1111-1111-111111111111"), "{error}");
    let alone = lab.open("child", Access::Read, "base=on").await.unwrap();
    assert_eq!(content(&alone).await, vec![0; 4 * BLOCK]);
    assert_eq!(alone.info().parent.unwrap().opened, None);
}

#[tokio::test]
async fn a_parent_that_was_written_to_is_a_warning_or_when_strict_an_error() {
    let lab = Lab::new();
    base(&lab).await;
    lab.create_child("child", "base", "").await.unwrap();
    let parent = lab.open("base", Access::ReadWrite, "").await.unwrap();
    parent.write_at(0, &[1; 512], WriteFlags::empty()).await.unwrap();
    parent.close().await.unwrap();
    let disk = lab.open("child", Access::Read, "").await.unwrap();
    assert_eq!(disk.info().warnings.len(), 1, "{:?}", disk.info().warnings);
    let error = lab.open("child", Access::Read, "strict=on").await.unwrap_err();
    assert_eq!(reason(&error), Some(&InvalidImage::ParentModified));
}

#[tokio::test]
async fn chains_that_never_end_are_refused() {
    let lab = Lab::new();
    base(&lab).await;
    lab.create_child("a", "base", "").await.unwrap();
    lab.create_child("b", "a", "").await.unwrap();
    let disk = lab.open("a", Access::ReadWrite, "").await.unwrap();
    let own = uuid(&disk, "uuid");
    let b = uuid(&lab.open("b", Access::Read, "").await.unwrap(), "uuid");
    amend(&disk, &format!("parent_uuid={b}")).await;
    let error = lab.open("b", Access::Read, "").await.unwrap_err();
    assert!(error.message().contains("leads back"), "{error}");
    amend(&disk, &format!("parent_uuid={own}")).await;
    let error = lab.open("a", Access::Read, "").await.unwrap_err();
    assert_eq!(reason(&error), Some(&InvalidImage::OwnParent));
}

#[tokio::test]
async fn a_child_that_names_no_parent_opens_only_when_told_to() {
    let lab = Lab::new();
    let mut bytes = image(4 * MIB, &[0, 1, FREE, ZERO], 2);
    bytes[0x4C] = 4;
    let file = MemStorage::from_bytes(&bytes);
    let error = lab.open_on(file.clone(), Access::Read, "").await.unwrap_err();
    assert_eq!((reason(&error), error.offset()), (Some(&InvalidImage::NoParent), Some(0x1A8)));
    assert!(lab.open_on(file, Access::Read, "base=on").await.is_ok());
}

#[tokio::test]
async fn an_image_becomes_a_base_when_its_parent_is_taken_away() {
    let lab = Lab::new();
    base(&lab).await;
    let file = lab.create_child("child", "base", "").await.unwrap();
    let disk = lab.open("child", Access::ReadWrite, "base=on").await.unwrap();
    amend(&disk, "parent_uuid=00000000-0000-0000-0000-000000000000").await;
    disk.close().await.unwrap();
    let bytes = file.to_bytes().unwrap();
    assert_eq!((bytes[0x4C], &bytes[0x1A8..0x1C8]), (1, &[0; 32][..]));
    assert!(lab.open("child", Access::Read, "").await.unwrap().parent().is_none());
}

#[tokio::test]
async fn a_child_may_be_larger_or_smaller_than_its_parent() {
    for size in [2 * MIB + 512, 7 * MIB] {
        let lab = Lab::new();
        base(&lab).await;
        let file = lab.file("child");
        let parent = lab.open("base", Access::Read, "").await.unwrap();
        let new =
            block_core::NewParent { device: parent.device().clone(), reference: "base".into() };
        lab.create_on(file.clone(), size, "", Some(new)).await.unwrap();
        let disk = lab.open("child", Access::ReadWrite, "").await.unwrap();
        let mut model = content(&parent).await;
        model.resize(size as usize, 0);
        assert!(content(&disk).await == model);
        let last = size - 512;
        disk.write_at(last, &[8; 512], WriteFlags::empty()).await.unwrap();
        model[last as usize..].fill(8);
        disk.close().await.unwrap();
        let again = lab.open("child", Access::Read, "").await.unwrap();
        assert!(content(&again).await == model);
    }
}

/// Compares chains of mixed block sizes with vectors. Random writes go to every level while the chains grow.
#[tokio::test]
async fn random_chains_agree_with_a_model() {
    const SIZE: u64 = 3 * MIB + 17 * 512;
    for seed in 0..6u64 {
        let mut rng = Rng::new(seed);
        let lab = Lab::new();
        let mut model = vec![0u8; SIZE as usize];
        let mut name = "0".to_owned();
        let sizes = ["128k", "1M", "512k", "2M", "256k"];
        lab.create(&name, SIZE, &format!("block_size={}", sizes[rng.index(5)])).await.unwrap();
        for level in 1..=5 {
            let disk = lab.open(&name, Access::ReadWrite, "").await.unwrap();
            for step in 0..60 {
                let at = rng.within(0..SIZE);
                let len = rng.within(1..(SIZE - at).min(700_000) + 1);
                let range = at as usize..(at + len) as usize;
                match rng.index(6) {
                    0..3 => {
                        let value = rng.roll() as u8;
                        let bytes = vec![value; len as usize];
                        disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                        model[range].fill(value);
                    }
                    3 => {
                        disk.write_zeroes(at, len, ZeroFlags::MAY_UNMAP).await.unwrap();
                        model[range].fill(0);
                    }
                    4 => {
                        disk.flush().await.unwrap();
                    }
                    _ => {
                        let mut read = vec![0; len as usize];
                        disk.read_at(at, &mut read).await.unwrap();
                        assert!(read == model[range], "seed {seed}, level {level}, step {step}");
                    }
                }
            }
            if level % 2 == 0 {
                disk.device().compact(&|_, _| true).await.unwrap();
            }
            disk.close().await.unwrap();
            let again = lab.open(&name, Access::Read, "strict=on").await.unwrap();
            assert!(content(&again).await == model, "seed {seed}, level {level}");
            lab.assert_clean(again.device().storage()).await;
            let child = level.to_string();
            let options = format!("block_size={}", sizes[rng.index(5)]);
            lab.create_child(&child, &name, &options).await.unwrap();
            name = child;
        }
        assert!(content(&shorten(&lab, "4", "2").await).await == model, "seed {seed}, rebased");
        merge(&lab, "4").await;
        for image in ["2", "4", "5"] {
            let disk = lab.open(image, Access::Read, "").await.unwrap();
            assert!(content(&disk).await == model, "seed {seed}, merged, image {image}");
            lab.assert_clean(disk.device().storage()).await;
        }
    }
}

/// Gives `name` a parent further down the chain without changing its content.
async fn shorten(lab: &Lab, name: &str, parent: &str) -> block_core::Disk {
    let disk = lab.open(name, Access::ReadWrite, "").await.unwrap();
    let parent = lab.open(parent, Access::Read, "").await.unwrap();
    chain::rebase(&disk, Some(&parent), &|_, _| true).await.unwrap();
    let (link, modification) = (uuid(&parent, "uuid"), uuid(&parent, "modification-uuid"));
    amend(&disk, &format!("parent_uuid={link},parent_modification_uuid={modification}")).await;
    disk.close().await.unwrap();
    let again = lab.open(name, Access::Read, "strict=on").await.unwrap();
    assert_eq!(uuid(&again.parent().unwrap(), "uuid"), link);
    again
}

/// Merges `name` into its parent and empties it.
async fn merge(lab: &Lab, name: &str) {
    let disk = lab.open_with_parent(name).await.unwrap();
    chain::commit(&disk, &|_, _| true).await.unwrap();
    disk.device().make_empty().await.unwrap();
    let parent = disk.parent().unwrap();
    disk.close().await.unwrap();
    parent.close().await.unwrap();
}

/// Returns the entries of a child's map and the content of its slots.
fn stored(file: &MemStorage) -> (Vec<u32>, Vec<Vec<u8>>) {
    let bytes = file.to_bytes().unwrap();
    let data = u32::from_le_bytes(bytes[0x158..0x15C].try_into().unwrap()) as usize;
    (map_of(file), bytes[data..].chunks(BLOCK).map(<[u8]>::to_vec).collect())
}

/// VirtualBox reads no block of a child from a parent that does not hold all of it.
#[tokio::test]
async fn a_child_larger_than_its_parent_shows_nothing_from_behind_its_end() {
    let lab = Lab::new();
    let mut bytes = image(4 * MIB - 512, &[0, 1, 2, 3], 4);
    let len = bytes.len();
    bytes.truncate(len - 512);
    lab.file("odd").write_at(0, &bytes).await.unwrap();
    let mut last = vec![0xA3; BLOCK];
    last[BLOCK - 512..].fill(0);
    let create = async |name: &str, size: u64| {
        let parent = lab.open("odd", Access::Read, "").await.unwrap();
        let device = parent.device().clone();
        let parent = block_core::NewParent { device, reference: "odd".into() };
        let file = lab.file(name);
        lab.create_on(file.clone(), size, "", Some(parent)).await.unwrap();
        file
    };
    let made = create("made", 7 * MIB).await;
    let expected = (vec![FREE, FREE, FREE, 0, ZERO, ZERO, ZERO], vec![last.clone()]);
    assert!(stored(&made) == expected);
    assert_eq!(allocated_of(&made), 1);
    lab.assert_clean(made).await;
    // A child that grows does the same, in one step or in several, with a stored block of its own.
    for steps in [&[7 * MIB][..], &[4 * MIB, 4 * MIB + 512, 7 * MIB]] {
        let grown = create("grown", 4 * MIB - 512).await;
        let disk = lab.open("grown", Access::ReadWrite, "").await.unwrap();
        disk.write_at(MIB, &[7; BLOCK], WriteFlags::empty()).await.unwrap();
        let mut model = content(&disk).await;
        for size in steps {
            disk.device().resize(*size, block_core::Preallocation::Off).await.unwrap();
            model.resize(*size as usize, 0);
            assert!(content(&disk).await == model, "{size}");
        }
        disk.close().await.unwrap();
        let (map, slots) = stored(&grown);
        assert_eq!(map, [FREE, 0, FREE, 1, ZERO, ZERO, ZERO], "{steps:?}");
        assert!(slots[1] == last);
        assert_eq!(allocated_of(&grown), 2);
        lab.assert_clean(grown).await;
        let again = lab.open("grown", Access::Read, "strict=on").await.unwrap();
        assert!(content(&again).await == model);
        lab.remove("grown");
    }
}

/// Creates a 4 MiB parent without its last sector in file `odd`. Returns its last block as a larger disk shows it.
async fn odd_parent(lab: &Lab) -> Vec<u8> {
    let mut bytes = image(4 * MIB - 512, &[0, 1, 2, 3], 4);
    let len = bytes.len();
    bytes.truncate(len - 512);
    lab.file("odd").write_at(0, &bytes).await.unwrap();
    let mut last = vec![0xA3; BLOCK];
    last[BLOCK - 512..].fill(0);
    last
}

/// Creates a child of `odd` as an older program did.
async fn child_of_odd(lab: &Lab, size: u64, map: &[u32], slots: u32) -> Arc<MemStorage> {
    let parent = lab.file_bytes("odd").await;
    let mut bytes = image(size, map, slots);
    poke(&mut bytes, 0x4C, &4u32.to_le_bytes());
    poke(&mut bytes, 0x1A8, &parent[0x188..0x1A8]);
    poke(&mut bytes, 0x188, &[0x77; 16]);
    let file = lab.file("child");
    file.write_at(0, &bytes).await.unwrap();
    file
}

#[tokio::test]
async fn a_check_mends_blocks_that_the_parent_does_not_hold() {
    let code = "vdi.child.past-parent";
    for (map, mended, slots) in [
        ([FREE, 0, FREE, FREE, FREE, FREE, ZERO], vec![FREE, 0, FREE, 1, ZERO, ZERO, ZERO], 1),
        ([FREE, 0, FREE, 1, FREE, 2, ZERO], vec![FREE, 0, FREE, 1, ZERO, 2, ZERO], 3),
    ] {
        let lab = Lab::new();
        let last = odd_parent(&lab).await;
        let child = child_of_odd(&lab, 7 * MIB, &map, slots).await;
        let before = content(&lab.open("child", Access::Read, "").await.unwrap()).await;
        let report = async |mode| {
            let report = lab.check_with_parents(child.clone(), mode).await.unwrap();
            assert!(report.is_clean(), "{report:#?}");
            report.findings.into_iter().find(|finding| finding.code == code)
        };
        let left = map.iter().skip(3).filter(|entry| **entry == FREE).count();
        let found = report(CheckMode::Report).await.unwrap();
        assert!(!found.fixed && found.message.starts_with(&left.to_string()), "{found:?}");
        assert!(!report(CheckMode::RepairLeaks).await.unwrap().fixed);
        assert_eq!(map_of(&child), map);
        assert!(report(CheckMode::RepairAll).await.unwrap().fixed);
        assert_eq!(report(CheckMode::Report).await, None);
        assert_eq!(map_of(&child), mended);
        assert_eq!(allocated_of(&child), mended.iter().filter(|e| **e < ZERO).count() as u32);
        assert!(content(&lab.open("child", Access::Read, "").await.unwrap()).await == before);
        if slots == 1 {
            assert!(stored(&child).1[1] == last);
        }
        // Without the parent, the check cannot tell.
        lab.remove("odd");
        assert_eq!(report(CheckMode::Report).await, None);
    }
}

#[tokio::test]
async fn a_change_to_the_same_size_finishes_what_one_before_it_left_to_the_parent() {
    let lab = Lab::new();
    odd_parent(&lab).await;
    let child = child_of_odd(&lab, 7 * MIB, &[FREE, 0, FREE, FREE, FREE, FREE, ZERO], 1).await;
    let disk = lab.open("child", Access::ReadWrite, "").await.unwrap();
    let before = content(&disk).await;
    disk.device().resize(7 * MIB, block_core::Preallocation::Off).await.unwrap();
    assert!(content(&disk).await == before);
    drop(disk);
    assert_eq!(map_of(&child), [FREE, 0, FREE, 1, ZERO, ZERO, ZERO]);
}

#[tokio::test]
async fn a_child_whose_parent_cannot_be_opened_is_clean_and_its_check_says_what_was_left_out() {
    let code = "vdi.child.unchecked";
    let lab = Lab::new();
    odd_parent(&lab).await;
    let child = child_of_odd(&lab, 7 * MIB, &[FREE, 0, FREE, FREE, FREE, FREE, ZERO], 1).await;
    let check = async |mode| {
        let report = lab.check_with_parents(child.clone(), mode).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
        report.findings.into_iter().filter(|finding| finding.code == code).collect::<Vec<_>>()
    };
    assert_eq!(check(CheckMode::Report).await, []);
    let sound = lab.file_bytes("odd").await;
    // Two ways to be without a parent: its own header says nothing that can be trusted, and it is not there.
    let mut broken = sound.clone();
    poke(&mut broken, 0x178, &[0; 4]);
    lab.file("odd").write_at(0, &broken).await.unwrap();
    let damaged = check(CheckMode::Report).await;
    lab.remove("odd");
    for mode in [CheckMode::Report, CheckMode::RepairLeaks, CheckMode::RepairAll] {
        let missing = check(mode).await;
        for found in [&damaged, &missing] {
            let [found] = &found[..] else { panic!("{mode:?}: {found:#?}") };
            let begin = "the child is not checked against its parent: ";
            assert!(found.message.len() > begin.len() + 10 && found.message.starts_with(begin));
            assert_eq!((found.severity, found.offset), (Severity::Cosmetic, Some(0x1A8)));
            assert!(!found.fixed && found.repair.is_none(), "{found:?}");
        }
        println!("{}\n{}", damaged[0].message, missing[0].message);
    }
    // The parent is back, and the next check looks at it.
    lab.file("odd").write_at(0, &sound).await.unwrap();
    assert_eq!(check(CheckMode::Report).await, []);
}

#[tokio::test]
async fn a_block_where_the_parent_ends_gets_a_slot_between_the_others() {
    let lab = Lab::new();
    let last = odd_parent(&lab).await;
    // The slot after the last one has no number in the map.
    let child = child_of_odd(&lab, 4 * MIB - 512, &[FREE, 3, FREE, FREE], 4).await;
    let disk = lab.open("child", Access::ReadWrite, "").await.unwrap();
    let mut model = content(&disk).await;
    disk.device().resize(4 * MIB, block_core::Preallocation::Off).await.unwrap();
    model.resize(4 * BLOCK, 0);
    assert!(content(&disk).await == model);
    drop(disk);
    assert_eq!(map_of(&child), [FREE, 3, FREE, 0]);
    assert!(stored(&child).1[0] == last);
}
