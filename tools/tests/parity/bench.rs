//! Two folders with the same images for each line, in which the two programs run.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{Folder, Ran, noise};
use crate::lines::Line;
use crate::outcome::Runs;

/// The images, and our program under the name of the other one.
pub struct Bench {
    images: Folder,
    programs: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let programs = TempDir::new().unwrap();
        symlink(env!("CARGO_BIN_EXE_block-img"), programs.path().join("qemu-img")).unwrap();
        let bench = Self { images: Folder::new(), programs };
        bench.make_images();
        bench
    }

    fn make_images(&self) {
        let images = &self.images;
        let content = vec![
            (4096, noise(1, 5000)),
            (1 << 20, noise(2, 65_536)),
            ((2 << 20) + 12_345, noise(3, 200_000)),
        ];
        let and = |more: (u64, Vec<u8>)| [content.clone(), vec![more]].concat();
        images.raw("disk.raw", 3 << 20, &content);
        images.raw("changed.raw", 3 << 20, &and(((2 << 20) + 20_000, vec![2, 4, 6])));
        images.raw("longer.raw", 4 << 20, &content);
        images.raw("longer-data.raw", 4 << 20, &and(((3 << 20) + 9000, noise(8, 600))));
        images.raw("odd.raw", (1 << 20) + 77, &[(0, noise(4, 100)), (1 << 20, noise(5, 77))]);
        images.raw("big.raw", 4 << 20, &[(0, noise(9, 4 << 20))]);
        for (name, size) in [
            ("hole.raw", 3 << 20),
            ("base.raw", 3 << 20),
            ("small.raw", 1 << 19),
            ("zero.raw", 4 << 20),
        ] {
            images.raw(name, size, &[]);
        }
        for line in [
            "convert -f raw -O vdi disk.raw disk.vdi",
            "convert -f raw -O vdi big.raw big.vdi",
            "convert -f raw -O vdi -o static=on disk.raw static.vdi",
            "create -q -f vdi empty.vdi 100M",
            "create -q -f vdi base.vdi 3M",
            "create -q -f vdi small.vdi 512k",
            "create -q -f vdi zero.vdi 4M",
        ] {
            images.theirs(line).ok();
        }
        images.ours("convert -f raw -O vdi disk.raw ours.vdi").ok();
    }

    /// What there is before a line runs.
    pub fn images(&self) -> &Path {
        self.images.path()
    }

    /// The stock program where there are no images.
    pub fn stock(&self, args: &[&str]) -> Ran {
        run("qemu-img".as_ref(), args, self.programs.path())
    }

    /// Runs a line with both programs.
    pub fn run(&self, line: &Line) -> Runs {
        let folder = TempDir::new().unwrap();
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let in_copy = |name: &str, program: &Path| {
            let copy = folder.path().join(name);
            let mut command = Command::new("cp");
            command.args(["-a", "--sparse=always"]).arg(self.images.path()).arg(&copy);
            assert!(command.status().unwrap().success());
            (run(program, &words, &copy), copy)
        };
        let (ours, in_ours) = in_copy("ours", &self.programs.path().join("qemu-img"));
        let (theirs, in_theirs) = in_copy("theirs", "qemu-img".as_ref());
        Runs { ours, theirs, in_ours, in_theirs, _folder: folder }
    }
}

fn run(program: &Path, args: &[&str], folder: &Path) -> Ran {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null()).env_remove("NO_COLOR");
    Ran::of(command.output().unwrap())
}
