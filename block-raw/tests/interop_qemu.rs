//! Comparison with stock `qemu-img` on the same bytes.
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::io::{Seek, SeekFrom, Write as _};
use std::process::Command;
use std::sync::Arc;

use block_core::{
    Access, ExtentFlags, MemStorage, OpenRequest, Registry, Storage, WriteFlags, ZeroFlags,
};

fn skip(why: &str) {
    assert!(
        std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none_or(|value| value != "1"),
        "not skipped, because BLOCK_REQUIRE_ORACLES=1: {why}"
    );
    eprintln!("SKIPPED: {why}");
}

fn qemu(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Creates a file with the same length, holes and bytes.
async fn to_file(storage: &MemStorage) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(storage.len().await.unwrap()).unwrap();
    let mut extents = Vec::new();
    storage.extents(0..u64::MAX, &mut extents).await.unwrap();
    for extent in extents.iter().filter(|extent| extent.data) {
        let mut bytes = vec![0; usize::try_from(extent.len).unwrap()];
        storage.read_at(extent.start, &mut bytes).await.unwrap();
        file.seek(SeekFrom::Start(extent.start)).unwrap();
        file.write_all(&bytes).unwrap();
    }
    file.as_file().sync_all().unwrap();
    file
}

async fn disk_over(storage: &Arc<MemStorage>) -> block_core::Disk {
    let mut registry = Registry::new();
    block_raw::register(&mut registry);
    let request = OpenRequest::new("memory:", Access::ReadWrite).format("raw");
    Arc::new(registry).open_on(Arc::<MemStorage>::clone(storage), &request).await.unwrap()
}

#[tokio::test]
async fn the_map_is_the_stock_tools_map() {
    for len in [65536u64, 70_000, 65536 + 513] {
        let storage = MemStorage::new();
        storage.set_len(len).await.unwrap();
        storage.write_at(16384, &[5; 8192]).await.unwrap();
        storage.write_at(len - 1000, &[6; 1000]).await.unwrap();
        let file = to_file(&storage).await;
        let path = file.path().to_str().unwrap();
        let Some(theirs) = qemu("qemu-img", &["map", "--output=json", "-f", "raw", path]) else {
            return skip("qemu-img is not installed");
        };
        let extents = disk_over(&storage).await.extents(0..u64::MAX).await.unwrap();
        let mut ours = String::from("[");
        for (index, extent) in extents.as_slice().iter().enumerate() {
            let separator = if index == 0 { "" } else { ",\n" };
            write!(
                ours,
                "{separator}{{ \"start\": {}, \"length\": {}, \"depth\": 0, \"present\": true, \
                 \"zero\": {}, \"data\": {}, \"compressed\": false, \"offset\": {}}}",
                extent.start,
                extent.len,
                extent.flags.contains(ExtentFlags::ZERO),
                extent.flags.contains(ExtentFlags::DATA),
                extent.offset.unwrap(),
            )
            .unwrap();
        }
        ours.push(']');
        assert_eq!(ours, theirs.trim(), "{len}");
    }
}

#[tokio::test]
async fn writes_and_zeroes_leave_the_file_the_stock_tool_leaves() {
    for command in
        ["write -P 7 2560 512", "write -z 2560 512", "write -P 7 0 512", "discard 2560 512"]
    {
        let storage = MemStorage::from_bytes(&[9; 3000]);
        let file = to_file(&storage).await;
        let path = file.path().to_str().unwrap();
        if qemu("qemu-io", &["-f", "raw", "-d", "unmap", "-c", command, path]).is_none() {
            return skip("qemu-io is not installed");
        }
        let disk = disk_over(&storage).await;
        match command {
            "write -P 7 2560 512" => disk.write_at(2560, &[7; 512], WriteFlags::empty()).await,
            "write -P 7 0 512" => disk.write_at(0, &[7; 512], WriteFlags::empty()).await,
            "write -z 2560 512" => disk.write_zeroes(2560, 512, ZeroFlags::empty()).await,
            _ => disk.discard(2560, 512).await,
        }
        .unwrap();
        let theirs = std::fs::read(file.path()).unwrap();
        assert!(storage.to_bytes().unwrap() == theirs, "{command}");
    }
}
