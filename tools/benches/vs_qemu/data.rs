//! The data that is converted and read. It is created once and kept in a directory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

const MIB: u64 = 1 << 20;

/// The directory of the data.
#[derive(Clone)]
pub struct Data {
    dir: PathBuf,
}

/// Fills the file of a [`Source`].
type Make = Rc<dyn Fn(&Path) -> Result<(), String>>;

/// A file that is created if it is missing.
#[derive(Clone)]
pub struct Source {
    path: PathBuf,
    make: Make,
}

impl Source {
    /// Creates the file, unless an earlier run has.
    pub fn make(&self) -> Result<(), String> {
        if self.path.exists() {
            return Ok(());
        }
        let part = self.path.with_extension("part");
        let _ = std::fs::remove_file(&part);
        (self.make)(&part)?;
        std::fs::rename(&part, &self.path).map_err(|e| e.to_string())
    }

    /// Returns the path as an argument.
    pub fn arg(&self) -> String {
        self.path.display().to_string()
    }
}

impl Data {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns a path in the directory, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn source(&self, name: &str, make: impl Fn(&Path) -> Result<(), String> + 'static) -> Source {
        Source { path: self.dir.join(name), make: Rc::new(make) }
    }

    /// Returns 1 GiB of random bytes.
    pub fn random(&self) -> Source {
        self.source("random.raw", |path| {
            fill(path, 1024 * MIB, |file, dice| {
                (0..1024).try_for_each(|mib| file.write_all_at(&dice.bytes(MIB), mib * MIB))
            })
        })
    }

    /// Returns 8 GiB, of which a tenth is stored, in pieces of 64 KiB.
    pub fn sparse(&self) -> Source {
        self.source("sparse.raw", |path| {
            fill(path, 8192 * MIB, |file, dice| {
                for piece in 0..8192 * MIB / 65536 {
                    if dice.next() % 10 == 0 {
                        file.write_all_at(&dice.bytes(65536), piece * 65536)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Returns 2 GiB of stored zeros.
    pub fn zeros(&self) -> Source {
        self.source("zeros.raw", |path| {
            fill(path, 2048 * MIB, |file, _| {
                let zeros = vec![0; 1 << 20];
                (0..2048).try_for_each(|mib| file.write_all_at(&zeros, mib * MIB))
            })
        })
    }

    /// Returns a hole of 8 GiB.
    pub fn hole(&self) -> Source {
        self.source("hole.raw", |path| fill(path, 8192 * MIB, |_, _| Ok(())))
    }

    /// Returns `source` as a VDI image written by stock `qemu-img`.
    pub fn as_vdi(&self, source: &Source, name: &str) -> Source {
        let source = source.clone();
        self.source(name, move |path| {
            source.make()?;
            stock(&[
                "convert",
                "-f",
                "raw",
                "-O",
                "vdi",
                &source.arg(),
                &path.display().to_string(),
            ])
        })
    }

    /// Returns an empty VDI image created by stock `qemu-img`.
    pub fn empty_vdi(&self, name: &str, size: &'static str) -> Source {
        self.source(name, move |path| {
            stock(&["create", "-q", "-f", "vdi", &path.display().to_string(), size])
        })
    }
}

fn stock(arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("qemu-img").args(arguments).status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("qemu-img {arguments:?}: {status}")) }
}

fn fill(
    path: &Path,
    len: u64,
    write: impl Fn(&File, &mut Dice) -> std::io::Result<()>,
) -> Result<(), String> {
    let make = || {
        let file = File::create(path)?;
        file.set_len(len)?;
        write(&file, &mut Dice(0x9e37_79b9_7f4a_7c15))?;
        file.sync_all()
    };
    make().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

/// A seeded stream of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
