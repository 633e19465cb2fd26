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

#[test]
fn a_compressed_file_is_to_be_unpacked_first() {
    holds(
        &[],
        r##"
python3 -c "import gzip; open('x.gz','wb').write(gzip.compress(b'A'*(1<<20)))"
block-img convert x.gz o.raw 2>err; rc=$?
[ $rc = 1 ] && ! grep -q 'name the format with -f' err && grep -qiE 'unpack|decompress|gunzip|zcat' err
"##,
    );
}

#[test]
fn a_check_says_what_a_file_is_as_the_others_do() {
    holds(
        &[],
        r##"
python3 -c "import gzip; open('x.gz','wb').write(gzip.compress(b'A'*(1<<20)))"
block-img check x.gz 2>err; grep -q 'this is gzip' err
"##,
    );
}

#[test]
fn an_image_on_standard_input_is_not_taken_for_a_disk() {
    holds_with_images(
        &[],
        r##"
cat disk.vdi | block-img convert - out.raw 2>err; [ $? != 0 ] || cmp out.raw p.raw
"##,
    );
}

#[test]
fn a_target_named_by_a_protocol_makes_no_file() {
    holds_with_images(
        &[],
        r##"
block-img convert disk.vdi nbd:localhost:10809 2>err; rc=$?
[ $rc != 0 ] && [ ! -e nbd:localhost:10809 ]
"##,
    );
}

#[test]
fn an_empty_file_is_a_disk_of_no_bytes() {
    holds(
        &[],
        r##"
: > e; block-img info e >i 2>err && block-img convert -O raw e o.raw
"##,
    );
}

#[test]
fn a_machine_file_is_not_a_disk() {
    holds(
        &[],
        r##"
printf '<?xml version="1.0"?>\n<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">\n<Machine uuid="{aaaaaaaa-aaaa-4aaa-aaaa-aaaaaaaaaaaa}" name="m"/>\n</VirtualBox>\n' > m.vbox
block-img info m.vbox >i 2>err; ! grep -q 'file format: raw' i
"##,
    );
}

#[test]
fn a_name_that_promises_a_format_which_is_not_there_is_told() {
    holds(
        &[],
        r##"
truncate -s 4M lost.vdi; block-img check lost.vdi 2>err; grep -qi 'vdi' err && grep -qi 'raw' err
"##,
    );
}

#[test]
fn the_file_of_a_device_is_a_file_in_json() {
    holds(
        &["root", "losetup"],
        r##"
truncate -s 4M dev; L=$(losetup -f --show dev); trap 'losetup -d $L' EXIT
block-img info --output=json "$L" | python3 -c "
import json,sys; d=json.load(sys.stdin); sys.exit(d['children'][0]['info']['format-specific']['type']!='file')"
"##,
    );
}

#[test]
fn a_pipe_named_by_its_device_hints_at_the_dash() {
    holds(
        &[],
        r##"
head -c 1M /dev/zero | block-img convert -f raw -O raw /dev/stdin o.raw 2>err; grep -q "'-'" err
"##,
    );
}

#[test]
fn a_device_may_be_named_with_its_protocol() {
    holds(
        &["root", "losetup"],
        r##"
truncate -s 4M dev; L=$(losetup -f --show dev); trap 'losetup -d $L' EXIT
block-img info "host_device:$L" >i
"##,
    );
}

#[test]
fn partitions_are_listed_by_their_place() {
    holds(
        &["sgdisk"],
        r##"
truncate -s 10M p.raw; sgdisk -n 1:2048:8191 -n 2:8192:0 p.raw >s
block-img inspect --deep p.raw >i; grep -qwE '1048576|0x100000|2048' i
"##,
    );
}

#[test]
fn a_locked_image_hints_at_force_share() {
    holds_with_images(
        &[],
        r##"
python3 - <<'E' & p=$!
import fcntl,struct,os,time
f=open('disk.vdi','r+b')
for o in (100,101,103,201,203): fcntl.fcntl(f,37,struct.pack('hhqqi4x',0,0,o,1,0))
open('held','w').close(); time.sleep(3)
E
while [ ! -e held ]; do sleep 0.1; done; block-img info disk.vdi >i 2>err; kill $p; ! [ -s err ] || grep -q -- '-U' err
"##,
    );
}

#[test]
fn a_missing_parent_hints_at_the_options() {
    holds_with_images(
        &[],
        r##"
mkdir alone; mv child.vdi alone/; block-img info alone/child.vdi 2>err >i; grep -q -- '--parent' err
"##,
    );
}

#[test]
fn hints_name_the_program_as_it_was_called() {
    holds(
        &[],
        r##"
ln -s "$(command -v block-img)" qemu-img; python3 -c "import gzip; open('x.gz','wb').write(gzip.compress(b'A'*(1<<20)))"
./qemu-img info x.gz 2>err; ! grep -q 'block-img' err
"##,
    );
}

#[test]
fn a_format_that_cannot_be_written_names_those_that_can() {
    holds_with_images(
        &[],
        r##"
block-img convert -O ewf p.raw x.E01 2>err; grep -q 'vdi' err
"##,
    );
}

#[test]
fn a_device_that_is_set_read_only_is_told_as_such() {
    holds(
        &["root", "losetup"],
        r##"
truncate -s 4M dev; L=$(losetup -f --show dev); trap 'blockdev --setrw $L; losetup -d $L' EXIT; blockdev --setro "$L"
truncate -s 1M z.raw; block-img convert -n -f raw -O raw z.raw "$L" 2>err; ! grep -q 'ls -l' err
"##,
    );
}

#[test]
fn what_standard_input_is_decides_and_raw_can_be_forced() {
    holds_with_images(
        &["gzip"],
        r##"
gzip -c p.raw | block-img convert - out.raw 2>err && exit 1
grep -q 'this is gzip' err && grep -q 'zcat' err && [ ! -e out.raw ] || exit 1
block-img convert -f raw - vdi.raw <disk.vdi && cmp -n "$(stat -c %s disk.vdi)" vdi.raw disk.vdi || exit 1
block-img convert - out.raw <p.raw && cmp out.raw p.raw || exit 1
: | block-img convert - none.raw && [ "$(stat -c %s none.raw)" = 0 ]
"##,
    );
}

#[test]
fn a_target_named_by_a_protocol_is_a_file_where_that_is_said() {
    holds_with_images(
        &[],
        r##"
for target in nbd:localhost:10809 rbd:pool/image ssh://host/x iscsi://host/x fat:x; do
    for command in "convert disk.vdi" "create -q -f raw" "dd if=disk.vdi"; do
        case $command in dd*) word=of=$target;; *) word=$target;; esac
        case $command in create*) size=1M;; *) size=;; esac
        block-img $command $word $size 2>err && exit 1
        grep -q 'Unknown protocol' err || exit 1
    done
done
[ "$(ls)" = "$(printf '%s\n' child.vdi disk.vdi err p.raw q.raw)" ] || exit 1
block-img convert disk.vdi ./nbd:here && cmp nbd:here p.raw && block-img convert q.raw nbd:here && cmp nbd:here q.raw &&
block-img convert disk.vdi other:here
"##,
    );
}

#[test]
fn a_file_that_the_kernel_makes_up_is_no_empty_disk() {
    holds(
        &[],
        r##"
for command in "info" "convert -O raw" "digest" "check" "map"; do
    case $command in convert*) target=o.raw;; *) target=;; esac
    block-img $command /proc/cpuinfo $target >out 2>err && exit 1
    grep -q "'/proc/cpuinfo' to have a length" err && [ ! -e o.raw ] || exit 1
done
"##,
    );
}

#[test]
fn a_machine_file_names_its_disks() {
    holds_with_images(
        &[],
        r##"
mkdir m; mv disk.vdi m/
cat >m/m.vbox <<E
<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">
<Machine uuid="{aaaaaaaa-aaaa-4aaa-aaaa-aaaaaaaaaaaa}" name="m"><MediaRegistry><HardDisks>
<HardDisk uuid="{11111111-2222-4333-8444-555555555555}" location="disk.vdi" format="VDI" type="Normal"/>
</HardDisks></MediaRegistry></Machine></VirtualBox>
E
block-img convert m/m.vbox o.raw 2>err && exit 1
grep -q "this is vbox" err && grep -q -- --vbox err && grep -q "m/disk.vdi" err && [ ! -e o.raw ]
"##,
    );
}

#[test]
fn a_partition_comes_out_of_an_image() {
    holds(
        &[],
        r##"
python3 -c "
import random; open('r.raw','wb').write(random.Random(6).randbytes(4<<20))"
block-img convert -f raw -O vdi r.raw r.vdi
inside=offset=1048576,size=2097152,file.driver=vdi,file.file.driver=file,file.file.filename=r.vdi
block-img convert --image-opts driver=raw,$inside part.raw && cmp part.raw <(tail -c +1048577 r.raw | head -c 2097152) || exit 1
block-img map --image-opts --output=json driver=raw,$inside | grep -q offset && exit 1
block-img resize --image-opts driver=raw,$inside +1M 2>err && exit 1
grep -q 'is read-only' err && [ "$(stat -c %s part.raw)" = 2097152 ]
"##,
    );
}

#[test]
fn what_is_there_of_a_damaged_image_is_salvaged() {
    holds(
        &[],
        r##"
python3 -c "
import random; open('r.raw','wb').write(random.Random(5).randbytes(4<<20))"
block-img convert -f raw -O vdi r.raw r.vdi; cp r.vdi whole.vdi
truncate -s $(( $(stat -c %s r.vdi) - 524288 )) r.vdi; cp r.vdi before.vdi
# Without the option: refused, and the option is named.
block-img convert r.vdi o.raw 2>err && exit 1
grep -q -- --salvage err && [ ! -e o.raw ] || exit 1
# With it: all that is there, and what is not is told.
block-img convert --salvage r.vdi o.raw 2>err || exit 1
[ "$(stat -c %s o.raw)" = 4194304 ] && cmp -n $((4*1048576-524288)) o.raw r.raw || exit 1
cmp <(tail -c 524288 o.raw) <(head -c 524288 /dev/zero) || exit 1
grep -q 'error while reading offset 3670016' err && grep -q '524288 bytes could not be read' err || exit 1
[ "$(grep -c 'error while reading' err)" = 1 ] && cmp r.vdi before.vdi || exit 1
# Two blocks past the end of the file and one in the middle whose entry leads nowhere.
cp whole.vdi r.vdi; truncate -s $((2*1048576 + 2*1048576)) r.vdi
printf '\377\000\000\000' | dd of=r.vdi bs=1 seek=1048576 conv=notrunc status=none
block-img convert --salvage r.vdi o.raw 2>err || exit 1
cmp <(head -c 2097152 o.raw | tail -c 1048576) <(head -c 2097152 r.raw | tail -c 1048576) || exit 1
cmp <(head -c 1048576 o.raw) <(head -c 1048576 /dev/zero) && grep -q '3145728 bytes could not be read' err || exit 1
# A damaged parent below a sound child.
block-img create -q -f vdi -b whole.vdi -F vdi child.vdi && truncate -s -524288 whole.vdi || exit 1
block-img convert --salvage --parent whole.vdi child.vdi o.raw 2>err || exit 1
cmp -n $((4*1048576-524288)) o.raw r.raw && grep -q '524288 bytes could not be read' err || exit 1
# Nothing is written into such an image.
cp before.vdi w.vdi; block-img resize --image-opts driver=vdi,damaged=on,file.filename=w.vdi 8M 2>err && exit 1
grep -q 'read-only' err && cmp w.vdi before.vdi
"##,
    );
}
