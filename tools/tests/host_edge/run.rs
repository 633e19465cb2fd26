//! One run under strace, with one call failed or none, and what has to be true after it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::command::{Command, FILL, SIZE};
use crate::situation::{Outcome, Situation};

/// The calls that are traced and failed.
const CALLS: &str = "openat,linkat,renameat,renameat2,unlinkat,fchown,fchmod,fsetxattr,fgetxattr,flistxattr,\
    fremovexattr,ftruncate,fallocate,fsync,fdatasync,syncfs,statx,newfstatat,fstat,fcntl,pwrite64,pwritev,write,\
    copy_file_range,readlinkat,fstatfs,getdents64,sync_file_range,lseek,pread64,preadv2,ioctl";

/// What each call can answer besides EIO.
const ANSWERS: &[(&str, &str)] = &[
    ("openat", "EACCES"),
    ("openat", "EOPNOTSUPP"),
    ("linkat", "EPERM"),
    ("linkat", "EEXIST"),
    ("renameat", "EPERM"),
    ("renameat", "EBUSY"),
    ("renameat2", "EINVAL"),
    ("fchown", "EPERM"),
    ("fchmod", "EPERM"),
    ("fsetxattr", "EOPNOTSUPP"),
    ("ftruncate", "EFBIG"),
    ("fallocate", "EOPNOTSUPP"),
    ("fallocate", "ENOSPC"),
    ("fsync", "EINVAL"),
    ("fdatasync", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("copy_file_range", "EXDEV"),
    ("fcntl", "ENOLCK"),
];

/// Calls at which a signal arrives: those that write, that set what the file takes over, and that give the name.
const SIGNALLED: [&str; 4] = ["pwrite64", "fchmod", "linkat", "renameat"];

/// Signals that arrive: the first is asked for politely, the second cannot be handled.
const SIGNALS: [&str; 2] = ["SIGTERM", "SIGKILL"];

/// Limits under which the program runs, as `prlimit` takes them.
const LIMITS: [&str; 4] = ["--fsize=8192", "--nofile=6", "--nofile=9", "--nproc=1"];

/// What goes wrong in a run.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call of this name and number answers with an error.
    Error { call: String, when: usize, error: &'static str },
    /// A signal arrives at the call of this name and number.
    Signal { call: String, when: usize, signal: &'static str },
    /// The program has a limit.
    Limit(&'static str),
}

impl Fault {
    /// What is counted under one name.
    pub fn kind(&self) -> &str {
        match self {
            Self::Error { call, .. } => call,
            Self::Signal { signal, .. } => signal,
            Self::Limit(limit) => limit,
        }
    }

    /// Whether the program can end without a word.
    fn may_kill(&self) -> bool {
        matches!(self, Self::Signal { .. })
    }
}

/// Where the runs take place.
pub struct Bench {
    root: TempDir,
    program: PathBuf,
    runs: AtomicU32,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    content: Vec<u8>,
    inode: u64,
    owner: (u32, u32),
    mode: u32,
    links: u64,
    mark: Option<Vec<u8>>,
    acl: Option<Vec<u8>>,
}

impl Bench {
    /// `None`, and said so, where calls cannot be failed or users changed.
    pub fn new() -> Option<Self> {
        let injects = Process::new("strace")
            .args(["-o", "/dev/null", "-e", "inject=openat:error=EIO:when=1000", "true"])
            .status();
        let required = std::env::var_os("BLOCK_REQUIRE_ORACLES").is_some_and(|v| v == "1");
        if !injects.is_ok_and(|status| status.success()) || !rustix::process::geteuid().is_root() {
            assert!(!required, "strace and root are required");
            println!("SKIPPED: needs strace and root");
            return None;
        }
        let root = tempfile::Builder::new().prefix("host-edge").tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = root.path().join("block-img");
        fs::copy(env!("CARGO_BIN_EXE_block-img"), &program).unwrap();
        Some(Self { root, program, runs: AtomicU32::new(0) })
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn can_have(&self, _: &Situation) -> bool {
        true
    }

    /// Runs a command in a situation. Returns the calls it made, or what is wrong afterwards.
    pub fn run(
        &self,
        command: &Command,
        situation: &Situation,
        fault: Option<&Fault>,
    ) -> Result<String, String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let folder = self.root.path().join(format!("r{number}"));
        for sub in ["", "s", "d", "d/sub", "log"] {
            fs::create_dir(folder.join(sub)).unwrap();
            let mode = if sub == "log" { 0o777 } else { 0o755 };
            fs::set_permissions(folder.join(sub), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(folder.join("s/src.raw"), vec![FILL; SIZE]).unwrap();
        fs::write(folder.join("d/bystander"), b"stays").unwrap();
        (situation.prepare)(&folder);
        let target = folder.join(situation.file);
        let before = Facts::of(&target);
        assert_eq!(before.is_some(), situation.has_old, "{}", situation.name);
        let around = others(&folder, situation.file);

        let log = folder.join("log/calls");
        let mut strace = Process::new("strace");
        strace.args(["-f", "-y", "-s", "4096", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log);
        match fault {
            Some(Fault::Error { call, when, error }) => {
                strace.args(["-e", &format!("inject={call}:error={error}:when={when}")]);
            }
            Some(Fault::Signal { call, when, signal }) => {
                strace.args(["-e", &format!("inject={call}:signal={signal}:when={when}")]);
            }
            Some(Fault::Limit(limit)) => {
                strace.args(["prlimit", limit]);
            }
            None => {}
        }
        strace.arg(&self.program).args(command.words.split(' ')).current_dir(&folder);
        strace.uid(situation.user).gid(situation.user).stdin(Stdio::null());
        let output = strace.output().unwrap();
        let after = Facts::of(&target);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let judged = judge(Case {
            command,
            situation,
            fault,
            status: output.status.code(),
            err: &err,
            before: before.as_ref(),
            after: after.as_ref(),
        })
        .and_then(|()| self.look_around(&folder, command, situation, fault, &around));
        let calls = fs::read_to_string(&log).unwrap_or_default();
        // What was looked at is not needed any more, and thousands of runs leave thousands of files.
        fs::remove_dir_all(&folder).unwrap();
        judged.map(|()| calls).map_err(|why| {
            let fault = fault.map_or("no fault".to_owned(), |fault| format!("{fault:?}"));
            let (command, situation) = (command.name, situation.name);
            format!("{command}; {situation}; {fault}: {why}\n    {:?}: {err}", output.status)
        })
    }
}

impl Bench {
    /// Looks at everything but the target. What a killed program left is gone after the next run for the same target.
    fn look_around(
        &self,
        folder: &Path,
        command: &Command,
        situation: &Situation,
        fault: Option<&Fault>,
        before: &BTreeMap<String, (u64, u32, u32)>,
    ) -> Result<(), String> {
        let mut after = others(folder, situation.file);
        if fault.is_some_and(Fault::may_kill) && after.keys().any(|name| name.ends_with(".partial"))
        {
            let mut again = Process::new(&self.program);
            again.args(command.words.split(' ')).current_dir(folder);
            let again = again.uid(situation.user).gid(situation.user).output().unwrap();
            let said = String::from_utf8_lossy(&again.stderr).contains("removed '.");
            if !again.status.success() || !said {
                return Err(format!("the run after it does not clean up: {again:?}"));
            }
            after = others(folder, situation.file);
        }
        if after == *before {
            Ok(())
        } else {
            Err(format!("the folder changed: {before:?} to {after:?}"))
        }
    }
}

/// A run and what it left.
struct Case<'a> {
    command: &'a Command,
    situation: &'a Situation,
    fault: Option<&'a Fault>,
    status: Option<i32>,
    err: &'a str,
    before: Option<&'a Facts>,
    after: Option<&'a Facts>,
}

fn judge(case: Case<'_>) -> Result<(), String> {
    let Case { command, situation, fault, status, err, before, after } = case;
    let wrong = |why: &str| Err(format!("{why}: {}", after.map_or(String::new(), Facts::shown)));
    let killed = fault.is_some_and(Fault::may_kill) && matches!(status, None | Some(137 | 143));
    if !(killed || matches!(status, Some(0 | 1))) || err.contains("panicked") {
        return wrong("it ended in another way than by an error");
    }
    let whole = after.is_some_and(|after| (command.is_whole)(&after.content));
    if fault.is_none() {
        let expected = situation.outcome;
        let refused = expected == Outcome::Refused;
        if refused != (status == Some(1)) {
            return wrong("not the outcome that the situation has");
        }
        if let (Some(before), Some(after), false) = (before, after, refused) {
            let in_place = before.inode == after.inode;
            if in_place != (expected == Outcome::InPlace || command.changes) {
                return wrong("not the way of writing that the situation has");
            }
        }
    }
    if status == Some(0) {
        if !whole {
            return wrong("status 0, and the target is not whole");
        }
        let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
        return match after.keeps(before, command.changes) {
            Ok(()) => Ok(()),
            Err(why) => wrong(why),
        };
    }
    match (before, after) {
        (None, None) => Ok(()),
        (None, Some(_)) if whole && killed => Ok(()),
        (Some(before), Some(after)) if whole && killed => {
            match after.keeps(before, command.changes) {
                Ok(()) => Ok(()),
                Err(why) => wrong(why),
            }
        }
        (None, Some(_)) | (Some(_), Some(_)) if whole && err.contains("has its name") => Ok(()),
        (None, Some(_)) if whole && err.contains("took this name") => Ok(()),
        (None, Some(_)) => wrong("status 1, and a new file"),
        (Some(_), None) => wrong("the old file is gone"),
        (Some(before), Some(after)) if before == after => Ok(()),
        (Some(before), Some(after)) if before.inode == after.inode => {
            if !err.contains("written in place") && !command.changes && !killed {
                return wrong("the old file was changed, and nothing was said");
            }
            match after.keeps(before, command.changes) {
                Ok(()) => Ok(()),
                Err(why) => wrong(why),
            }
        }
        // After the name was taken, the program can fail to see that all is well.
        (Some(_), Some(_)) if whole && fault.is_some_and(|fault| is_look(fault.kind())) => Ok(()),
        (Some(_), Some(_)) => wrong("status 1, and another file has the name"),
    }
}

/// Whether the call only looks: its failure is told, and the file that was made is there.
fn is_look(call: &str) -> bool {
    matches!(call, "statx" | "newfstatat" | "fstat")
}

impl Facts {
    fn of(path: &Path) -> Option<Self> {
        let stat = fs::symlink_metadata(path).ok()?;
        let attribute = |name: &str| {
            let mut value = [0; 256];
            let len = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
            Some(value[..len].to_vec())
        };
        Some(Self {
            content: fs::read(path).unwrap(),
            inode: stat.ino(),
            owner: (stat.uid(), stat.gid()),
            mode: stat.mode() & 0o7777,
            links: stat.nlink(),
            mark: attribute("user.mark"),
            acl: attribute("system.posix_acl_access"),
        })
    }

    /// Whether a file that got new content is what the old one was, but for set-id bits.
    fn keeps(&self, before: &Self, same_file: bool) -> Result<(), &'static str> {
        if self.owner != before.owner {
            return Err("another owner or group");
        }
        // A file that only grows is the same file still.
        let mode = if same_file { before.mode } else { before.mode & 0o777 };
        if self.mode != mode {
            return Err("another mode, or a set-id bit");
        }
        if self.links != before.links {
            return Err("another number of names");
        }
        if self.acl != before.acl {
            return Err("another access control list");
        }
        if self.mark != before.mark {
            return Err("another attribute");
        }
        Ok(())
    }

    fn shown(&self) -> String {
        let Self { content, inode, owner, mode, links, mark, .. } = self;
        let first = content.first();
        format!(
            "{} bytes of {first:?}, inode {inode}, {owner:?}, {mode:o}, {links} names, {mark:?}",
            content.len()
        )
    }
}

/// The names, sizes, modes and owners of everything below the folder but the target.
fn others(folder: &Path, target: &str) -> BTreeMap<String, (u64, u32, u32)> {
    let mut found = BTreeMap::new();
    for sub in ["s", "d", "d/sub"] {
        for entry in fs::read_dir(folder.join(sub)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{sub}/{}", entry.file_name().to_string_lossy());
            let stat = entry.metadata().unwrap();
            // The other name of the target changes with it.
            if name != target && name != "s/other" {
                let size = if stat.is_dir() { 0 } else { stat.len() };
                found.insert(name, (size, stat.mode(), stat.uid()));
            }
        }
    }
    found
}

/// The faults that a traced run asks for: the limits, and each call that names the target, its folder or a descriptor of them, at its
/// first and its last use.
pub fn faults_of(log: &str, root: &Path, situation: &Situation) -> Vec<Fault> {
    let root = root.to_str().unwrap();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut uses: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        if call.contains(' ') || call.starts_with('<') {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        let concerns = arguments.contains("\"d/")
            || arguments.split(root).skip(1).any(|rest| {
                let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
                let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
                rest.starts_with("d/") || rest.starts_with("d>")
            });
        if concerns {
            let entry = uses.entry(call).or_insert((*count, *count));
            entry.1 = *count;
        }
    }
    let mut faults = Vec::new();
    for (call, (first, last)) in uses {
        let more = ANSWERS.iter().filter(|(name, _)| *name == call).map(|(_, error)| *error);
        for error in std::iter::once("EIO").chain(more) {
            let both = [first, last];
            let uses = if first == last { &both[..1] } else { &both[..] };
            let fails = |when: &usize| Fault::Error { call: call.to_owned(), when: *when, error };
            faults.extend(uses.iter().map(fails));
        }
        for signal in SIGNALS.into_iter().filter(|_| SIGNALLED.contains(&call)) {
            let uses = if first == last { vec![first] } else { vec![first, last] };
            let arrives = |when| Fault::Signal { call: call.to_owned(), when, signal };
            faults.extend(uses.into_iter().map(arrives));
        }
    }
    // A limit on processes is none for root.
    let limits = LIMITS.into_iter().filter(|limit| situation.user != 0 || !limit.contains("nproc"));
    faults.extend(limits.map(Fault::Limit));
    faults
}
