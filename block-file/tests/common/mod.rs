//! Helpers for the tests of this crate.
#![allow(dead_code, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use block_core::{
    CacheMode, Options, ProtocolDriver, Result, Sharing, Storage, StorageAccess, StorageExtent,
    StorageOptions,
};
use block_file::FileProtocol;

/// Reports on stderr that a test did not run, or fails where skipping is not allowed.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none_or(|value| value != "1"),
        "not skipped, because BLOCK_REQUIRE_ORACLES=1: {why}"
    );
    eprintln!("SKIPPED: {why}");
}

/// Returns whether a program can be started.
pub fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

pub fn run(program: &str, arguments: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

pub async fn open(
    path: &Path,
    access: StorageAccess,
    cache: CacheMode,
) -> Result<Arc<dyn Storage>> {
    let options = StorageOptions::new(access).sharing(Sharing::Unlocked).cache(cache);
    FileProtocol.open(path.to_str().unwrap(), &options).await
}

pub async fn open_with(
    path: &Path,
    access: StorageAccess,
    cache: CacheMode,
    engine: &str,
) -> Result<Arc<dyn Storage>> {
    let options = StorageOptions::new(access).sharing(Sharing::Unlocked).cache(cache);
    let options = options.options(option("engine", engine));
    FileProtocol.open(path.to_str().unwrap(), &options).await
}

/// Drops a file's cached pages.
pub fn cool(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

pub async fn open_shared(
    path: &Path,
    access: StorageAccess,
    sharing: Sharing,
) -> Result<Arc<dyn Storage>> {
    let options = StorageOptions::new(access).sharing(sharing);
    FileProtocol.open(path.to_str().unwrap(), &options).await
}

pub fn option(name: &str, value: &str) -> Options {
    let mut options = Options::new();
    options.set(FileProtocol.open_options(), name, value).unwrap();
    options
}

pub async fn create(path: &Path) -> Arc<dyn Storage> {
    open(path, StorageAccess::Create, CacheMode::Writeback).await.unwrap()
}

pub async fn all(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(storage.len().await.unwrap()).unwrap()];
    storage.read_at(0, &mut bytes).await.unwrap();
    bytes
}

pub async fn extents(storage: &dyn Storage) -> Vec<StorageExtent> {
    let mut out = Vec::new();
    storage.extents(0..u64::MAX, &mut out).await.unwrap();
    out
}

/// Returns bytes that differ from place to place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| random.next().to_le_bytes()[3] | 1).collect()
}

/// A xorshift generator: the same seed gives the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A loop device over a file, detached when dropped.
pub struct Loop(pub String);

impl Loop {
    pub fn over(file: &Path, arguments: &[&str]) -> Option<Self> {
        let mut all = vec!["--find", "--show"];
        all.extend(arguments);
        all.push(file.to_str()?);
        match run("losetup", &all) {
            Ok(device) => Some(Self(device)),
            Err(why) => {
                skip(&format!("no loop device can be had: {why}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach", &self.0]);
    }
}

/// A small file system in memory. Dropping it unmounts it.
pub struct Tmpfs(pub tempfile::TempDir);

impl Tmpfs {
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        match run("mount", &["-t", "tmpfs", "-o", &size, "none", dir.path().to_str()?]) {
            Ok(_) => Some(Self(dir)),
            Err(why) => {
                skip(&format!("no tmpfs can be mounted: {why}"));
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", self.0.path().to_str().unwrap_or_default()]);
    }
}
