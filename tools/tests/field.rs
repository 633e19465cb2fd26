//! Situations from public bug reports and from daily work, each as a small script whose last command has to succeed.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use common::{Folder, Ran};

/// An image of 4 MiB of `A`, the same disk raw, and a child of the image.
const BASE: &str = "
    python3 -c \"open('p.raw','wb').write(b'A'*(4<<20)); open('q.raw','wb').write(b'B'*(4<<20))\"
    block-img convert -f raw -O vdi p.raw disk.vdi
    block-img create -q -f vdi -b disk.vdi -F vdi child.vdi
";

/// Runs a script in a folder of its own, where the program is in the `PATH`. `None`: something it `needs` is missing.
fn run(needs: &[&str], script: &str) -> Option<Ran> {
    for need in needs.iter().chain(&["python3"]) {
        let is_there = match *need {
            "root" => rustix::process::geteuid().is_root(),
            program => {
                let mut found = Command::new("bash");
                found.args(["-c", &format!("command -v {program}")]);
                found.output().unwrap().status.success()
            }
        };
        if !is_there {
            assert!(std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(), "{need} is missing");
            eprintln!("SKIPPED: {need} is missing");
            return None;
        }
    }
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.file("bin")).unwrap();
    fs::create_dir(folder.file("work")).unwrap();
    symlink(env!("CARGO_BIN_EXE_block-img"), folder.file("bin/block-img")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(folder.file("work"));
    bash.env("PATH", format!("{}:{path}", folder.file("bin").display()));
    Some(Ran::of(bash.output().unwrap()))
}

/// Runs a script that has to succeed.
#[track_caller]
fn holds(needs: &[&str], script: &str) {
    if let Some(ran) = run(needs, script) {
        ran.ok();
    }
}

/// As [`holds`], with the images of [`BASE`].
#[track_caller]
fn holds_with_images(needs: &[&str], script: &str) {
    holds(needs, &format!("{BASE}\n{script}"));
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        holds(
            &[],
            &format!(
                "python3 -c \"open('p.raw','wb').write(b'A'*(8<<20))\"
                 trap '' {signal}
                 block-img convert -f raw -r 8M -O vdi p.raw out.vdi >log 2>&1 & p=$!
                 sleep 0.4; kill -{signal} $p; wait $p && [ -e out.vdi ]"
            ),
        );
    }
}

#[test]
fn a_signal_that_ends_the_work_removes_what_was_unfinished() {
    for (signal, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15)] {
        // A shell without job control has its background jobs ignore SIGINT and SIGQUIT, so Python starts this one.
        holds(
            &[],
            &format!(
                "python3 - <<'E'
import os, signal, subprocess, sys, time
open('p.raw','wb').write(b'A'*(24<<20))
args = ['block-img', 'convert', '-f', 'raw', '-r', '8M', '-O', 'vdi', 'p.raw', 'out.vdi']
copy = subprocess.Popen(args)
time.sleep(0.4)
copy.send_signal(signal.SIG{signal})
ended = copy.wait()
left = sorted(os.listdir('.'))
sys.exit((ended, left) != (128 + {number}, ['p.raw']))
E"
            ),
        );
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_leaves_nothing() {
    holds(
        &[],
        "(ulimit -f 1024; block-img create -q -f raw x.raw 64M 2>err); rc=$?
         [ $rc = 1 ] && grep -q 'File too large' err && [ \"$(ls -A)\" = err ]",
    );
}

#[test]
fn names_that_are_not_utf_8_are_names() {
    holds_with_images(
        &[],
        "n=$'caf\\xe9.vdi'; cp disk.vdi \"$n\"
         block-img info \"$n\" >i && block-img info --output=json \"$n\" | python3 -c 'import json,sys; json.load(sys.stdin)' &&
         block-img convert \"$n\" $'o\\xff.raw' && cmp $'o\\xff.raw' p.raw && block-img check \"$n\" && block-img map --output=json \"$n\" >m",
    );
}

#[test]
fn a_limit_on_threads_makes_no_panic() {
    holds_with_images(
        &["root", "setpriv", "prlimit"],
        "chmod 755 .; chmod 644 disk.vdi; cp \"$(command -v block-img)\" ./bi; chmod 755 bi; mkdir o; chmod 777 o
         limited() { setpriv --reuid=61234 --regid=61234 --clear-groups prlimit --nproc=1 ./bi \"$@\"; }
         limited convert disk.vdi o/o.raw && cmp o/o.raw p.raw && limited digest disk.vdi && limited compare disk.vdi o/o.raw",
    );
}

#[test]
fn a_limit_on_open_files_is_an_error_of_one_line_and_makes_no_panic() {
    holds_with_images(
        &[],
        "python3 - <<'E'
import resource, subprocess, sys
for files in range(4, 24):
    for line in ['info disk.vdi', 'convert disk.vdi o.raw', 'check disk.vdi', 'compare disk.vdi p.raw', 'map disk.vdi']:
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        ran = subprocess.run(['block-img', *line.split()], preexec_fn=limit, capture_output=True)
        said = ran.stderr.decode()
        if ran.returncode > 2 or ran.returncode < 0 or 'panicked' in said or (ran.returncode and 'Too many open files' not in said):
            sys.exit(f'{files}: {line}: {ran}')
E",
    );
}
