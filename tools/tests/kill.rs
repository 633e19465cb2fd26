//! A process that writes images is killed at random moments; what it had flushed is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use block_core::{
    Access, CheckMode, CreateRequest, Disk, OpenContext, OpenRequest, Registry, StorageAccess,
    StorageOptions, WriteFlags,
};
use block_testkit::rng::Rng;
use block_testkit::stamp::{Content, SECTOR, identify, stamped};

/// Sectors of the disk: 12 blocks of 1 MiB, the last one partial.
const SECTORS: u64 = (11 << 11) + 100;
/// Set in the child: the image to write, and the seed.
const CHILD: &str = "KILL_TEST_CHILD";

fn registry() -> Arc<Registry> {
    let mut registry = Registry::new();
    block_file::register(&mut registry);
    block_vdi::register(&mut registry);
    Arc::new(registry)
}

/// What request `n` of a seed writes: first sector, how many.
fn request(seed: u64, n: u32) -> (u64, u64) {
    let mut rng = Rng::new(seed ^ u64::from(n) << 32);
    let sector = rng.within(0..SECTORS);
    (sector, rng.within(1..200).min(SECTORS - sector))
}

async fn open(path: &Path, access: Access) -> Disk {
    let request = OpenRequest::new(path.to_str().unwrap(), access).format("vdi");
    registry().open(&request).await.unwrap()
}

/// The child: writes, flushes now and then, and says up to which request all is flushed.
#[tokio::test]
async fn child() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let (seed, path) = what.split_once(' ').unwrap();
    let seed = seed.parse().unwrap();
    let disk = open(Path::new(path), Access::ReadWrite).await;
    for n in 1.. {
        let (sector, count) = request(seed, n);
        disk.write_at(sector * 512, &stamped(n, sector, count), WriteFlags::empty()).await.unwrap();
        if n % 7 == 0 {
            disk.flush().await.unwrap();
            println!("flushed {n}");
            std::io::stdout().flush().unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_flushed_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(9);
    let (mut flushed_in_all, mut late) = (0, 0);
    for round in 0..20u64 {
        let path = dir.path().join(format!("{round}.vdi"));
        create(&path).await;
        let seed = rng.roll();
        let flushed = run_and_kill(&path, seed, Duration::from_micros(rng.within(0..40_000)));
        flushed_in_all += flushed;
        late += verify(&path, seed, flushed).await;
    }
    assert!(flushed_in_all > 100, "the children hardly got to write: {flushed_in_all}");
    println!("{flushed_in_all} flushed requests, {late} sectors of later ones");
}

async fn create(path: &Path) {
    let registry = registry();
    let options = StorageOptions::new(StorageAccess::CreateNew);
    let storage = registry.open_storage(path.to_str().unwrap(), &options).await.unwrap();
    let cx = OpenContext::new(Arc::clone(&registry));
    let driver = registry.driver("vdi").unwrap();
    driver.create(storage, &CreateRequest::new(SECTORS * 512), &cx).await.unwrap();
}

/// Lets a child write for `time` after its first flush, and kills it. Says what it flushed last.
fn run_and_kill(path: &Path, seed: u64, time: Duration) -> u32 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("{seed} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: &str| line.split_once("flushed ").and_then(|(_, n)| n.parse::<u32>().ok());
    let mut flushed = lines.by_ref().find_map(|line| number(&line.unwrap())).unwrap();
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        flushed = number(&line).unwrap_or(flushed);
    }
    flushed
}

/// Every sector holds the last flushed write to it, or a later one. Says how many hold a later one.
async fn verify(path: &Path, seed: u64, flushed: u32) -> usize {
    let registry = registry();
    let options = StorageOptions::new(StorageAccess::Read);
    let storage = registry.open_storage(path.to_str().unwrap(), &options).await.unwrap();
    let cx = OpenContext::new(Arc::clone(&registry));
    let driver = registry.driver("vdi").unwrap();
    let report = driver.check(storage, CheckMode::Report, &cx).await.unwrap();
    assert_eq!(report.corruptions, 0, "{:?}", report.findings);

    let mut wanted = vec![0; SECTORS as usize];
    for n in 1..=flushed {
        let (sector, count) = request(seed, n);
        wanted[sector as usize..(sector + count) as usize].fill(n);
    }
    // A killed process leaves its lock to nobody: the image opens for writing.
    let disk = open(path, Access::ReadWrite).await;
    let mut bytes = vec![0; SECTORS as usize * SECTOR];
    disk.read_at(0, &mut bytes).await.unwrap();
    let mut late = 0;
    for (sector, chunk) in (0..).zip(bytes.chunks_exact(SECTOR)) {
        let wanted = wanted[sector as usize];
        match identify(chunk, sector) {
            Content::Written(id) if id == wanted => {}
            Content::Written(id) if id > flushed => late += 1,
            other => panic!("sector {sector} holds {other}, wanted write #{wanted} or a later one"),
        }
    }
    disk.close().await.unwrap();
    late
}
