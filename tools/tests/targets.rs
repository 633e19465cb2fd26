//! What becomes of a target: new, replaced or written in place, and what the folder, its names and other programs do
//! meanwhile. The host-edge kit goes through the calls; these are the situations one by one.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Folder, Ran, noise, trace};

const PROGRAM: &str = env!("CARGO_BIN_EXE_block-img");

/// A folder with a raw disk of noise.
fn with_source(size: usize) -> Folder {
    let folder = Folder::new();
    fs::write(folder.file("src.raw"), noise(1, size)).unwrap();
    folder
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(), "root is required");
        eprintln!("SKIPPED: needs root");
    }
    root
}

/// Runs a script in a mount namespace of its own. `None`: no mounts here.
fn with_mounts(folder: &Folder, script: &str) -> Option<Ran> {
    let script = format!("set -e; bi() {{ {PROGRAM} \"$@\"; }}; {script}");
    let ran = Command::new("unshare")
        .args(["--mount", "--map-root-user", "bash", "-c", &script])
        .current_dir(folder.path())
        .output();
    match ran.map(Ran::of) {
        Ok(ran) if !ran.err.starts_with("unshare:") => Some(ran),
        _ => {
            assert!(std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(), "mounts are required");
            eprintln!("SKIPPED: no mounts here");
            None
        }
    }
}

/// The ways to make an image under a name that may be taken.
const MAKERS: [&str; 4] = [
    "convert -f raw -O raw src.raw out",
    "convert -f raw -O vdi src.raw out",
    "dd -f raw -O raw if=src.raw of=out",
    "create -q -f vdi out 1M",
];

#[test]
fn new_content_never_has_the_set_id_bits_of_the_old() {
    for line in MAKERS {
        for (old, new) in [(0o6755, 0o755), (0o4711, 0o711), (0o2640, 0o640), (0o1600, 0o600)] {
            let folder = with_source(64 << 10);
            fs::write(folder.file("out"), "old").unwrap();
            fs::set_permissions(folder.file("out"), Permissions::from_mode(old)).unwrap();
            folder.ours(line).ok();
            assert_eq!(mode(&folder.file("out")), new, "{line}: {old:o}");
        }
    }
}

#[test]
fn a_set_user_id_file_of_two_names_loses_the_bit_before_it_gets_new_content() {
    let folder = with_source(64 << 10);
    fs::write(folder.file("out"), "old").unwrap();
    fs::hard_link(folder.file("out"), folder.file("other")).unwrap();
    fs::set_permissions(folder.file("out"), Permissions::from_mode(0o4755)).unwrap();
    folder.ours(MAKERS[0]).ok();
    assert_eq!(mode(&folder.file("other")), 0o755);
    assert!(folder.same_bytes("src.raw", "other"));
}

#[test]
fn owner_group_mode_and_attributes_of_a_file_stay() {
    if !is_root() {
        return;
    }
    for line in MAKERS {
        let folder = with_source(64 << 10);
        let out = folder.file("out");
        fs::write(&out, "old").unwrap();
        chown(&out, Some(1234), Some(1235)).unwrap();
        fs::set_permissions(&out, Permissions::from_mode(0o640)).unwrap();
        let marked = rustix::fs::setxattr(&out, "user.mark", b"1", rustix::fs::XattrFlags::empty());
        folder.ours(line).ok();
        let stat = fs::metadata(&out).unwrap();
        assert_eq!((stat.uid(), stat.gid(), mode(&out)), (1234, 1235, 0o640), "{line}");
        if marked.is_ok() {
            let mut value = [0; 4];
            assert_eq!(rustix::fs::getxattr(&out, "user.mark", &mut value[..]), Ok(1), "{line}");
        }
    }
}

#[test]
fn no_mode_owner_or_link_is_set_by_a_path() {
    if !trace::is_possible() {
        return;
    }
    let lines = ["map -f raw --png out src.raw", "map -f raw --svg new.svg src.raw", "man pages"];
    for line in MAKERS.into_iter().chain(lines) {
        let folder = with_source(64 << 10);
        fs::write(folder.file("out"), "old").unwrap();
        fs::set_permissions(folder.file("out"), Permissions::from_mode(0o666)).unwrap();
        let calls = "chmod,fchmodat,chown,lchown,fchownat,rename,link,symlink,setxattr,lsetxattr,\
                     unlink,truncate,fchmod,fchown,renameat,renameat2,linkat";
        let words: Vec<&str> = line.split(' ').collect();
        let (status, log) = trace::run(&folder, calls, PROGRAM, &words);
        assert_eq!(status, 0, "{line}: {log}");
        let by_path = ["chmod(", "fchmodat(", "chown(", "fchownat(", "rename(", "link(", "unlink("];
        for call in log.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim())
        {
            assert!(!by_path.iter().any(|name| call.starts_with(name)), "{line}: {call}");
            assert!(!call.starts_with("renameat(AT_FDCWD"), "{line}: {call}");
        }
        assert!(log.contains("linkat("), "{line}: the trace shows nothing: {log}");
    }
}

/// A conversion to `out` that takes seconds, and that has begun to write.
fn slow_convert(folder: &Folder, more: &[&str]) -> Child {
    let mut args = vec!["convert", "-f", "raw", "-r", "4M", "-O", "raw"];
    args.extend(more);
    args.extend(["src.raw", "out"]);
    let mut child = folder.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let is_open = |child: &Child| {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten();
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.to_string_lossy().ends_with(" (deleted)"))
    };
    while !is_open(&child) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn a_file_that_takes_the_name_of_the_old_one_meanwhile_is_kept() {
    let folder = with_source(8 << 20);
    fs::write(folder.file("out"), "old").unwrap();
    let child = slow_convert(&folder, &[]);
    fs::write(folder.file("newer"), "of somebody else").unwrap();
    fs::rename(folder.file("newer"), folder.file("out")).unwrap();
    let ran = ended(child).fails(1);
    assert!(ran.err.contains("another file took this name"), "{}", ran.err);
    assert_eq!(fs::read(folder.file("out")).unwrap(), b"of somebody else");
    assert_eq!(folder.names(), ["out", "src.raw"]);
}

#[test]
fn a_file_that_appears_under_a_free_name_is_kept() {
    let folder = with_source(8 << 20);
    let child = slow_convert(&folder, &[]);
    fs::write(folder.file("out"), "of somebody else").unwrap();
    let ran = ended(child).fails(1);
    assert!(ran.err.contains("File exists"), "{}", ran.err);
    assert_eq!(fs::read(folder.file("out")).unwrap(), b"of somebody else");
    assert_eq!(folder.names(), ["out", "src.raw"]);
}

#[test]
fn a_file_that_takes_the_name_after_it_was_given_is_an_error() {
    if !trace::is_possible() {
        return;
    }
    for (call, old) in [("linkat", false), ("renameat", true)] {
        let folder = with_source(64 << 10);
        if old {
            fs::write(folder.file("out"), "old").unwrap();
        }
        let child = Command::new("strace")
            .args(["-f", "-o", "log", "-e", &format!("inject={call}:delay_exit=1500000")])
            .arg(PROGRAM)
            .args(MAKERS[0].split(' '))
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let whole = || fs::metadata(folder.file("out")).is_ok_and(|stat| stat.len() == 64 << 10);
        let begun = Instant::now();
        while !whole() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(whole(), "{call}: the name was never given");
        fs::write(folder.file("newer"), "of somebody else").unwrap();
        fs::rename(folder.file("newer"), folder.file("out")).unwrap();
        let ran = ended(child).fails(1);
        assert!(ran.err.contains("another file took this name"), "{call}: {}", ran.err);
        assert_eq!(fs::read(folder.file("out")).unwrap(), b"of somebody else");
    }
}

/// Another program that writes the image `name` for many seconds, until it is killed.
fn writer(folder: &Folder, name: &str) -> Child {
    fs::write(folder.file("large.raw"), noise(4, 16 << 20)).unwrap();
    fs::write(folder.file(name), noise(5, 16 << 20)).unwrap();
    let child = folder
        .command(&["convert", "-f", "raw", "-O", "raw", "-n", "-r", "256K", "large.raw", name])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    child
}

#[test]
fn a_picture_is_never_drawn_over_an_image_in_use() {
    let folder = with_source(64 << 10);
    folder.ours("convert -f raw -O vdi src.raw disk.vdi").ok();
    folder.ours("create -q -f vdi -b disk.vdi -F vdi child.vdi").ok();
    let before = fs::read(folder.file("disk.vdi")).unwrap();
    for kind in ["--png", "--svg"] {
        for line in [
            format!("map {kind} disk.vdi disk.vdi"),
            format!("map -U {kind} disk.vdi disk.vdi"),
            format!("map {kind} disk.vdi child.vdi"),
            format!("map -U {kind} disk.vdi child.vdi"),
        ] {
            folder.ours(&line).fails(1);
            assert!(fs::read(folder.file("disk.vdi")).unwrap() == before, "{line}");
        }
    }
    folder.ours("map --png map.png child.vdi").ok();
    let mut holder = writer(&folder, "used.raw");
    let ran = folder.ours("map -f raw --png used.raw src.raw").fails(1);
    assert!(ran.err.contains("lock"), "{}", ran.err);
    let _ = holder.kill();
    holder.wait().unwrap();
}

#[test]
fn a_target_that_is_one_of_the_sources_is_refused_with_force_share_too() {
    let folder = with_source(64 << 10);
    fs::hard_link(folder.file("src.raw"), folder.file("other.raw")).unwrap();
    for target in ["src.raw", "other.raw"] {
        for share in [&[][..], &["-U"][..]] {
            let line =
                [&["convert", "-f", "raw", "-O", "raw"], share, &["src.raw", target]].concat();
            folder.ours_with(&line).fails(1);
            assert!(fs::read(folder.file("src.raw")).unwrap() == noise(1, 64 << 10), "{line:?}");
        }
    }
}

#[test]
fn all_names_of_a_file_get_the_content() {
    let folder = with_source(64 << 10);
    fs::write(folder.file("out"), noise(2, 128 << 10)).unwrap();
    fs::hard_link(folder.file("out"), folder.file("other")).unwrap();
    let ran = folder.ours("convert -v -f raw -O raw src.raw out").ok();
    assert!(ran.err.contains("written in place: the file has 2 names"), "{}", ran.err);
    assert!(folder.same_bytes("src.raw", "other"));
}

#[test]
fn the_way_of_writing_is_told_before_the_first_byte() {
    let folder = with_source(64 << 10);
    for maker in
        ["convert -v -f raw -O raw src.raw out", "create -v -q out 1M", "dd -v if=src.raw of=out"]
    {
        let _ = fs::remove_file(folder.file("out"));
        let ran = folder.ours(maker).ok();
        assert!(ran.err.contains("appears when its content is whole"), "{maker}: {}", ran.err);
        let ran = folder.ours(maker).ok();
        assert!(
            ran.err.contains("is replaced when the new content is whole"),
            "{maker}: {}",
            ran.err
        );
    }
}

#[test]
fn a_mounted_file_is_written_in_place() {
    let folder = with_source(64 << 10);
    let script = "echo old > real; : > out; mount --bind real out
        bi convert -v -f raw -O raw src.raw out; cmp src.raw real; cmp src.raw out
        bi create -q -f vdi out 1M; bi check -q -f vdi real
        bi map -f raw --png out src.raw; head -c 4 real | tail -c 3 | grep -q PNG";
    let Some(ran) = with_mounts(&folder, script) else { return };
    assert!(ran.ok().err.contains("written in place: the file is a mount point"));
}

#[test]
fn on_a_disk_with_room_for_one_the_old_file_is_written() {
    let folder = with_source(10 << 20);
    let script = "mkdir m; mount -t tmpfs -o size=16m none m
        head -c 10M /dev/zero | tr '\\0' O > m/out
        bi convert -v -f raw -O raw src.raw m/out; cmp src.raw m/out
        bi convert -f raw -O vdi src.raw m/out; bi compare -q -f raw -F vdi src.raw m/out
        head -c 14M /dev/zero | tr '\\0' O > m/out
        if bi create -q -f raw -o preallocation=full m/out 20M 2> err; then exit 3; fi
        grep -q 'was kept' err; [ $(stat -c %s m/out) = 14680064 ]; [ $(ls -A m | wc -l) = 1 ]";
    let Some(ran) = with_mounts(&folder, script) else { return };
    assert!(ran.ok().err.contains("do not fit together"));
}

#[test]
fn a_file_that_may_be_written_in_a_folder_that_may_not() {
    if !is_root() {
        return;
    }
    let folder = with_source(64 << 10);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::copy(PROGRAM, folder.file("bi")).unwrap();
    fs::write(folder.file("out"), "old").unwrap();
    fs::set_permissions(folder.file("out"), Permissions::from_mode(0o666)).unwrap();
    use std::os::unix::process::CommandExt;
    for line in MAKERS {
        let mut command = Command::new(folder.file("bi"));
        command.args(line.split(' ')).current_dir(folder.path()).uid(65534).gid(65534);
        Ran::of(command.output().unwrap()).ok();
        assert!(fs::read(folder.file("out")).unwrap() != b"old", "{line}");
        assert_eq!(mode(&folder.file("out")), 0o666, "{line}");
    }
}

#[test]
fn links_are_followed_to_the_file_and_a_loop_is_an_error() {
    for line in MAKERS {
        let folder = with_source(64 << 10);
        fs::create_dir(folder.file("sub")).unwrap();
        symlink("sub/a", folder.file("out")).unwrap();
        symlink("../b", folder.file("sub/a")).unwrap();
        symlink("sub/real", folder.file("b")).unwrap();
        // The first time it leads to nothing yet.
        for _ in 0..2 {
            folder.ours(line).ok();
            let real = fs::symlink_metadata(folder.file("sub/real")).unwrap();
            assert!(real.is_file() && real.len() > 0, "{line}");
            assert!(fs::symlink_metadata(folder.file("out")).unwrap().is_symlink(), "{line}");
        }
        fs::remove_file(folder.file("sub/real")).unwrap();
        symlink("../out", folder.file("sub/real")).unwrap();
        let ran = folder.ours(line).fails(1);
        assert!(ran.err.contains("Too many levels of symbolic links"), "{line}: {}", ran.err);
    }
}

#[test]
fn a_link_that_another_user_put_into_a_sticky_folder_is_not_followed() {
    if !is_root() {
        return;
    }
    let folder = with_source(64 << 10);
    fs::create_dir(folder.file("tmp")).unwrap();
    fs::set_permissions(folder.file("tmp"), Permissions::from_mode(0o1777)).unwrap();
    fs::write(folder.file("victim"), "precious").unwrap();
    for to in ["../victim", "../new"] {
        let link = folder.file("tmp/out");
        let _ = fs::remove_file(&link);
        symlink(to, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        folder.ours("convert -f raw -O raw src.raw tmp/out").fails(1);
        folder.ours("map -f raw --png tmp/out src.raw").fails(1);
        assert_eq!(fs::read(folder.file("victim")).unwrap(), b"precious");
        assert!(!folder.file("new").exists());
    }
}

#[test]
fn what_is_no_file_is_an_error_at_once_as_in_stock() {
    let folder = with_source(64 << 10);
    fs::create_dir(folder.file("dir")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.file("fifo")).status().unwrap().success());
    for target in ["dir", "dir/", ".", "fifo", "/dev/null", "no/such"] {
        for format in ["raw", "vdi"] {
            let begun = Instant::now();
            folder.ours(&format!("convert -f raw -O {format} src.raw {target}")).fails(1);
            folder.ours(&format!("create -q -f {format} {target} 1M")).fails(1);
            assert!(begun.elapsed() < Duration::from_secs(10), "{target}");
        }
    }
    assert_eq!(folder.names(), ["dir", "fifo", "src.raw"]);
}

#[test]
fn an_image_on_a_block_device_is_made_and_opened() {
    if !is_root() {
        return;
    }
    let folder = with_source(8 << 20);
    fs::File::create(folder.file("dev")).unwrap().set_len(64 << 20).unwrap();
    let script = format!(
        "set -e; L=$(losetup -f --show dev); trap 'losetup -d $L' EXIT
         {PROGRAM} convert -f raw -O vdi src.raw $L; {PROGRAM} compare -q -f vdi $L -F raw src.raw
         {PROGRAM} check -q -f vdi $L; {PROGRAM} convert -f raw -O raw src.raw $L
         cmp -n 8388608 src.raw $L; if {PROGRAM} map -f raw --png $L src.raw; then exit 3; fi
         cmp -n 8388608 src.raw $L"
    );
    let ran = folder.stock("bash", &["-c", &script]);
    if ran.err.contains("losetup") {
        eprintln!("SKIPPED: no loop devices: {}", ran.err);
        return;
    }
    let ran = ran.ok();
    assert!(ran.err.contains("it is a block device"), "{}", ran.err);
}

#[test]
fn what_a_killed_program_left_is_removed_and_what_another_writes_stays() {
    let folder = with_source(64 << 10);
    let dead =
        [".out.0123456789abcdef0123456789abcdef.partial", ".out.1f2c-18a0d2f7b6c3e901-0.partial"];
    for name in dead {
        fs::write(folder.file(name), "torso").unwrap();
    }
    let alive = ".out.00000000000000000000000000000001.partial";
    let own = ".out.notes.partial";
    fs::write(folder.file(own), "mine").unwrap();
    let mut holder = writer(&folder, alive);
    let ran = folder.ours("convert -f raw -O raw src.raw out").ok();
    for name in dead {
        assert!(ran.err.contains(&format!("removed '{name}'")), "{}", ran.err);
    }
    assert_eq!(folder.names(), [alive, own, "large.raw", "out", "src.raw"]);
    let _ = holder.kill();
    holder.wait().unwrap();
}

#[test]
fn a_killed_copy_leaves_nothing() {
    let folder = with_source(8 << 20);
    for _ in 0..2 {
        let mut child = slow_convert(&folder, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(folder.names(), ["src.raw"]);
    }
}

#[test]
fn direct_io_that_a_file_system_refuses_leaves_no_file() {
    if !trace::is_possible() {
        return;
    }
    for old in [false, true] {
        let folder = with_source(64 << 10);
        if old {
            fs::write(folder.file("out"), "old").unwrap();
        }
        // The flag is asked for on the descriptor, and refused with EINVAL where the file system has no direct I/O.
        let ran = folder.stock(
            "strace",
            &[
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "inject=fcntl:error=EINVAL:when=2+",
                PROGRAM,
                "convert",
                "-t",
                "none",
                "-f",
                "raw",
                "-O",
                "raw",
                "src.raw",
                "out",
            ],
        );
        ran.fails(1);
        let names = if old { vec!["out", "src.raw"] } else { vec!["src.raw"] };
        assert_eq!(folder.names(), names);
    }
}

#[test]
fn preallocation_works_where_the_file_system_cannot_set_room_aside() {
    if !trace::is_possible() {
        return;
    }
    for line in [
        "create -q -f raw -o preallocation=falloc f 4M",
        "create -q -f vdi -o preallocation=falloc f 4M",
    ] {
        let folder = Folder::new();
        let mut words =
            vec!["-f", "-o", "/dev/null", "-e", "inject=fallocate:error=EOPNOTSUPP", PROGRAM];
        words.extend(line.split(' '));
        folder.stock("strace", &words).ok();
        let stat = fs::metadata(folder.file("f")).unwrap();
        assert!(stat.len() >= 4 << 20 && stat.blocks() >= 8192, "{line}: {} blocks", stat.blocks());
    }
}
