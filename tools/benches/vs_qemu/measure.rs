//! Measurement of one command: wall time, processor time, peak memory.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// The cost of a run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Wall time in seconds.
    pub wall: f64,
    /// User and system time in seconds.
    pub cpu: f64,
    /// Peak resident set in KiB.
    pub rss: f64,
}

/// The cost and the output of a run.
pub struct Outcome {
    pub sample: Sample,
    pub stdout: String,
    pub stderr: String,
}

/// A command line: program and arguments.
pub type Words = Vec<String>;

/// Runs a command that must succeed.
pub fn run(words: &Words) -> Result<Outcome, String> {
    match attempt(words)? {
        (outcome, true) => Ok(outcome),
        (outcome, false) => Err(format!("{} failed: {}", words.join(" "), outcome.stderr)),
    }
}

/// Runs a command below a measuring process, because a parent of several children cannot tell their costs apart. Also
/// returns whether it succeeded.
pub fn attempt(words: &Words) -> Result<(Outcome, bool), String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(exe)
        .arg("--measure")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let numbers: Vec<f64> = stderr
        .lines()
        .last()
        .unwrap_or("")
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        [wall, cpu, rss] => {
            let outcome = Outcome {
                sample: Sample { wall: *wall, cpu: *cpu, rss: *rss },
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: stderr.into_owned(),
            };
            Ok((outcome, output.status.success()))
        }
        _ => Err(format!("{} failed: {stderr}", words.join(" "))),
    }
}

/// Runs the command in the measuring process, and prints the three numbers after its error output.
pub fn child(words: Words) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else { return ExitCode::FAILURE };
    let begin = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let wall = begin.elapsed().as_secs_f64();
    let (Ok(status), Ok(usage)) = (status, getrusage(UsageWho::RUSAGE_CHILDREN)) else {
        return ExitCode::FAILURE;
    };
    let seconds = |time: nix::sys::time::TimeVal| {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark")]
        let value = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        value
    };
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    eprintln!("\n{wall} {cpu} {}", usage.max_rss());
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
