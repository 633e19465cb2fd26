//! The compared works and their target ratios.

use std::fs;

use super::data::{Data, Source};
use super::measure::{Outcome, Words};

/// Describes a command's result as text that can be compared.
pub type Same = Box<dyn Fn(&Outcome) -> Result<String, String>>;

/// An unmeasured step before each run.
pub type Before = Box<dyn Fn() -> Result<(), String>>;

/// One row of the table.
pub struct Work {
    pub name: String,
    pub ours: Words,
    pub rivals: Vec<Words>,
    /// Plain system calls on the same bytes, without any format: the least that the machine needs. Copies are made by
    /// one thread, which uses the least processor time, and by two, which are faster.
    pub plain: Vec<Words>,
    /// Maximum ratios: wall time, processor time.
    pub targets: (f64, f64),
    /// Maximum peak resident set of our tool in MiB.
    pub rss_target: Option<f64>,
    /// Operations per run, for rows that count them. Otherwise 0.
    pub operations: u64,
    pub needs: Vec<Source>,
    /// Command that runs before each measured run. Memory that the host of a virtual machine has reclaimed costs the
    /// process that touches it first up to a second per GiB. This command pays that cost, and the guest keeps the
    /// memory until the measured run begins.
    pub unmeasured: Option<Words>,
    /// Factor on the minimum time of this row, for a goal close to what plain calls reach.
    pub longer: u32,
    pub before: Vec<Before>,
    pub same: Option<Same>,
}

fn words_of(program: &str, line: &str) -> Words {
    std::iter::once(program).chain(line.split_whitespace()).map(str::to_owned).collect()
}

fn ours(line: &str) -> Words {
    words_of(env!("CARGO_BIN_EXE_block-img"), line)
}

fn stock(line: &str) -> Words {
    words_of("qemu-img", line)
}

fn remove(path: &str) -> Before {
    let path = path.to_owned();
    Box::new(move || match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    })
}

/// Returns the rows of the project's table, in its order.
pub fn all(data: &Data) -> Vec<Work> {
    let mut all = converts(data);
    all.extend(metadata(data));
    all.extend(requests(data));
    all.extend(starts(data));
    all
}

fn converts(data: &Data) -> Vec<Work> {
    let (random, sparse, zeros, hole) = (data.random(), data.sparse(), data.zeros(), data.hole());
    let random_vdi = data.as_vdi(&random, "random.vdi");
    let sparse_vdi = data.as_vdi(&sparse, "sparse.vdi");
    let out = data.path("out");
    let row =
        |name: &str, from: &str, to: &str, source: &Source, extra: &str, is_full, wall, cpu| {
            let line = |mode: &str| {
                format!("convert {mode} {extra} -f {from} -O {to} {} {out}", source.arg())
            };
            let target = out.clone();
            let (original, from, to) = (source.arg(), from.to_owned(), to.to_owned());
            let same: Same = Box::new(move |_| {
                let status = std::process::Command::new("qemu-img")
                    .args(["compare", "-q", "-f", &from, "-F", &to, &original, &target])
                    .status()
                    .map_err(|e| e.to_string())?;
                if status.success() {
                    Ok("identical".into())
                } else {
                    Err(format!("compare: {status}"))
                }
            });
            Work {
                name: format!("convert {name}"),
                ours: ours(&line("")),
                rivals: vec![stock(&line("")), stock(&line("-m 16 -W"))],
                plain: plain_copies(source, &out, is_full, !extra.is_empty()),
                targets: (wall, cpu),
                rss_target: None,
                operations: 0,
                needs: vec![source.clone()],
                unmeasured: None,
                longer: 1,
                before: vec![remove(&out)],
                same: Some(same),
            }
        };
    // The other rows write too little, or run too long, for reclaimed memory to matter.
    let warm = |mut work: Work| {
        work.unmeasured = Some(ours(&format!("convert -f raw -O vdi {} {out}", random.arg())));
        work.needs.push(random.clone());
        work
    };
    vec![
        warm(row("raw→vdi, 1 GiB random", "raw", "vdi", &random, "", true, 0.75, 0.60)),
        warm(row("vdi→raw, 1 GiB random", "vdi", "raw", &random_vdi, "", true, 0.80, 0.70)),
        warm(row("vdi→vdi, 1 GiB random", "vdi", "vdi", &random_vdi, "", true, 0.65, 0.65)),
        row("raw→vdi, 8 GiB, 10 % in 64 KiB", "raw", "vdi", &sparse, "", false, 0.12, 0.12),
        warm(row("vdi→raw, the sparse one", "vdi", "raw", &sparse_vdi, "", false, 0.75, 0.70)),
        row("vdi→vdi, the sparse one", "vdi", "vdi", &sparse_vdi, "", false, 0.30, 0.30),
        warm(row("raw→raw, the sparse one", "raw", "raw", &sparse, "", false, 0.70, 0.60)),
        warm(row("raw→vdi, 2 GiB zeros", "raw", "vdi", &zeros, "", false, 0.70, 0.85)),
        row("raw→vdi, 8 GiB hole", "raw", "vdi", &hole, "", false, 0.40, 0.40),
        warm(row("raw→vdi, durable", "raw", "vdi", &random, "-t writeback", true, 0.70, 0.60)),
    ]
}

fn metadata(data: &Data) -> Vec<Work> {
    let huge = data.empty_vdi("huge.vdi", "64T");
    let large = data.empty_vdi("large.vdi", "1T");
    let large2 = data.empty_vdi("large2.vdi", "1T");
    let row = |name: &str, line: String, needs: &[Source], targets, rss_target| Work {
        name: name.into(),
        ours: ours(&line),
        rivals: vec![stock(&line)],
        plain: Vec::new(),
        targets,
        rss_target,
        operations: 0,
        needs: needs.to_vec(),
        unmeasured: None,
        longer: 1,
        before: Vec::new(),
        same: None,
    };
    let out = data.path("out.vdi");
    let mut create =
        row("create 64 TiB", format!("create -q -f vdi {out} 64T"), &[], (0.35, 0.35), Some(16.0));
    // Both tools write the same layout. Our default begins the map at 1 MiB, as VirtualBox does.
    create.before = vec![remove(&out)];
    let on = |command: &str, source: &Source| format!("{command} {}", source.arg());
    let one = std::slice::from_ref(&huge);
    let mut map = row("map 64 TiB, JSON", on("map --output=json", &huge), one, (0.01, 0.01), None);
    map.same = Some(Box::new(|outcome| Ok(outcome.stdout.trim().to_owned())));
    vec![
        create,
        row("info 64 TiB", on("info", &huge), one, (0.10, 0.10), Some(16.0)),
        row("check 64 TiB", on("check", &huge), one, (0.25, 0.25), Some(32.0)),
        map,
        row(
            "compare two empty 1 TiB",
            format!("compare {} {}", large.arg(), large2.arg()),
            &[large, large2],
            (0.05, 0.05),
            None,
        ),
    ]
}

fn requests(data: &Data) -> Vec<Work> {
    // A separate image, because writes to the converted one would change what the next run copies.
    let random_vdi = data.as_vdi(&data.random(), "requests.vdi");
    let mut all = Vec::new();
    // A step that is coprime to the number of blocks visits the whole disk in an order that no read-ahead follows.
    let mut row = |name: String, count: u64, line: String, engines: &[&str], targets| {
        let line = format!("bench -f vdi -c {count} {line} {}", random_vdi.arg());
        let rivals = engines
            .iter()
            .map(|engine| stock(&line.replacen("bench", &format!("bench {engine}"), 1)));
        all.push(Work {
            name: format!("bench {name}"),
            ours: ours(&line),
            rivals: rivals.collect(),
            plain: plain_requests(count, &line).unwrap_or_default(),
            targets,
            rss_target: None,
            operations: count,
            needs: vec![random_vdi.clone()],
            unmeasured: None,
            longer: 1,
            before: Vec::new(),
            same: None,
        });
    };
    let buffered = ["-i threads", "-i io_uring"];
    let direct = ["-i threads", "-n", "-i io_uring"];
    for depth in [1, 16, 64] {
        let line = format!("-d {depth} -s 4096 -S 37769216");
        row(format!("4 KiB reads, depth {depth}"), 60_000, line, &buffered, (0.55, 0.55));
    }
    row("64 KiB reads".into(), 20_000, "-d 1 -s 65536 -S 37814272".into(), &buffered, (0.60, 0.60));
    row("1 MiB reads".into(), 3_000, "-d 1 -s 1048576 -S 38797312".into(), &buffered, (0.95, 0.85));
    for (depth, wall) in [(1, 0.20), (16, 0.50), (64, 0.50)] {
        let line = format!("-w -d {depth} -s 4096 -S 37769216");
        row(format!("4 KiB overwrites, depth {depth}"), 40_000, line, &buffered, (wall, 0.30));
    }
    row(
        "1 MiB writes".into(),
        4_000,
        "-w -d 1 -s 1048576 -S 1048576".into(),
        &buffered,
        (0.90, 0.80),
    );
    let line = "-t none -d 64 -s 4096 -S 37769216".to_owned();
    row("4 KiB direct reads, depth 64".into(), 30_000, line, &direct, (1.00, 0.70));
    if let Some(direct) = all.last_mut() {
        direct.longer = 6;
    }
    all.push(allocating(data));
    all
}

/// Returns the command that runs this program to make plain system calls.
fn plain(line: &str) -> Option<Words> {
    let exe = std::env::current_exe().ok()?.to_string_lossy().into_owned();
    Some(words_of(&exe, &format!("--plain {line}")))
}

/// Returns plain copies by one thread and by two. As in our tool, space is preallocated if the source has no zeros, and
/// the result is flushed if it must be durable.
fn plain_copies(from: &Source, to: &str, is_full: bool, durable: bool) -> Vec<Words> {
    let room = if is_full { "room" } else { "" };
    let durable = if durable { "durable" } else { "" };
    let copy = |threads| plain(&format!("copy {threads} {} {to} {room} {durable}", from.arg()));
    (1..=2).filter_map(copy).collect()
}

/// Returns the plain system calls for a line of `bench`: one at a time through the page cache, or direct through a
/// ring, in small batches and in large ones.
fn plain_requests(count: u64, line: &str) -> Option<Vec<Words>> {
    let mut words = line.split_whitespace().rev();
    let file = words.next()?;
    let after = |option: &str| line.split_whitespace().skip_while(|word| *word != option).nth(1);
    let (mode, ways) = match (after("-t"), line.contains(" -w ")) {
        (Some(_), _) => {
            let depth = after("-d")?;
            ("ring", vec![format!("{depth} 8"), format!("{depth} 32")])
        }
        (None, true) => ("write", vec![String::new()]),
        (None, false) => ("read", vec![String::new()]),
    };
    let (size, step) = (after("-s")?, after("-S")?);
    ways.iter().map(|way| plain(&format!("{mode} {count} {size} {step} {file} {way}"))).collect()
}

/// Returns the row of small writes that each allocate a block.
fn allocating(data: &Data) -> Work {
    let image = data.path("new.vdi");
    let fresh = image.clone();
    let line = format!("bench -f vdi -w -c 2000 -d 1 -s 4096 -S 1048576 {image}");
    Work {
        name: "bench 4 KiB writes into new blocks".into(),
        ours: ours(&line),
        rivals: vec![stock(&line)],
        plain: Vec::new(),
        targets: (0.05, 0.05),
        rss_target: None,
        operations: 2_000,
        needs: Vec::new(),
        unmeasured: None,
        longer: 1,
        before: vec![
            remove(&image),
            Box::new(move || {
                let status = std::process::Command::new("qemu-img")
                    .args(["create", "-q", "-f", "vdi", &fresh, "4G"])
                    .status()
                    .map_err(|e| e.to_string())?;
                if status.success() { Ok(()) } else { Err(format!("create: {status}")) }
            }),
        ],
        same: None,
    }
}

fn starts(data: &Data) -> Vec<Work> {
    let small = data.empty_vdi("small.vdi", "10M");
    let row = |name: &str, line: String, needs: &[Source]| Work {
        name: format!("start {name}"),
        ours: ours(&line),
        rivals: vec![stock(&line)],
        plain: Vec::new(),
        targets: (0.40, 0.40),
        rss_target: Some(8.0),
        operations: 0,
        needs: needs.to_vec(),
        unmeasured: None,
        longer: 1,
        before: Vec::new(),
        same: None,
    };
    let info = format!("info {}", small.arg());
    vec![row("--version", "--version".into(), &[]), row("info", info, &[small])]
}
