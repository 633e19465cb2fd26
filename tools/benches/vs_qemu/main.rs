//! Runs our tool and stock `qemu-img` alternately on the same data, and compares their times.
//!
//! `cargo bench -p block-img --bench vs_qemu -- [--rounds N] [--seconds N] [--only TEXT] [--dir DIR] [--out DIR]`
//!
//! Every row is the median of N (default 7) interleaved rounds, or of more if together they take less than the given
//! seconds (default 10). A ratio is ours over theirs, so smaller is better. A missed goal is reported as beyond plain
//! calls if plain system calls on the same bytes miss it too. The results of both tools are compared before anything is
//! timed. `--out` keeps the table as JSON and as a picture.

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

/// Maximum factor on `--rounds` if rounds are short.
const MORE: usize = 5;

/// Pause of 2.3 s before a measured run. Two seconds after memory is freed, Linux returns it to the host of a virtual
/// machine, and the command that runs then takes twice as long. Because rounds last about as long, it would be the same
/// command each time.
const REST: Duration = Duration::from_millis(2300);

/// The command line's arguments.
struct Args {
    rounds: usize,
    /// Minimum time for a row, unless it reaches [`MORE`] times the rounds first.
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
            // `cargo bench` passes this to every benchmark.
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
                // A work that cannot be done here must not cost the other rows their numbers.
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
    // One run before measuring, so that no sample includes bringing data into memory.
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
                // The io_uring engine of stock `qemu-img` has been seen to crash at exit.
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
