//! Chains at random: images over images of other block sizes, sizes and formats, written, zeroed, discarded,
//! merged in both directions, given other parents, resized and compacted, against vectors.
//!
//! `CHAIN_STEPS` says how many steps, `CHAIN_SEED` where to begin: a failure prints the seed and the step.

mod lab;

use std::env;

use block_core::{Access, CheckMode, Disk, Preallocation, WriteFlags, ZeroFlags, chain};
use block_testkit::exec::block_on;
use block_testkit::rng::Rng;
use lab::{Lab, content};

/// Images in a chain at most.
const DEPTH: usize = 5;

/// The largest disk, bytes.
const LARGEST: u64 = 1_200_000;

/// Steps of one chain before the next begins.
const STEPS: usize = 60;

/// A chain and what each of its images must show.
struct Model {
    lab: Lab,
    rng: Rng,
    /// The lowest first.
    images: Vec<(String, Vec<u8>)>,
    made: usize,
    /// How often each kind of step was taken.
    taken: [usize; KINDS],
}

const KINDS: usize = 13;

const NAMES: [&str; KINDS] = [
    "write",
    "zero",
    "discard",
    "read",
    "child",
    "commit",
    "commit and drop",
    "rebase down",
    "rebase to none",
    "rebase elsewhere",
    "grow",
    "shrink",
    "compact",
];

impl Model {
    async fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let lab = Lab::new();
        let size = rng.within(1..LARGEST / 512) * 512;
        let name = if rng.one_in(3) { "raw" } else { "0" };
        let (format, options) = match name {
            "raw" => ("raw", String::new()),
            _ => ("vdi", options(&mut rng)),
        };
        lab.create(name, format, size, &options, None).await;
        let images = vec![(name.to_owned(), vec![0; size as usize])];
        Self { lab, rng, images, made: 0, taken: [0; KINDS] }
    }

    fn format(&self, level: usize) -> &'static str {
        if self.images[level].0 == "raw" { "raw" } else { "vdi" }
    }

    fn top(&self) -> usize {
        self.images.len() - 1
    }

    async fn open(&self, level: usize) -> Disk {
        let name = &self.images[level].0;
        self.lab.open_as(name, self.format(level), Access::ReadWrite, &[]).await.unwrap()
    }

    /// As `open`, with the parent open for writing too.
    async fn open_with_parent(&self, level: usize) -> Disk {
        let name = &self.images[level].0;
        // Named: other steps have written into it since.
        let parent = (self.images[level - 1].0.as_str(), self.format(level - 1));
        let mut request = self.lab.request(name, "vdi", Access::ReadWrite, &[]);
        request.gate = self.lab.gate(&[], Some(parent));
        request.parent_access = Access::ReadWrite;
        self.lab.registry().open(&request).await.unwrap()
    }

    /// Creates an image of a size and block size of its own.
    async fn make(&mut self, size: u64, parent: Option<usize>) -> String {
        self.made += 1;
        let name = self.made.to_string();
        let options = options(&mut self.rng);
        let parent = parent.map(|level| (self.images[level].0.clone(), self.format(level)));
        let named = parent.as_ref().map(|(name, format)| (name.as_str(), *format));
        self.lab.create(&name, "vdi", size, &options, named).await;
        name
    }

    /// A range of a disk, often along blocks.
    fn range(&mut self, size: u64) -> (u64, u64) {
        let at = self.rng.within(0..size);
        let len = self.rng.within(1..size - at + 1);
        if self.rng.one_in(2) {
            (at, len.min(40_000))
        } else {
            (at / 131_072 * 131_072, (size - at / 131_072 * 131_072).min(len | 131_072))
        }
    }

    async fn step(&mut self) {
        let top = self.top();
        let has_parent = top > 0;
        let kind = match self.rng.index(26) {
            0..6 => 0,
            6..9 => 1,
            9..12 => 2,
            12..14 => 3,
            14..18 if top + 1 < DEPTH => 4,
            18 | 19 if has_parent => 5,
            20 if has_parent => 6,
            21 if has_parent => 7,
            22 if has_parent && self.rng.one_in(3) => 8,
            22 if has_parent => 9,
            23 => 10,
            24 => 11,
            25 => 12,
            _ => 0,
        };
        self.taken[kind] += 1;
        match kind {
            4 => self.put_child_on_top().await,
            5 => self.commit(false).await,
            6 => self.commit(true).await,
            7..10 => self.rebase(kind).await,
            10 | 11 => self.resize(kind == 11).await,
            _ => self.use_top(kind).await,
        }
    }

    /// A few requests to the image on top, through one handle.
    async fn use_top(&mut self, kind: usize) {
        let top = self.top();
        let disk = self.open(top).await;
        let mut shown = std::mem::take(&mut self.images[top].1);
        for _ in 0..self.rng.within(1..5) {
            let (at, len) = self.range(shown.len() as u64);
            let range = at as usize..(at + len) as usize;
            match kind {
                0 => {
                    let value = self.rng.roll() as u8;
                    let bytes: Vec<u8> = (0..len).map(|n| value ^ (n / 512) as u8).collect();
                    disk.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                    shown[range].copy_from_slice(&bytes);
                }
                1 => {
                    let flags =
                        if self.rng.one_in(3) { ZeroFlags::empty() } else { ZeroFlags::MAY_UNMAP };
                    disk.write_zeroes(at, len, flags).await.unwrap();
                    shown[range].fill(0);
                }
                2 => {
                    disk.discard(at, len).await.unwrap();
                    // Each byte is as before or zero, and stays what it is.
                    let mut now = vec![0; len as usize];
                    disk.read_at(at, &mut now).await.unwrap();
                    let old = &shown[range.clone()];
                    assert!(now.iter().zip(old).all(|(now, old)| *now == 0 || now == old));
                    shown[range].copy_from_slice(&now);
                }
                3 => {
                    let mut now = vec![0; len as usize];
                    disk.read_at(at, &mut now).await.unwrap();
                    assert!(now == shown[range], "{at}+{len}");
                }
                _ if self.format(top) == "vdi" => {
                    disk.device().compact(&|_, _| true).await.unwrap();
                }
                _ => {}
            }
        }
        self.images[top].1 = shown;
        // Mostly it is closed; sometimes the process dies after a flush.
        if self.rng.one_in(4) { disk.flush().await.unwrap() } else { disk.close().await.unwrap() }
    }

    async fn put_child_on_top(&mut self) {
        let parent = self.top();
        let mut shown = self.images[parent].1.clone();
        let size = match self.rng.index(3) {
            0 => shown.len() as u64,
            1 => (shown.len() as u64 / 3).next_multiple_of(512).max(512),
            _ => LARGEST.min(shown.len() as u64 + self.rng.within(1..800) * 512) / 512 * 512,
        };
        let name = self.make(size, Some(parent)).await;
        shown.resize(size as usize, 0);
        self.images.push((name, shown));
    }

    /// Merges an image into its parent. It is emptied, or dropped and its child given to the parent.
    async fn commit(&mut self, drop_it: bool) {
        let level = 1 + self.rng.index(self.top());
        let child = self.open_with_parent(level).await;
        let parent = child.parent().unwrap();
        chain::commit(&child, &|_, _| true).await.unwrap();
        parent.close().await.unwrap();
        let shown = self.images[level].1.clone();
        let below = &mut self.images[level - 1].1;
        if below.len() < shown.len() {
            below.resize(shown.len(), 0);
        }
        below[..shown.len()].copy_from_slice(&shown);
        if !drop_it {
            child.device().make_empty().await.unwrap();
            chain::acknowledge(&child, amendments()).await.unwrap();
            child.close().await.unwrap();
            return;
        }
        child.close().await.unwrap();
        // Where the parent is larger, a child of the dropped image would show what that one ended before.
        let is_larger = self.images[level - 1].1.len() > shown.len();
        if level < self.top() && !is_larger {
            self.adopt(level + 1, Some(level - 1)).await;
        } else if level < self.top() {
            self.rebase_to(level + 1, Some(level - 1)).await;
        }
        let (name, _) = self.images.remove(level);
        self.lab.remove(&name);
    }

    /// Names another parent in an image, which must show the same over both.
    async fn adopt(&self, level: usize, parent: Option<usize>) {
        let child = self.open(level).await;
        let parent = match parent {
            Some(parent) => Some(self.open(parent).await),
            None => None,
        };
        chain::adopt(&child, amendments(), parent.as_ref()).await.unwrap();
        child.close().await.unwrap();
    }

    async fn rebase_to(&self, level: usize, parent: Option<usize>) {
        let child = self.open(level).await;
        let onto = match parent {
            Some(parent) => Some(self.open(parent).await),
            None => None,
        };
        chain::rebase(&child, onto.as_ref(), &|_, _| true).await.unwrap();
        chain::adopt(&child, amendments(), onto.as_ref()).await.unwrap();
        child.close().await.unwrap();
    }

    /// Gives the image on top another parent: one further down, none, or one it never had. What is no
    /// longer below it goes.
    async fn rebase(&mut self, kind: usize) {
        let top = self.top();
        match kind {
            7 => {
                let onto = self.rng.index(top);
                self.rebase_to(top, Some(onto)).await;
                for (name, _) in self.images.drain(onto + 1..top) {
                    self.lab.remove(&name);
                }
            }
            8 => {
                self.rebase_to(top, None).await;
                for (name, _) in self.images.drain(..top) {
                    self.lab.remove(&name);
                }
            }
            _ => {
                let size = self.rng.within(1..LARGEST / 512) * 512;
                let name = self.make(size, None).await;
                let other = self.lab.open(&name, Access::ReadWrite, &[]).await.unwrap();
                let mut shown = vec![0; size as usize];
                let (at, len) = self.range(size);
                shown[at as usize..(at + len) as usize].fill(0x3C);
                let bytes = vec![0x3C; len as usize];
                other.write_at(at, &bytes, WriteFlags::empty()).await.unwrap();
                other.close().await.unwrap();
                // The old chain below stays where it is until the child has let go of it.
                self.images.insert(0, (name, shown));
                self.rebase_to(top + 1, Some(0)).await;
                for (name, _) in self.images.drain(1..=top) {
                    self.lab.remove(&name);
                }
            }
        }
    }

    async fn resize(&mut self, shrink: bool) {
        let top = self.top();
        let old = self.images[top].1.len() as u64;
        let sectors = old / 512;
        let size = if shrink {
            self.rng.within(1..sectors + 1) * 512
        } else {
            (sectors + self.rng.within(1..900)).min(LARGEST / 512).max(sectors) * 512
        };
        let disk = self.open(top).await;
        disk.device().resize(size, Preallocation::Off).await.unwrap();
        disk.close().await.unwrap();
        let mut shown = std::mem::take(&mut self.images[top].1);
        shown.truncate(size as usize);
        if size > old {
            // A child shows what its parent has there, or zeros in blocks that it holds itself.
            let again = self.open(top).await;
            let now = content(&again).await;
            let below = top.checked_sub(1).map(|level| &self.images[level].1);
            for (at, byte) in now.iter().enumerate().skip(old as usize) {
                let exposed = below.and_then(|below| below.get(at));
                assert!(*byte == 0 || exposed == Some(byte), "{at} behind the old end");
            }
            shown.extend_from_slice(&now[old as usize..]);
        }
        self.images[top].1 = shown;
    }

    /// Every image shows what it must, and is sound.
    async fn look(&self) {
        for (level, (name, shown)) in self.images.iter().enumerate() {
            let disk = self.lab.open_as(name, self.format(level), Access::Read, &[]).await.unwrap();
            let now = content(&disk).await;
            let differs = now.iter().zip(shown).position(|(now, shown)| now != shown);
            assert_eq!((now.len(), differs), (shown.len(), None), "level {level}");
            let mut depth = 0;
            let mut below = disk.parent();
            while let Some(parent) = below {
                depth += 1;
                below = parent.parent();
            }
            assert_eq!(depth, level, "parents of level {level}");
            if self.format(level) == "vdi" {
                let report = self.lab.check(name, CheckMode::Report).await.unwrap();
                assert_eq!(report.corruptions, 0, "level {level}: {:#?}", report.findings);
            }
        }
    }
}

fn options(rng: &mut Rng) -> String {
    let sizes = ["128k", "256k", "512k", "1M", "2M"];
    let layouts = ["qemu", "virtualbox"];
    format!("block_size={},layout={}", sizes[rng.index(5)], layouts[rng.index(2)])
}

fn amendments() -> &'static [block_core::OptionSpec] {
    block_core::BlockDriver::descriptor(&block_vdi::VdiDriver).amend_options
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn chains_at_random_agree_with_vectors() {
    let steps = number("CHAIN_STEPS", 3000) as usize;
    let first = number("CHAIN_SEED", 1);
    let mut taken = [0; KINDS];
    let mut done = 0;
    for seed in first.. {
        if done >= steps {
            break;
        }
        let mut model = block_on(Model::new(seed));
        for step in 0..STEPS {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                block_on(async {
                    model.step().await;
                    model.look().await;
                });
            }));
            if let Err(panic) = ran {
                eprintln!("CHAIN_SEED={seed}, step {step}, steps so far {:?}", model.taken);
                std::panic::resume_unwind(panic);
            }
            done += 1;
        }
        taken.iter_mut().zip(model.taken).for_each(|(all, one)| *all += one);
    }
    let counts: Vec<String> =
        NAMES.iter().zip(taken).map(|(name, count)| format!("{name} {count}")).collect();
    println!("{done} steps from seed {first} on: {}", counts.join(", "));
    assert!(taken.iter().all(|count| *count > steps / 300), "a kind of step is missing");
}
