//! What happens when the surroundings do not play along: no terminal, no reader, no room, no rights, no patience.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Folder, noise};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_block-img");

/// A folder with a raw image that is full of data.
fn with_data(megabytes: usize) -> Folder {
    let folder = Folder::new();
    folder.raw("data.raw", (megabytes as u64) << 20, &[(0, noise(1, megabytes << 20))]);
    folder
}

/// Nothing under the final name, nothing under a temporary one.
#[track_caller]
fn assert_nothing_left(folder: &Folder, name: &str) {
    assert!(!folder.file(name).exists(), "{name} appeared");
    let left = folder.leftovers();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_a_terminal_nothing_is_coloured() {
    let folder = with_data(1);
    for line in ["--help", "convert --help", "map --picture data.raw", "info data.raw", "info x"] {
        let ran = folder.ours(line);
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{line}: {ran:?}");
        assert!(ran.out.len() + ran.err.len() > 10, "{line}: {ran:?}");
    }
}

/// Runs a command line in a pseudo terminal, if `script` is here.
fn in_terminal(folder: &Folder, variables: &[(&str, &str)], line: &str) -> Option<String> {
    let mut command = Command::new("script");
    command.current_dir(folder.path()).args(["-qec", &format!("{PROGRAM} {line}"), "/dev/null"]);
    command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env("COLUMNS", "80");
    for name in ["NO_COLOR", "COLORTERM", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    match command.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            eprintln!("SKIPPED: 'script' is not installed");
            None
        }
    }
}

#[test]
fn on_a_terminal_pictures_have_colour_unless_no_color_says_otherwise() {
    let folder = with_data(1);
    let Some(coloured) = in_terminal(&folder, &[], "map --picture data.raw") else { return };
    assert!(coloured.contains("\x1b[38;5;"), "{coloured}");
    let full = in_terminal(&folder, &[("COLORTERM", "truecolor")], "map --picture data.raw");
    assert!(full.unwrap().contains("\x1b[38;2;"));
    let plain = in_terminal(&folder, &[("NO_COLOR", "1")], "map --picture data.raw").unwrap();
    assert!(!plain.contains('\x1b') && plain.contains('█'), "{plain}");
    let ascii =
        in_terminal(&folder, &[("NO_COLOR", "1"), ("LC_ALL", "C")], "map --picture data.raw");
    assert!(ascii.unwrap().contains("####"));
    let bar = in_terminal(&folder, &[], "info data.raw").unwrap();
    assert!(bar.contains("allocation: [███"), "{bar}");
}

#[test]
fn on_a_terminal_an_error_its_causes_and_its_hint_have_a_line_each() {
    let folder = with_data(1);
    folder.ours("create -q -f vdi x.vdi 1G").ok();
    let mut image = fs::read(folder.file("x.vdi")).unwrap();
    // The block size of the header.
    image[0x178..0x17c].copy_from_slice(&3u32.to_le_bytes());
    fs::write(folder.file("x.vdi"), image).unwrap();
    let Some(shown) = in_terminal(&folder, &[("NO_COLOR", "1")], "info x.vdi") else { return };
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert!(lines[0].starts_with("error: Could not open 'x.vdi': at 0x178: "), "{shown}");
    assert!(lines[1].starts_with("caused by: "), "{shown}");
    let piped = folder.ours("info x.vdi").fails(1).err;
    let (message, cause) = (&lines[0]["error: ".len()..], &lines[1]["caused by: ".len()..]);
    assert_eq!(piped, format!("block-img: {message}: {cause}\n"), "programs get one line");
    let coloured = in_terminal(&folder, &[], "info -f nonsense data.raw").unwrap();
    assert!(coloured.starts_with("\x1b[1;31merror:\x1b[0m Could not open"), "{coloured}");
    assert!(coloured.contains("\r\ncode: driver-unknown"), "{coloured}");
}

#[test]
fn on_a_terminal_a_long_copy_shows_rate_and_skipped_zeros() {
    let folder = Folder::new();
    let content = [(0, noise(1, 1 << 20)), (60 << 20, noise(2, 3 << 20))];
    folder.raw("half.raw", 64 << 20, &content);
    let line = "convert -r 2M -O raw half.raw out.raw";
    let Some(shown) = in_terminal(&folder, &[], line) else { return };
    for wanted in ["% [", "MiB of 64 MiB", "MiB/s", "of zeros skipped", " left"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(folder.file("out.raw").exists());
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let folder = Folder::new();
    let scattered: Vec<_> = (0..2000).map(|n| (n * 8192, vec![1; 4096])).collect();
    folder.raw("many.raw", 2000 * 8192, &scattered);
    let whole = folder.ours("map --output=json many.raw").ok();
    assert!(whole.out.len() > 100_000, "the pipe must not hold it all");
    for line in [&["map", "--output=json", "many.raw"][..], &["map", "many.raw"], &["--help"]] {
        let mut child = folder.command(line);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let folder = with_data(1);
    let mut command = folder.command(&["map", "--output=json", "data.raw"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_file_size_limit_leaves_no_target_and_an_explanation() {
    let folder = with_data(4);
    for format in ["raw", "vdi"] {
        // The limit counts units of 1024 bytes here.
        let limited =
            format!("ulimit -f 1024; exec {PROGRAM} convert -O {format} data.raw out.{format}");
        let ran = folder.stock("bash", &["-c", &limited]).fails(1);
        assert!(ran.err.contains("File too large\nhint: "), "{}", ran.err);
        assert_nothing_left(&folder, &format!("out.{format}"));
    }
}

#[test]
fn a_full_disk_leaves_no_target_and_keeps_what_was_there() {
    let folder = with_data(4);
    fs::create_dir(folder.file("small")).unwrap();
    // A mount of our own, gone with its processes.
    let script = format!(
        "mount -t tmpfs -o size=2m tmpfs small || exit 99; echo old > small/out.vdi
         {PROGRAM} convert -O vdi data.raw small/out.vdi; echo \"status $?\"; ls -A small; cat small/out.vdi
         {PROGRAM} create -f raw -o preallocation=full small/new.raw 8M; echo \"status $?\"; ls -A small
         {PROGRAM} convert -O vdi -o static=on data.raw small/static.vdi; echo \"status $?\"; ls -A small"
    );
    let unshared = Command::new("unshare")
        .args(["--mount", "--map-root-user", "bash", "-c", &script])
        .current_dir(folder.path())
        .output();
    let Ok(output) = unshared else {
        eprintln!("SKIPPED: no unshare");
        return;
    };
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(99) || err.starts_with("unshare:") {
        eprintln!("SKIPPED: no mounts here: {err}");
        return;
    }
    let out: Vec<&str> = out.lines().filter(|line| !line.starts_with("Formatting")).collect();
    assert_eq!(
        out,
        ["status 1", "out.vdi", "old", "status 1", "out.vdi", "status 1", "out.vdi"],
        "{err}"
    );
    assert_eq!(err.matches("No space left on device").count(), 3, "{err}");
    assert_eq!(
        err.matches("\nhint: make room, or name a target on another disk").count(),
        3,
        "{err}"
    );
}

#[test]
fn a_file_that_may_not_be_read_or_made_is_told_by_name() {
    let folder = with_data(1);
    let permit = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(folder.path(), 0o755);
    permit(&folder.file("data.raw"), 0o644);
    fs::write(folder.file("secret.raw"), [0; 512]).unwrap();
    permit(&folder.file("secret.raw"), 0o000);
    let run = |line: &str| {
        // Root may read everything: somebody else asks.
        let is_root = fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if is_root {
            let mut args = vec!["--reuid=65534", "--clear-groups", PROGRAM];
            args.extend(line.split_whitespace());
            folder.stock("setpriv", &args)
        } else {
            permit(folder.path(), 0o555);
            let ran = folder.ours(line);
            permit(folder.path(), 0o755);
            ran
        }
    };
    let ran = run("info secret.raw");
    if ran.err.contains("setpriv") || ran.err.contains(PROGRAM) {
        eprintln!("SKIPPED: another user cannot run the program here: {}", ran.err);
        return;
    }
    let ran = ran.fails(1);
    let wanted = "Could not open 'secret.raw': Permission denied\nhint: 'ls -l' tells who may";
    assert!(ran.err.contains(wanted), "{}", ran.err);
    let ran = run("convert -O raw data.raw out.raw").fails(1);
    assert!(ran.err.contains("Could not create 'out.raw': Permission denied"), "{}", ran.err);
    assert_nothing_left(&folder, "out.raw");
}

#[test]
fn what_is_not_there_or_no_file_is_told_by_name() {
    let folder = with_data(1);
    fs::create_dir(folder.file("folder")).unwrap();
    std::os::unix::fs::symlink("gone", folder.file("dangling.raw")).unwrap();
    for name in ["gone.raw", "dangling.raw"] {
        for command in ["info", "check", "map", "compare data.raw", "digest"] {
            let ran = folder.ours(&format!("{command} {name}"));
            assert!(ran.status > 0 && ran.status <= 63, "{command} {name}: {ran:?}");
            let wanted = format!("Could not open '{name}': No such file or directory");
            assert!(ran.err.contains(&wanted), "{command}: {}", ran.err);
        }
    }
    let ran = folder.ours("info folder").fails(1);
    assert!(ran.err.contains("'folder'") && ran.err.contains("directory"), "{}", ran.err);
    let ran = folder.ours("convert -O raw data.raw no/where.raw").fails(1);
    assert!(ran.err.contains("'no/where.raw': No such file or directory"), "{}", ran.err);
}

#[test]
fn a_source_that_shrinks_under_the_copy_fails_it() {
    let folder = with_data(16);
    let (child, _) = slow_convert(&folder, "vdi");
    fs::OpenOptions::new()
        .write(true)
        .open(folder.file("data.raw"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let (status, err) = ended(child);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("data.raw"), "{err}");
    assert_nothing_left(&folder, "out.vdi");
}

#[test]
fn a_source_that_is_deleted_under_the_copy_is_copied_to_its_end() {
    let folder = with_data(16);
    let (child, _) = slow_convert(&folder, "raw");
    fs::remove_file(folder.file("data.raw")).unwrap();
    let (status, err) = ended(child);
    assert_eq!(status, 0, "{err}");
    assert!(fs::read(folder.file("out.raw")).unwrap() == noise(1, 16 << 20));
}

#[test]
fn a_folder_that_vanishes_under_the_copy_fails_it() {
    let folder = with_data(16);
    fs::create_dir(folder.file("there")).unwrap();
    let (child, _) = slow_convert_to(&folder, "vdi", "there/out.vdi");
    fs::remove_dir_all(folder.file("there")).unwrap();
    let (status, err) = ended(child);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("there/out.vdi': No such file or directory"), "{err}");
}

#[test]
fn a_closed_standard_output_is_no_place_for_a_disk() {
    let folder = with_data(1);
    // What is opened next must not become standard output, nor be written to as such.
    for line in ["convert -p -O vdi data.raw out.vdi", "info out.vdi", "map --output=json out.vdi"]
    {
        let script = format!("exec >&-; exec {PROGRAM} {line}");
        let ran = folder.stock("bash", &["-c", &script]).ok();
        assert_eq!(ran.err, "", "{line}");
    }
    folder.ours("compare data.raw out.vdi").ok();
    folder.ours("check out.vdi").ok();
}

/// A conversion that takes seconds, and that has begun.
fn slow_convert(folder: &Folder, format: &str) -> (Child, Value) {
    slow_convert_to(folder, format, &format!("out.{format}"))
}

fn slow_convert_to(folder: &Folder, format: &str, out: &str) -> (Child, Value) {
    let mut command =
        folder.command(&["convert", "--progress=json", "-r", "4M", "-O", format, "data.raw", out]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut moved = Value::Null;
    for line in &mut lines {
        moved = serde_json::from_str(&line.unwrap()).unwrap();
        if moved["done"].as_u64().unwrap() > 0 {
            break;
        }
    }
    assert!(moved["done"].as_u64().unwrap() < moved["total"].as_u64().unwrap(), "{moved}");
    // Somebody has to read on, or the pipe ends.
    std::thread::spawn(move || lines.count());
    (child, moved)
}

fn ended(mut child: Child) -> (i32, String) {
    let begun = Instant::now();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
    (status.code().unwrap_or(-1), err)
}

/// Whether the program has begun to write a file that has no name yet.
fn has_unnamed_file(child: &Child) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| link.to_string_lossy().ends_with(" (deleted)"))
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn an_interrupt_removes_what_was_unfinished_and_says_so() {
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for format in ["raw", "vdi"] {
            let folder = with_data(16);
            let (child, _) = slow_convert(&folder, format);
            assert_eq!(folder.names(), ["data.raw"], "it is being written without a name");
            signal(&child, name);
            let (ended, err) = ended(child);
            assert_eq!(ended, status, "{name}: {err}");
            assert!(err.contains("interrupted"), "{name}: {err}");
            assert_nothing_left(&folder, &format!("out.{format}"));
        }
    }
}

#[test]
fn an_interrupt_ends_a_create_that_takes_long() {
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        // All zeros are written; those of a VDI may be one call.
        let folder = Folder::new();
        let args = ["create", "-q", "-f", "raw", "-o", "preallocation=full", "out.raw", "4G"];
        let mut command = folder.command(&args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !has_unnamed_file(&child) {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing is written");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A program that writes has begun to listen.
        std::thread::sleep(Duration::from_millis(50));
        signal(&child, name);
        let (ended, err) = ended(child);
        assert_eq!(ended, status, "{name}: {err}");
        assert!(err.contains("interrupted"), "{name}: {err}");
        assert_nothing_left(&folder, "out.raw");
    }
}

#[test]
fn an_interrupt_keeps_the_file_that_was_to_be_replaced() {
    let folder = with_data(16);
    fs::write(folder.file("out.raw"), "precious").unwrap();
    let (child, _) = slow_convert(&folder, "raw");
    signal(&child, "INT");
    assert_eq!(ended(child).0, 130);
    assert_eq!(fs::read(folder.file("out.raw")).unwrap(), b"precious");
    assert!(folder.leftovers().is_empty());
}

#[test]
fn progress_for_programs_is_a_json_object_a_line() {
    let folder = Folder::new();
    folder.raw("half.raw", 32 << 20, &[(0, noise(1, 8 << 20))]);
    let ran = folder.ours("convert --progress=json -r 32M -O vdi half.raw out.vdi").ok();
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3, "{}", ran.out);
    let done = |line: &Value| line["done"].as_u64().unwrap();
    assert!(lines.is_sorted_by_key(done), "{}", ran.out);
    let last = lines.last().unwrap();
    assert_eq!((&last["operation"], last["percent"].as_f64()), (&"convert".into(), Some(100.0)));
    assert_eq!((done(last), last["total"].as_u64()), (32 << 20, Some(32 << 20)));
    assert_eq!(last["skipped"].as_u64(), Some(24 << 20));
    assert!(last["seconds"].as_f64().is_some());
}

#[test]
fn percent_progress_is_what_scripts_match() {
    let folder = with_data(2);
    let ran = folder.ours("convert -p -O raw data.raw out.raw").ok();
    assert!(ran.out.starts_with("    (0.00/100%)\r"), "{:?}", ran.out);
    assert!(ran.out.ends_with("    (100.00/100%)\r\n"), "{:?}", ran.out);
}

#[test]
fn sigusr1_asks_how_far_it_is() {
    let folder = with_data(16);
    let mut command = folder.command(&["convert", "-r", "8M", "-O", "raw", "data.raw", "out.raw"]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while !has_unnamed_file(&child) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "USR1");
    let (status, err) = ended(child);
    assert_eq!(status, 0, "{err}");
    let percent = err.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix("/100%)"));
    let percent: f64 = percent.expect(&err).parse().expect(&err);
    assert!((0.0..=100.0).contains(&percent), "{err}");
    assert!(err.starts_with("    (") && err.ends_with("/100%)\n"), "{err:?}");
}
