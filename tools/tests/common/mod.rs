//! Running our program and the stock tools in a folder of their own.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod stock_options;
pub mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder for one test.
pub struct Folder {
    dir: TempDir,
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What the output of a program says.
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        Self {
            status,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self
    }

    /// Asserts a status.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }

    /// The output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

/// Whether the stock tools are here. Where they have to be, their absence is a failure.
pub fn oracles() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(),
            "qemu-img is not installed, and BLOCK_REQUIRE_ORACLES is set"
        );
        eprintln!("SKIPPED: qemu-img is not installed");
    }
    found
}

impl Folder {
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Our program, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_block-img"));
        command.args(args).current_dir(self.path()).env_remove("NO_COLOR");
        command
    }

    /// Runs our program with the words of `line`.
    pub fn ours(&self, line: &str) -> Ran {
        self.ours_with(&words(line))
    }

    pub fn ours_with(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs a stock program.
    pub fn stock(&self, program: &str, args: &[&str]) -> Ran {
        Ran::of(Command::new(program).args(args).current_dir(self.path()).output().unwrap())
    }

    /// Runs `qemu-img` with the words of `line`.
    pub fn theirs(&self, line: &str) -> Ran {
        self.stock("qemu-img", &words(line))
    }

    /// Writes through `qemu-io`, one request an argument.
    #[track_caller]
    pub fn qemu_io(&self, format: &str, file: &str, requests: &[&str]) {
        let mut args = vec!["-f", format];
        for request in requests {
            args.extend(["-c", request]);
        }
        args.push(file);
        self.stock("qemu-io", &args).ok();
    }

    /// A raw file of `size` bytes with `content` at the given places.
    pub fn raw(&self, name: &str, size: u64, content: &[(u64, Vec<u8>)]) {
        use std::os::unix::fs::FileExt;
        let file = fs::File::create(self.file(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in content {
            file.write_all_at(bytes, *offset).unwrap();
        }
    }

    /// Whether two files are the same, length included.
    pub fn same_bytes(&self, a: &str, b: &str) -> bool {
        fs::read(self.file(a)).unwrap() == fs::read(self.file(b)).unwrap()
    }

    /// The names of all files here, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The files here that are not meant to stay.
    pub fn leftovers(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(".partial")).collect()
    }
}

/// `len` bytes that look random, the same for the same seed, none of them zero.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8 | 1
        })
        .collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Asserts that every field that both have is equal; what only one has is let pass.
#[track_caller]
pub fn assert_shared_fields_equal(ours: &Value, theirs: &Value, place: &str) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut shared = 0;
            for (name, value) in a {
                if let Some(other) = b.get(name) {
                    shared += 1;
                    assert_shared_fields_equal(value, other, &format!("{place}.{name}"));
                }
            }
            assert!(shared > 0 || a.is_empty() || b.is_empty(), "{place}: no field in common");
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}: {ours} against {theirs}");
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                assert_shared_fields_equal(a, b, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}
