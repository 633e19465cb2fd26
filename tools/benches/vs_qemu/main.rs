//! Runs our tool and stock `qemu-img` alternately on the same data, and says how they compare.
//!
//! `cargo bench -p block-img --bench vs_qemu -- [--rounds N] [--seconds N] [--only TEXT] [--dir DIR] [--out DIR]`
//!
//! Every row is the median of N (default 7) interleaved rounds, or of more where they do not take so many
//! seconds (default 10) together; a ratio is ours over theirs, smaller is better. A goal that plain system calls on
//! the same bytes do not reach either is said to be beyond them. Results of both tools are compared before anything
//! is timed. `--out` keeps the table as JSON and as a picture.

mod data;
mod hostile;
mod measure;
mod plain;
mod report;
mod works;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use report::{Row, Table};
use works::Work;

/// At most this many times as many rounds, where they are short.
const MORE: usize = 5;

/// Linux gives what has been freed back to the host of a virtual machine two seconds later, and whoever runs then
/// takes twice as long. Rounds last about as long, so that it would be the same one each time.
const REST: Duration = Duration::from_millis(2300);

/// What the command line asks for.
struct Args {
    rounds: usize,
    /// How long a row goes on at least, unless it has had many more rounds.
    enough: Duration,
    only: Vec<String>,
    dir: PathBuf,
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--measure") {
        return measure::child(words.skip(1).collect());
    }
    if words.peek().is_some_and(|word| word == "--plain") {
        return plain::child(&words.skip(1).collect::<Vec<_>>());
    }
    let mut args = Args {
        rounds: 7,
        enough: Duration::from_secs(10),
        only: Vec::new(),
        dir: std::env::temp_dir().join("vs_qemu"),
        out: None,
    };
    while let Some(word) = words.next() {
        let value = |words: &mut dyn Iterator<Item = String>| words.next().unwrap_or_default();
        match word.as_str() {
            "--rounds" => args.rounds = value(&mut words).parse().unwrap_or(7).max(1),
            "--seconds" => {
                args.enough = Duration::from_secs(value(&mut words).parse().unwrap_or(10));
            }
            "--only" => args.only.push(value(&mut words)),
            "--dir" => args.dir = value(&mut words).into(),
            "--out" => args.out = Some(value(&mut words).into()),
            // What `cargo bench` passes to every benchmark.
            "--bench" => {}
            _ => {
                eprintln!("unknown argument {word}; see the first lines of {}", file!());
                return ExitCode::FAILURE;
            }
        }
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs_qemu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if std::process::Command::new("qemu-img").arg("--version").output().is_err() {
        println!("vs_qemu: skipped: qemu-img is not on this machine");
        return Ok(());
    }
    std::fs::create_dir_all(&args.dir).map_err(|e| e.to_string())?;
    let data = data::Data::new(args.dir.clone());
    let mut table = Table::new(args.rounds);
    let mut failed = 0;
    println!("{}", Table::heading());
    for work in works::all(&data) {
        let wanted = args.only.is_empty() || args.only.iter().any(|text| work.name.contains(text));
        if wanted {
            match compare(&work, args) {
                Ok(row) => {
                    println!("{row}");
                    table.rows.push(row);
                }
                // One work that cannot be done here must not cost the others their numbers.
                Err(error) => {
                    eprintln!("{}: not measured: {error}", work.name);
                    failed += 1;
                }
            }
        }
    }
    println!("{}", table.summary());
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text));
    let hostile = hostile::compare(&args.dir, args.rounds, wanted)?;
    println!("{}", hostile::summary(&hostile));
    if let Some(out) = &args.out {
        table.keep(out).map_err(|e| format!("{}: {e}", out.display()))?;
        hostile::keep(&hostile, out).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    match failed {
        0 => Ok(()),
        rows => Err(format!("{rows} rows were not measured")),
    }
}

fn compare(work: &Work, args: &Args) -> Result<Row, String> {
    for file in &work.needs {
        file.make()?;
    }
    let fresh = || work.before.iter().try_for_each(|step| step());
    if let Some(same) = &work.same {
        let mut results = Vec::new();
        for command in std::iter::once(&work.ours).chain(&work.rivals).take(2) {
            fresh()?;
            results.push(same(&measure::run(command)?)?);
        }
        if results.windows(2).any(|pair| pair.first() != pair.last()) {
            return Err(format!("{}: the results differ: {results:?}", work.name));
        }
    }
    // Nobody pays for what is not in memory yet.
    if work.same.is_none() {
        fresh()?;
        measure::run(&work.ours)?;
        fresh()?;
    }
    let commands: Vec<_> =
        std::iter::once(&work.ours).chain(&work.rivals).chain(&work.plain).collect();
    let mut samples = vec![Vec::new(); commands.len()];
    let started = Instant::now();
    let enough = args.enough * work.longer;
    for round in 0..args.rounds * MORE {
        if round >= args.rounds && started.elapsed() > enough {
            break;
        }
        for (command, samples) in commands.iter().zip(&mut samples) {
            let prepare = || {
                fresh()?;
                if let Some(unmeasured) = &work.unmeasured {
                    measure::run(unmeasured)?;
                    std::thread::sleep(REST);
                    fresh()?;
                }
                Ok::<_, String>(())
            };
            prepare()?;
            let outcome = match measure::run(command) {
                // Stock's io_uring engine has been seen to die at its end.
                Err(error) if work.rivals.contains(command) => {
                    eprintln!("{}: once more: {error}", work.name);
                    prepare()?;
                    measure::run(command)?
                }
                outcome => outcome?,
            };
            samples.push(outcome.sample);
        }
    }
    let mut samples = samples.into_iter();
    let ours = samples.next().unwrap_or_default();
    let theirs: Vec<_> = samples.by_ref().take(work.rivals.len()).collect();
    Ok(Row::new(work, &ours, &theirs, &samples.collect::<Vec<_>>()))
}
