//! Power cuts at every moment of every command that changes an image: what is left opens, is sound but for
//! leaks, and holds what it may hold; and the same command, run again, ends as if nothing had happened.

mod lab;

use block_core::Image;
use block_core::{Access, CheckMode, ErrorKind, WriteFlags, ZeroFlags, is_zero};
use block_testkit::crash::CrashState;
use block_testkit::exec::block_on;
use block_testkit::{Fault, FaultStorage, Half, Level, OpKind, Rule, World};
use lab::{Lab, content, uri};

/// Bytes of a block in the images here.
const BLOCK: u64 = 128 << 10;

/// The states looked at for each moment of a cut.
const STATES: usize = 10;

/// One state in so many has the command run again on it.
const AGAIN: usize = 29;

/// What an image may show after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// What it showed before.
    Same,
    /// In each sector what it showed before, or what it shows afterwards.
    OldOrNew,
    /// It is no image yet, or shows in each sector zeros, or what it shows afterwards.
    NothingOrNew,
    /// As `NothingOrNew`, with what the last of the files that are read shows in place of zeros.
    NothingOrOverParent,
    /// All as it was, or with zeros behind it up to the new size.
    Grown,
    /// The new size, and all of that as it was; or still the old size. Then only blocks of which the new size
    /// has nothing may be gone, each as a whole: it shows what the last of the files that are read shows, or
    /// zeros.
    Shrunk,
}

/// A command to cut.
struct Cut<'a> {
    line: &'a [&'a str],
    lab: Lab,
    /// The files it writes, and what they may show.
    written: &'a [(&'a str, Shows)],
    /// Those that nobody may write, and that stay as they are.
    read: &'a [&'a str],
    /// Which of all are raw.
    raw: &'a [&'a str],
}

/// What a file shows; `None`: it is no image.
async fn shown(lab: &Lab, name: &str, raw: &[&str]) -> Option<Vec<u8>> {
    let format = if raw.contains(&name) { "raw" } else { "vdi" };
    let disk = lab.open_as(name, format, Access::Read, raw).await.ok()?;
    Some(content(&disk).await)
}

impl Cut<'_> {
    fn image(&self, name: &str) -> Image {
        block_on(async {
            let storage = self.lab.storage(name);
            let mut bytes = vec![0; storage.len().await.unwrap() as usize];
            storage.read_at(0, &mut bytes).await.unwrap();
            Image::of(&bytes)
        })
    }

    fn names(&self) -> Vec<&str> {
        self.written.iter().map(|(name, _)| *name).chain(self.read.iter().copied()).collect()
    }

    /// Runs the command, cuts the power everywhere, and looks. Returns how many states were seen.
    fn everywhere(self) -> usize {
        let world = World::new();
        let names = self.names();
        let live = Lab::new();
        for name in &names {
            live.add(name, world.disk(&uri(name), self.image(name)));
        }
        let see = |lab: &Lab, name: &str| block_on(shown(lab, name, self.raw));
        let old: Vec<_> = names.iter().map(|name| see(&live, name)).collect();
        assert!(live.command(self.line), "{:?} failed", self.line);
        let end = world.tick();
        let new: Vec<_> = names.iter().map(|name| see(&live, name)).collect();
        let mut replay = world.replay();
        assert!(world.written(names.len()) > 0, "{:?} wrote nothing", self.line);

        let mut seen = 0;
        for moment in replay.moments() {
            for state in replay.cut(moment, Level::DEFAULT, STATES, moment) {
                seen += 1;
                let place = format!("{:?}, moment {moment}, {}", self.line, state.choice);
                let left = self.look(&state, &old, &new, &place);
                if seen % AGAIN == 0 {
                    self.again(&left, &new, &place);
                }
            }
        }
        // Success was reported: nothing that the command did is lost any more.
        for state in world.replay().cut(end, Level::LastFlush, 1, 0) {
            let place = format!("{:?}, after its end", self.line);
            let left =
                Lab::of(state.disks.iter().map(|(uri, image)| (name_of(uri), image.clone())));
            for (name, new) in names.iter().zip(&new) {
                assert!(see(&left, name) == *new, "{place}: {name} is not as it was left");
            }
            self.sound(&left, &place, true);
        }
        assert!(seen >= 4, "only {seen} states were looked at");
        seen
    }

    fn look(
        &self,
        state: &CrashState,
        old: &[Option<Vec<u8>>],
        new: &[Option<Vec<u8>>],
        place: &str,
    ) -> Lab {
        let left = Lab::of(state.disks.iter().map(|(uri, image)| (name_of(uri), image.clone())));
        let rules = self.written.iter().map(|(_, rule)| *rule);
        let rules = rules.chain(self.read.iter().map(|_| Shows::Same));
        let parent = match self.read {
            [] => Vec::new(),
            [..] => old.last().cloned().flatten().unwrap_or_default(),
        };
        for (((name, rule), old), new) in self.names().iter().zip(rules).zip(old).zip(new) {
            let now = block_on(shown(&left, name, self.raw));
            let new = new.as_ref().unwrap();
            let Some(now) = now else {
                let may = matches!(rule, Shows::NothingOrNew | Shows::NothingOrOverParent);
                assert!(may, "{place}: {name} does not open");
                continue;
            };
            let zeros = vec![0; new.len()];
            let old = match rule {
                Shows::NothingOrOverParent => &parent,
                _ => old.as_ref().unwrap_or(&zeros),
            };
            let verdict = allowed(rule, &now, old, new, &parent);
            verdict.unwrap_or_else(|why| panic!("{place}: {name}: {why}"));
        }
        self.sound(&left, place, false);
        left
    }

    /// Asserts that no image is corrupt, and when it has to be `tidy`, that none leaks.
    fn sound(&self, left: &Lab, place: &str, tidy: bool) {
        for name in self.names().iter().filter(|name| !self.raw.contains(name)) {
            let Ok(report) = block_on(left.check(name, CheckMode::Report)) else {
                let new = [Shows::NothingOrNew, Shows::NothingOrOverParent];
                let may = new.iter().any(|rule| self.written.contains(&(*name, *rule)));
                assert!(may && !tidy, "{place}: {name} cannot be checked");
                continue;
            };
            assert_eq!(report.corruptions, 0, "{place}: {name}: {:#?}", report.findings);
            assert!(!tidy || report.leaks == 0, "{place}: {name}: {:#?}", report.findings);
        }
    }

    /// Runs the command on what a cut has left: it ends as it would have.
    fn again(&self, left: &Lab, new: &[Option<Vec<u8>>], place: &str) {
        assert!(left.command(self.line), "{place}: run again, it failed");
        for (name, new) in self.names().iter().zip(new) {
            let now = block_on(shown(left, name, self.raw));
            assert!(now == *new, "{place}: run again, {name} shows something else");
        }
        // What the first run left lying is for a compaction, or a repair, to clear away.
        self.sound(left, place, self.line.first() == Some(&"compact"));
    }
}

fn name_of(uri: &str) -> &str {
    uri.strip_prefix("lab:").unwrap_or(uri)
}

fn allowed(rule: Shows, now: &[u8], old: &[u8], new: &[u8], parent: &[u8]) -> Result<(), String> {
    let sizes = [old.len(), new.len()];
    if !sizes.contains(&now.len()) {
        return Err(format!("it has {} bytes, not {sizes:?}", now.len()));
    }
    match rule {
        Shows::Grown => {
            let (same, gained) = now.split_at(old.len());
            let place = same.chunks(512).zip(old.chunks(512)).position(|(now, old)| now != old);
            return match place {
                Some(sector) => Err(format!("sector {sector} is not as it was")),
                None if !is_zero(gained) => Err("what it has gained is not zeros".to_owned()),
                None => Ok(()),
            };
        }
        Shows::Shrunk => {
            for (index, block) in now.chunks(BLOCK as usize).enumerate() {
                let start = index * BLOCK as usize;
                let was = old.get(start..start + block.len()).unwrap_or_default();
                let mut gone = parent.get(start..).unwrap_or_default().to_vec();
                gone.resize(block.len(), 0);
                if was != block && (start < new.len() || gone != block) {
                    let size = now.len();
                    return Err(format!("block {index} of {size} bytes is neither kept nor gone"));
                }
            }
            return Ok(());
        }
        _ => {}
    }
    for (index, sector) in now.chunks(512).enumerate() {
        let (old, new) = (of_sector(old, index), of_sector(new, index));
        let right = match rule {
            Shows::Same => old == Some(sector),
            _ => old == Some(sector) || new == Some(sector),
        };
        if !right {
            return Err(format!("sector {index} begins with {:#x}, which is neither", sector[0]));
        }
    }
    Ok(())
}

fn of_sector(content: &[u8], index: usize) -> Option<&[u8]> {
    let rest = content.get(index * 512..).filter(|rest| !rest.is_empty())?;
    rest.get(..512.min(rest.len()))
}

const NEW: &str = "block_size=128k,layout=qemu";

/// Writes `value` into each of `blocks`.
async fn fill(lab: &Lab, name: &str, raw: &[&str], blocks: &[u64], value: u8) {
    let format = if raw.contains(&name) { "raw" } else { "vdi" };
    let disk = lab.open_as(name, format, Access::ReadWrite, raw).await.unwrap();
    for block in blocks {
        let bytes = vec![value + *block as u8; BLOCK as usize];
        disk.write_at(block * BLOCK, &bytes, WriteFlags::empty()).await.unwrap();
    }
    disk.close().await.unwrap();
}

/// `base` (a raw disk if it is called so) of eight blocks and a half, `child` over it with data, zeros and
/// part of a block, `top` over that.
fn chain(base: &str) -> Lab {
    block_on(async {
        let lab = Lab::new();
        let raw: &[&str] = &["raw"];
        let size = 8 * BLOCK + BLOCK / 2;
        let (base_format, options) = if base == "raw" { ("raw", "") } else { ("vdi", NEW) };
        lab.create(base, base_format, size, options, None).await;
        fill(&lab, base, raw, &[0, 1, 2, 5, 7], 0x10).await;
        lab.create("child", "vdi", size, NEW, Some((base, base_format))).await;
        fill(&lab, "child", raw, &[1, 3, 6], 0x40).await;
        let child = lab.open("child", Access::ReadWrite, raw).await.unwrap();
        child.write_zeroes(2 * BLOCK, BLOCK, ZeroFlags::MAY_UNMAP).await.unwrap();
        child.write_at(5 * BLOCK + 4096, &[0x77; 3000], WriteFlags::empty()).await.unwrap();
        child.close().await.unwrap();
        lab.create("top", "vdi", size, NEW, Some(("child", "vdi"))).await;
        fill(&lab, "top", raw, &[0, 6], 0x80).await;
        lab
    })
}

/// An image with some blocks, others freed, so that it has holes.
fn with_holes() -> Lab {
    block_on(async {
        let lab = Lab::new();
        lab.create("x", "vdi", 13 * BLOCK - 512, NEW, None).await;
        fill(&lab, "x", &[], &[9, 1, 4, 11, 6, 0], 0x10).await;
        lab
    })
}

#[test]
fn a_commit_is_whole_at_every_cut() {
    let seen = Cut {
        line: &["commit", "-q", "--parent", "lab:base", "lab:child"],
        lab: chain("base"),
        written: &[("child", Shows::Same), ("base", Shows::OldOrNew)],
        read: &[],
        raw: &[],
    }
    .everywhere();
    println!("{seen} states");
}

/// The library's part alone, and nothing closed behind it.
#[test]
fn what_the_library_has_committed_is_durable_in_the_parent() {
    let made = chain("base");
    let world = World::new();
    let live = Lab::new();
    let names = ["child", "base"];
    let cut = Cut { line: &[], lab: made, written: &[], read: &[], raw: &[] };
    names.iter().for_each(|name| live.add(name, world.disk(&uri(name), cut.image(name))));
    let shown_by_child = block_on(async {
        let mut request = live.request("child", "vdi", Access::ReadWrite, &[]);
        request.parent_access = Access::ReadWrite;
        let child = live.registry().open(&request).await.unwrap();
        let moved = block_core::chain::commit(&child, &|_, _| true).await.unwrap();
        assert!(moved.data > 0 && moved.zeros > 0, "{moved:?}");
        content(&child).await
    });
    let end = world.tick();
    let states = world.replay().cut(end, Level::DEFAULT, 200, 0);
    for state in states {
        let left = Lab::of(state.disks.iter().map(|(uri, image)| (name_of(uri), image.clone())));
        let base = block_on(shown(&left, "base", &[])).unwrap();
        assert!(base == shown_by_child, "crash state {}: not all of it is there", state.choice);
    }
}

#[test]
fn a_commit_that_keeps_the_child_is_whole_at_every_cut() {
    Cut {
        line: &["commit", "-q", "-d", "--parent", "lab:base", "lab:child"],
        lab: chain("base"),
        written: &[("child", Shows::Same), ("base", Shows::OldOrNew)],
        read: &["top"],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn a_commit_into_a_raw_parent_is_whole_at_every_cut() {
    Cut {
        line: &["commit", "-q", "--parent", "lab:raw", "lab:child"],
        lab: chain("raw"),
        written: &[("child", Shows::Same), ("raw", Shows::OldOrNew)],
        read: &["top"],
        raw: &["raw"],
    }
    .everywhere();
}

#[test]
fn a_commit_in_the_middle_of_a_chain_is_whole_at_every_cut() {
    let parents = ["--parent", "lab:child", "--parent", "lab:base"];
    Cut {
        line: &[&["commit", "-q"][..], &parents, &["lab:top"]].concat(),
        lab: chain("base"),
        written: &[("top", Shows::Same), ("child", Shows::OldOrNew)],
        read: &["base"],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn a_rebase_is_whole_at_every_cut() {
    let lab = chain("base");
    let parents = ["--parent", "lab:child", "--parent", "lab:base"];
    Cut {
        line: &[&["rebase", "-q", "-b", "lab:base"][..], &parents, &["lab:top"]].concat(),
        lab: lab.clone(),
        written: &[("top", Shows::Same)],
        read: &["child", "base"],
        raw: &[],
    }
    .everywhere();
    Cut {
        line: &[&["rebase", "-q", "-b", ""][..], &parents, &["lab:top"]].concat(),
        lab,
        written: &[("top", Shows::Same)],
        read: &["child", "base"],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn compacting_is_whole_at_every_cut() {
    Cut {
        line: &["compact", "-q", "lab:x"],
        lab: block_on(async {
            let lab = with_holes();
            let disk = lab.open("x", Access::ReadWrite, &[]).await.unwrap();
            let zeros = vec![0; BLOCK as usize];
            for block in [9, 4] {
                disk.write_at(block * BLOCK, &zeros, WriteFlags::empty()).await.unwrap();
            }
            disk.close().await.unwrap();
            lab
        }),
        written: &[("x", Shows::Same)],
        read: &[],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn compacting_a_child_is_whole_at_every_cut() {
    let lab = chain("base");
    // As the parent has them: to be dropped.
    block_on(fill(&lab, "child", &[], &[0, 7], 0x10));
    Cut {
        line: &["compact", "-q", "--parent", "lab:base", "lab:child"],
        lab,
        written: &[("child", Shows::Same)],
        read: &["base"],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn resizing_is_whole_at_every_cut() {
    for (line, rule) in [
        (&["resize", "-q", "lab:x", "1700M"][..], Shows::Grown),
        (&["resize", "-q", "--preallocation=metadata", "lab:x", "3M"], Shows::Grown),
        (&["resize", "-q", "--shrink", "lab:x", "700k"], Shows::Shrunk),
    ] {
        Cut { line, lab: with_holes(), written: &[("x", rule)], read: &[], raw: &[] }.everywhere();
    }
}

#[test]
fn resizing_a_static_image_is_whole_at_every_cut() {
    for (line, rule) in [
        (&["resize", "-q", "lab:x", "2M"][..], Shows::Grown),
        (&["resize", "-q", "--shrink", "lab:x", "300k"], Shows::Shrunk),
    ] {
        let lab = Lab::new();
        block_on(async {
            lab.create("x", "vdi", 6 * BLOCK, &format!("{NEW},static=on"), None).await;
            fill(&lab, "x", &[], &[0, 1, 4, 5], 0x10).await;
        });
        Cut { line, lab, written: &[("x", rule)], read: &[], raw: &[] }.everywhere();
    }
}

#[test]
fn resizing_a_child_is_whole_at_every_cut() {
    for (line, rule) in [
        (&["resize", "-q", "--parent", "lab:base", "lab:child", "3M"][..], Shows::Grown),
        (&["resize", "-q", "--shrink", "--parent", "lab:base", "lab:child", "600k"], Shows::Shrunk),
    ] {
        Cut { line, lab: chain("base"), written: &[("child", rule)], read: &["base"], raw: &[] }
            .everywhere();
    }
}

#[test]
fn amending_is_whole_at_every_cut() {
    Cut {
        line: &["amend", "-q", "-o", "comment=new,geometry=7/8/9", "lab:x"],
        lab: with_holes(),
        written: &[("x", Shows::Same)],
        read: &[],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn repairing_is_whole_at_every_cut() {
    let lab = with_holes();
    block_on(async {
        let storage = lab.storage("x");
        // Block 3 shares the slot of block 1, block 6 is lost from the map, and the count is too small.
        let mut entry = [0; 4];
        storage.read_at(0x204, &mut entry).await.unwrap();
        storage.write_at(0x20C, &entry).await.unwrap();
        storage.write_at(0x218, &[0xFF; 4]).await.unwrap();
        storage.write_at(0x184, &[1]).await.unwrap();
    });
    let before = block_on(lab.check("x", CheckMode::Report)).unwrap();
    assert!(before.corruptions >= 2 && before.leaks > 0, "{:#?}", before.findings);
    let world = World::new();
    let image = Cut { line: &[], lab, written: &[], read: &[], raw: &[] }.image("x");
    let live = Lab::new();
    live.add("x", world.disk("lab:x", image));
    let old = block_on(shown(&live, "x", &[])).unwrap();
    assert!(live.command(&["check", "-q", "-r", "all", "lab:x"]));
    let mut replay = world.replay();
    let mut seen = 0;
    for moment in replay.moments() {
        for state in replay.cut(moment, Level::DEFAULT, 40, moment) {
            let left = Lab::of([("x", state.disks[0].1.clone())]);
            let place = format!("moment {moment}, {}", state.choice);
            assert!(block_on(shown(&left, "x", &[])).unwrap() == old, "{place}");
            seen += 1;
            if seen % 2 == 0 {
                assert!(left.command(&["check", "-q", "-r", "all", "lab:x"]), "{place}");
                let report = block_on(left.check("x", CheckMode::Report)).unwrap();
                assert_eq!(report.findings, [], "{place}");
                assert!(block_on(shown(&left, "x", &[])).unwrap() == old, "{place}");
            }
        }
    }
    assert!(seen >= 10, "only {seen} states");
}

#[test]
fn creating_is_whole_at_every_cut() {
    let lab = chain("base");
    lab.add("new", block_core::MemStorage::of("lab:new", Image::default()));
    Cut {
        line: &["create", "-q", "-f", "vdi", "-o", "block_size=128k", "lab:new", "1M"],
        lab: lab.clone(),
        written: &[("new", Shows::NothingOrNew)],
        read: &[],
        raw: &[],
    }
    .everywhere();
    Cut {
        line: &["create", "-q", "-f", "vdi", "-b", "lab:base", "-F", "vdi", "lab:new"],
        lab,
        written: &[("new", Shows::NothingOrOverParent)],
        read: &["base"],
        raw: &[],
    }
    .everywhere();
}

#[test]
fn converting_is_whole_at_every_cut() {
    let parents = ["--parent", "lab:child", "--parent", "lab:base"];
    for options in [
        &["-o", "block_size=128k"][..],
        &["-o", "block_size=128k,static=on"],
        &["-o", "block_size=128k", "-B", "lab:base", "-F", "vdi"],
    ] {
        let lab = chain("base");
        lab.add("new", block_core::MemStorage::of("lab:new", Image::default()));
        let rule =
            if options.contains(&"-B") { Shows::NothingOrOverParent } else { Shows::NothingOrNew };
        let line =
            [&["convert", "-q", "-O", "vdi"][..], options, &parents, &["lab:top", "lab:new"]];
        Cut {
            line: &line.concat(),
            lab,
            written: &[("new", rule)],
            read: &["top", "child", "base"],
            raw: &[],
        }
        .everywhere();
    }
}

/// A raw disk with old content, as long as the images of a chain.
fn with_raw_target() -> Lab {
    let lab = chain("base");
    block_on(async {
        lab.create("raw", "raw", 8 * BLOCK + BLOCK / 2, "", None).await;
        fill(&lab, "raw", &["raw"], &[0, 2, 3, 4, 7], 0xA0).await;
    });
    lab
}

const TO_RAW: [&str; 12] = [
    "convert",
    "-q",
    "-n",
    "-C",
    "-O",
    "raw",
    "--parent",
    "lab:child",
    "--parent",
    "lab:base",
    "lab:top",
    "lab:raw",
];

/// Data goes from file to file there without passing through the program.
#[test]
fn converting_into_a_raw_disk_is_whole_at_every_cut() {
    Cut {
        line: &TO_RAW,
        lab: with_raw_target(),
        written: &[("raw", Shows::OldOrNew)],
        read: &["top", "child", "base"],
        raw: &["raw"],
    }
    .everywhere();
}

#[test]
fn a_conversion_in_which_a_copy_fails_says_so_and_ends_well_when_run_again() {
    let made = Cut { line: &[], lab: with_raw_target(), written: &[], read: &[], raw: &[] };
    let names = ["raw", "top", "child", "base"];
    let wanted = block_on(shown(&made.lab, "top", &[])).unwrap();
    let mut failed = 0;
    for fault in [
        Fault::Fail(ErrorKind::NoSpace),
        Fault::Torn(Half::First, ErrorKind::Io),
        Fault::Torn(Half::Second, ErrorKind::Io),
        Fault::Landed(ErrorKind::Io),
    ] {
        for nth in 0.. {
            let live = Lab::new();
            let world = World::new();
            let disk = |name| world.disk(&uri(name), made.image(name));
            names.iter().skip(1).for_each(|name| live.add(name, disk(name)));
            let faults = FaultStorage::new(disk("raw"));
            live.add("raw", faults.clone());
            faults.add(Rule::once(&[OpKind::Copy], fault).after(nth));
            let place = format!("{fault:?} of copy {nth}");
            let succeeded = live.command(&TO_RAW);
            if faults.injected() == 0 {
                assert!(succeeded && nth > 1, "{place}: {nth} copies");
                break;
            }
            assert!(!succeeded, "{place}: success");
            failed += 1;
            assert!(live.command(&TO_RAW), "{place}: run again, it fails");
            let raw = block_on(shown(&live, "raw", &["raw"])).unwrap();
            assert!(raw == wanted, "{place}: run again, it shows something else");
        }
    }
    assert!(failed > 8, "{failed} copies failed");
}

#[test]
fn converting_into_an_image_that_is_there_is_whole_at_every_cut() {
    let lab = chain("base");
    block_on(async {
        lab.create("new", "vdi", 9 * BLOCK - BLOCK / 2, NEW, None).await;
        fill(&lab, "new", &[], &[8 - 1, 4, 2, 0], 0xA0).await;
    });
    let parents = ["--parent", "lab:child", "--parent", "lab:base"];
    let line = [&["convert", "-q", "-n", "-O", "vdi"][..], &parents, &["lab:top", "lab:new"]];
    Cut {
        line: &line.concat(),
        lab,
        written: &[("new", Shows::OldOrNew)],
        read: &["top", "child", "base"],
        raw: &[],
    }
    .everywhere();
}
