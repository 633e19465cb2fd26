//! Image locks against the stock tools and among our own storages, as the table in `block_file::lock` says.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use block_core::{ErrorKind, Sharing, Storage, StorageAccess, StorageOptions};
use common::{have, open_shared, run, skip};

const READ: StorageAccess = StorageAccess::Read;
const WRITE: StorageAccess = StorageAccess::ReadWrite;

/// Runs one test at a time: a forked child inherits the files open here, with their locks, until it executes its
/// program.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn image(dir: &Path, format: &str) -> std::path::PathBuf {
    let path = dir.join(format!("disk.{format}"));
    run("qemu-img", &["create", "-q", "-f", format, path.to_str().unwrap(), "4M"]).unwrap();
    path
}

/// A stock `qemu-io` that holds an image open. It is killed when dropped.
struct QemuIo {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl QemuIo {
    fn open(path: &Path, format: &str, flags: &[&str]) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", format])
            .args(flags)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The answer to a command shows that the image is open.
        writeln!(stdin, "length").unwrap();
        stdin.flush().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("4 MiB"), "qemu-io said {line:?}");
        Self { child, stdin: Some(stdin) }
    }

    fn close(mut self) {
        drop(self.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the image with the stock tool. Returns its message if it fails.
fn qemu_opens(path: &Path, format: &str, flags: &[&str]) -> Result<(), String> {
    let mut arguments = vec!["-f", format];
    arguments.extend(flags);
    arguments.extend(["-c", "length", path.to_str().unwrap()]);
    run("qemu-io", &arguments).map(drop)
}

async fn ours(path: &Path, access: StorageAccess) -> Result<Arc<dyn Storage>, String> {
    open_shared(path, access, Sharing::Exclusive).await.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
        assert_eq!(error.code(), Some("image-locked"));
        let hint = format!("Is another process using the image [{}]?", path.display());
        assert_eq!(error.hint().map(ToString::to_string), Some(hint));
        error.message().to_owned()
    })
}

#[tokio::test]
async fn we_exclude_the_stock_tool() {
    let _alone = ALONE.lock().await;
    if !have("qemu-io") {
        return skip("qemu-io is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "vdi");

    let holder = ours(&path, WRITE).await.unwrap();
    let refused = qemu_opens(&path, "vdi", &[]).unwrap_err();
    assert!(refused.contains("Failed to get \"write\" lock"), "{refused}");
    let refused = qemu_opens(&path, "vdi", &["-r"]).unwrap_err();
    assert!(refused.contains("Failed to get shared \"write\" lock"), "{refused}");
    qemu_opens(&path, "vdi", &["-r", "-U"]).expect("who bears writers is let in");
    let text = path.to_str().unwrap();
    for command in [
        &["info", text][..],
        &["check", text],
        &["map", text],
        &["create", "-q", "-f", "vdi", text, "1M"],
        &["resize", "-q", "-f", "raw", text, "+1M"],
    ] {
        assert!(run("qemu-img", command).unwrap_err().contains("lock"), "{command:?}");
    }
    drop(holder);

    let holder = ours(&path, READ).await.unwrap();
    qemu_opens(&path, "vdi", &["-r"]).expect("readers share");
    let refused = qemu_opens(&path, "vdi", &[]).unwrap_err();
    assert!(refused.contains("Failed to get \"write\" lock"), "{refused}");
    drop(holder);

    qemu_opens(&path, "vdi", &[]).expect("a dropped storage locks nothing");
}

#[tokio::test]
async fn the_stock_tool_excludes_us() {
    let _alone = ALONE.lock().await;
    if !have("qemu-io") {
        return skip("qemu-io is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "vdi");

    let holder = QemuIo::open(&path, "vdi", &[]);
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get \"write\" lock");
    assert_eq!(ours(&path, READ).await.unwrap_err(), "Failed to get shared \"write\" lock");
    open_shared(&path, READ, Sharing::Force).await.expect("who bears writers is let in");
    open_shared(&path, WRITE, Sharing::Unlocked).await.expect("who takes no lock is let in");
    holder.close();

    let holder = QemuIo::open(&path, "vdi", &["-r"]);
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get \"write\" lock");
    ours(&path, READ).await.expect("readers share");
    holder.close();

    ours(&path, WRITE).await.expect("nobody is left");
}

#[tokio::test]
async fn raw_images_follow_the_stock_tools_laxer_rules() {
    let _alone = ALONE.lock().await;
    if !have("qemu-io") {
        return skip("qemu-io is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "raw");

    let holder = ours(&path, WRITE).await.unwrap();
    assert!(qemu_opens(&path, "raw", &[]).is_err());
    qemu_opens(&path, "raw", &["-r"]).expect("a raw reader there bears writers");
    drop(holder);

    let holder = QemuIo::open(&path, "raw", &[]);
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get shared \"write\" lock");
    assert_eq!(ours(&path, READ).await.unwrap_err(), "Failed to get shared \"write\" lock");
    drop(holder);

    let holder = QemuIo::open(&path, "raw", &["-r"]);
    ours(&path, WRITE).await.expect("a raw reader there bears writers");
    drop(holder);
}

#[tokio::test]
async fn the_stock_server_excludes_us_and_is_excluded() {
    let _alone = ALONE.lock().await;
    if !have("qemu-nbd") {
        return skip("qemu-nbd is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    for (format, writer, reader) in [
        ("vdi", "Failed to get \"write\" lock", "Failed to get shared \"write\" lock"),
        // For raw, the server shares writing but not resizing.
        ("raw", "Failed to get \"resize\" lock", "Failed to get shared \"write\" lock"),
    ] {
        let path = image(dir.path(), format);
        let socket = dir.path().join(format!("{format}.socket"));
        let serve = || {
            let mut command = Command::new("qemu-nbd");
            command.args(["-f", format, "-t", "-k"]).arg(&socket).arg(&path);
            command.stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let mut server = serve();
        wait_until(|| greets(&socket));
        assert_eq!(ours(&path, WRITE).await.unwrap_err(), writer, "{format}");
        assert_eq!(ours(&path, READ).await.unwrap_err(), reader, "{format}");
        open_shared(&path, READ, Sharing::Force).await.unwrap();

        // A killed server cannot clean up, so the kernel must release its locks.
        server.kill().unwrap();
        server.wait().unwrap();
        let holder = soon(&path).await;
        assert!(!serve().wait().unwrap().success(), "{format}: it serves what we write");
        drop(holder);
    }
}

/// Opens an image that a killed process had open. The kernel closes its files a moment after the process is reaped.
async fn soon(path: &Path) -> Arc<dyn Storage> {
    let start = Instant::now();
    loop {
        match ours(path, WRITE).await {
            Ok(file) => return file,
            Err(why) => assert!(start.elapsed() < Duration::from_secs(20), "the dead hold: {why}"),
        }
    }
}

/// Returns whether the server answers. Its socket exists before it has opened the image.
fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
        return false;
    };
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).is_ok() && &magic == b"NBDMAGIC"
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn we_exclude_ourselves_within_one_process_too() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"").unwrap();
    let writer = ours(&path, WRITE).await.unwrap();
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get \"write\" lock");
    assert_eq!(ours(&path, READ).await.unwrap_err(), "Failed to get shared \"write\" lock");
    drop(writer);
    let reader = ours(&path, READ).await.unwrap();
    let second = ours(&path, READ).await.unwrap();
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get \"write\" lock");
    // Closing one of two readers, or an unlocked look at the file, must not end the other's lock.
    drop(second);
    drop(open_shared(&path, READ, Sharing::Unlocked).await.unwrap());
    drop(std::fs::read(&path).unwrap());
    assert!(ours(&path, WRITE).await.is_err());
    drop(reader);
    ours(&path, WRITE).await.unwrap();
}

/// All announce before they check, so two may refuse each other. A retry must let one in, but never two.
#[test]
fn of_many_that_open_at_once_never_two_get_in() {
    let _alone = ALONE.blocking_lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"").unwrap();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    let entered = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for _ in 0..25 {
                    if let Ok(file) = runtime.block_on(ours(&path, WRITE)) {
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0, "two writers");
                        entered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(Duration::from_micros(300));
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(file);
                    }
                }
            });
        }
    });
    let entered = entered.into_inner();
    assert!(entered >= 25, "only {entered} of 100 got in, with nobody there for long");
}

#[tokio::test]
async fn the_lock_option_turns_locks_off() {
    let _alone = ALONE.lock().await;
    use block_core::ProtocolDriver;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"").unwrap();
    let _holder = ours(&path, WRITE).await.unwrap();
    let text = path.to_str().unwrap();
    let with = |mode| StorageOptions::new(WRITE).options(common::option("lock", mode));
    block_file::FileProtocol.open(text, &with("off")).await.unwrap();
    for mode in ["auto", "require"] {
        let error = block_file::FileProtocol.open(text, &with(mode)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{mode}");
    }
}

/// Variable with the image for `holder`, after `r ` or `w `. Without it, `holder` does nothing.
const HOLD: &str = "BLOCK_FILE_TEST_HOLD";

/// Not a test of its own: the process that the next tests kill.
#[tokio::test]
async fn holder() {
    let Ok(what) = std::env::var(HOLD) else { return };
    let (access, path) = what.split_once(' ').unwrap();
    let access = if access == "w" { WRITE } else { READ };
    let _held = ours(Path::new(path), access).await.unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts a process of ours that holds an image open.
fn hold(path: &Path, access: StorageAccess) -> Child {
    let word = if access == WRITE { "w" } else { "r" };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--nocapture"])
        .env(HOLD, format!("{word} {}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).any(|line| line.ends_with("held"));
    assert!(held, "the holder never held it");
    child
}

/// Tries all eight combinations: we or the stock tool hold the image as reader or writer, and the other one comes as
/// reader or writer. Readers share it; every other newcomer is refused. After the holder is killed with SIGKILL, the
/// refused newcomer gets in.
#[tokio::test]
async fn us_and_the_stock_tool_reading_and_writing_exclude_each_other_in_all_eight_combinations() {
    let _alone = ALONE.lock().await;
    if !have("qemu-io") {
        return skip("qemu-io is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "vdi");
    let word = |access| if access == WRITE { "writer" } else { "reader" };
    let flags = |access| if access == WRITE { &[][..] } else { &["-r"][..] };
    let refusal = |newcomer| {
        if newcomer == WRITE {
            "Failed to get \"write\" lock"
        } else {
            "Failed to get shared \"write\" lock"
        }
    };
    let mut combinations = 0;
    for we_hold in [true, false] {
        for (held, newcomer) in [(READ, READ), (READ, WRITE), (WRITE, READ), (WRITE, WRITE)] {
            let (mut child, mut stock) = (None, None);
            if we_hold {
                child = Some(hold(&path, held))
            } else {
                stock = Some(QemuIo::open(&path, "vdi", flags(held)))
            }
            let answer = if we_hold {
                qemu_opens(&path, "vdi", flags(newcomer))
            } else {
                ours(&path, newcomer).await.map(drop)
            };
            let (holder, comes) = if we_hold { ("we", "QEMU") } else { ("QEMU", "we") };
            let name =
                format!("{holder} hold as {}, {comes} come as {}", word(held), word(newcomer));
            println!("{name}: {answer:?}");
            match (held == READ && newcomer == READ, &answer) {
                (true, Ok(())) => {}
                (false, Err(why)) => assert!(why.contains(refusal(newcomer)), "{name}: {why}"),
                _ => panic!("{name}: {answer:?}"),
            }
            // After SIGKILL the holder cannot clean up.
            if let Some(mut child) = child {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            drop(stock.take());
            drop(soon(&path).await);
            let after = if we_hold {
                qemu_opens(&path, "vdi", flags(newcomer))
            } else {
                ours(&path, newcomer).await.map(drop)
            };
            assert_eq!(after, Ok(()), "{name}, and after the holder was killed");
            combinations += 1;
        }
    }
    assert_eq!(combinations, 8);
}

#[tokio::test]
async fn a_killed_process_leaves_no_lock_behind() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, b"").unwrap();
    let mut child = hold(&path, WRITE);
    assert_eq!(ours(&path, WRITE).await.unwrap_err(), "Failed to get \"write\" lock");
    if have("qemu-io") {
        assert!(qemu_opens(&path, "raw", &[]).unwrap_err().contains("lock"));
    }
    // After SIGKILL the child cannot clean up.
    child.kill().unwrap();
    child.wait().unwrap();
    drop(soon(&path).await);
    if have("qemu-io") {
        qemu_opens(&path, "raw", &[]).unwrap();
    }
}
