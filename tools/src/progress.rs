//! Progress of a long operation, for terminals, scripts and programs.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block_core::size;
use serde_json::json;

use crate::screen;
use block_jobs::JobProgress;

/// The options about progress that several commands have.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct ProgressArgs {
    /// Show progress on standard output; 'json': a JSON object a line
    #[arg(
        short = 'p',
        long = "progress",
        value_name = "STYLE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "percent",
        value_parser = ["percent", "json"]
    )]
    pub progress: Option<String>,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

impl ProgressArgs {
    /// Starts the progress of one operation over `total` bytes.
    pub fn start(&self, what: &'static str, total: u64) -> Progress {
        let style = match self.progress.as_deref() {
            _ if self.quiet => Style::Silent,
            Some("json") => Style::Json,
            Some(_) => Style::Percent,
            None if io::stderr().is_terminal() => Style::Bar,
            None => Style::Silent,
        };
        let progress = Progress {
            what,
            style,
            total: AtomicU64::new(total),
            done: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            expected: AtomicU64::new(total),
            started: Instant::now(),
            shown: Mutex::new(Instant::now()),
            told: Mutex::new(0),
        };
        progress.show();
        progress
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Not at all.
    Silent,
    /// `    (12.34/100%)` and a carriage return on standard output: scripts match it.
    Percent,
    /// A JSON object a line on standard output.
    Json,
    /// A line with bar, rate and remaining time on a terminal.
    Bar,
}

/// Counts bytes of one operation and shows the progress periodically.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    style: Style,
    total: AtomicU64,
    done: AtomicU64,
    skipped: AtomicU64,
    /// Bytes that a job has told it has to move in all; what it found since that it need not move is not in it.
    expected: AtomicU64,
    started: Instant,
    shown: Mutex<Instant>,
    /// Bytes that the last printed percentage stands for.
    told: Mutex<u64>,
}

impl JobProgress for Progress {
    fn total(&self, bytes: u64) {
        let before = self.expected.swap(bytes, Ordering::Relaxed);
        match before.checked_sub(bytes) {
            Some(0) => {}
            Some(fewer) => self.skip(fewer),
            // More than the operation was begun with: all of it is to be done.
            None => _ = self.total.fetch_add(bytes - before, Ordering::Relaxed),
        }
    }

    fn done(&self, bytes: u64) {
        self.advance(bytes);
    }
}

const INTERVAL: Duration = Duration::from_millis(100);

/// Granularity in bytes of the steps between two percentages. A step is the first multiple of this above a hundredth of
/// the total, as in `qemu-img`.
const STEP: u64 = 2 << 20;

impl Progress {
    /// Adds `bytes` to the work done.
    pub fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.show_steps(before.saturating_add(bytes));
        self.show_if_due();
    }

    /// Adds `bytes` that were done without being read or written.
    fn skip(&self, bytes: u64) {
        self.skipped.fetch_add(bytes, Ordering::Relaxed);
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.show_if_due();
    }

    /// Sets the bytes done and their total.
    pub fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.show_steps(done);
        self.show_if_due();
    }

    /// Shows 100%, unless the last step has, and leaves the line open for [`close`](Self::close).
    pub fn complete(&self) {
        let total = self.total.load(Ordering::Relaxed);
        self.done.store(total, Ordering::Relaxed);
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            Style::Percent if told < total => self.show(),
            Style::Json => self.show(),
            Style::Bar => self.clear(),
            Style::Silent | Style::Percent => {}
        }
    }

    /// Ends the line of percentages.
    pub fn close(&self) {
        if self.style == Style::Percent {
            print("\n");
        }
    }

    /// Shows that everything is done, and ends the line.
    pub fn finish(&self) {
        self.done.store(self.total.load(Ordering::Relaxed), Ordering::Relaxed);
        match self.style {
            Style::Silent => {}
            Style::Percent => {
                self.show();
                let _ = io::stdout().write_all(b"\n");
            }
            Style::Json => self.show(),
            Style::Bar => self.clear(),
        }
    }

    /// Prints one line to standard error, to answer a signal.
    pub fn report_once(&self) {
        if self.style == Style::Silent || self.style == Style::Bar {
            let _ = writeln!(io::stderr(), "    ({:.2}/100%)", self.percent());
        }
    }

    /// Erases the bar from the terminal.
    pub fn clear(&self) {
        if self.style == Style::Bar {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }

    /// Prints a percentage for each step up to `done` bytes that has not been printed.
    fn show_steps(&self, done: u64) {
        if self.style != Style::Percent {
            return;
        }
        let total = self.total.load(Ordering::Relaxed);
        // As in stock `qemu-img`, whose comparison reports half as often as its copy.
        let lines = if self.what == "compare" { 50 } else { 100 };
        let step = (total / lines / STEP + 1) * STEP;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        while *told < total {
            let next = (*told / step * step).saturating_add(step).min(total);
            if next > done {
                break;
            }
            *told = next;
            print(&percent_line(next as f64 * 100.0 / total as f64));
        }
    }

    fn show_if_due(&self) {
        if matches!(self.style, Style::Silent | Style::Percent) {
            return;
        }
        // A thread that finds the lock taken skips: the thread that holds it prints.
        let Ok(mut shown) = self.shown.try_lock() else { return };
        if shown.elapsed() < INTERVAL {
            return;
        }
        *shown = Instant::now();
        drop(shown);
        self.show();
    }

    fn show(&self) {
        let _turn = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match self.style {
            Style::Silent => return,
            Style::Percent => percent_line(self.percent()),
            Style::Json => format!("{}\n", self.json()),
            Style::Bar => {
                let mut stderr = io::stderr().lock();
                let _ = write!(stderr, "\r\x1b[K{}", self.bar(screen::message_width()));
                let _ = stderr.flush();
                return;
            }
        };
        print(&line);
    }

    fn percent(&self) -> f64 {
        let total = self.total.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed).min(total);
        match total {
            0 => 100.0,
            _ => done as f64 * 100.0 / total as f64,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "operation": self.what,
            "done": self.done.load(Ordering::Relaxed),
            "total": self.total.load(Ordering::Relaxed),
            "skipped": self.skipped.load(Ordering::Relaxed),
            "percent": (self.percent() * 100.0).round() / 100.0,
            "seconds": (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }

    /// Returns `convert  42.00% [####------] 1.2 GiB of 3 GiB, 512 MiB/s, 3 s left, 1 GiB of zeros skipped` in fewer
    /// than `columns` characters, because a line that wraps cannot be erased.
    fn bar(&self, columns: usize) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let skipped = self.skipped.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let percent = self.percent();
        let moved = done.saturating_sub(skipped);
        let rate = if seconds > 0.0 { (moved as f64 / seconds) as u64 } else { 0 };
        let head = format!("{} {percent:6.2}%", self.what);
        let mut line =
            format!(" {} of {}, {}/s", size::human(done), size::human(total), size::human(rate));
        let room = columns.saturating_sub(1);
        let mut add = |forms: &[String]| {
            let left = room.saturating_sub(head.len() + line.len());
            if let Some(form) = forms.iter().find(|form| form.len() <= left) {
                line.push_str(form);
            }
        };
        if done > 0 && seconds > 1.0 {
            let left = seconds * total.saturating_sub(done) as f64 / done as f64;
            add(&[format!(", {} left", duration(left))]);
        }
        if skipped > 0 {
            let zeros = size::human(skipped);
            add(&[format!(", {zeros} of zeros skipped"), format!(", {zeros} zeros")]);
        }
        let cells = room.saturating_sub(head.len() + line.len() + " []".len()).min(20);
        let graph = match cells {
            0..5 => String::new(),
            _ => {
                let filled = ((percent / 100.0 * cells as f64) as usize).min(cells);
                format!(" [{}{}]", "#".repeat(filled), "-".repeat(cells - filled))
            }
        };
        format!("{head}{graph}{line}").chars().take(room).collect()
    }
}

fn percent_line(percent: f64) -> String {
    format!("    ({percent:.2}/100%)\r")
}

fn print(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(line.as_bytes());
    let _ = stdout.flush();
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_the_terminal() {
        let progress = Progress {
            what: "convert",
            style: Style::Silent,
            total: AtomicU64::new(20 << 30),
            done: AtomicU64::new(5 << 30),
            skipped: AtomicU64::new(3 << 30),
            expected: AtomicU64::new(17 << 30),
            started: Instant::now().checked_sub(Duration::from_secs(100)).unwrap(),
            shown: Mutex::new(Instant::now()),
            told: Mutex::new(0),
        };
        let text = "5 GiB of 20 GiB, 20.5 MiB/s, 5:00 min left, 3 GiB of zeros skipped";
        assert_eq!(progress.bar(200), format!("convert  25.00% [#####---------------] {text}"));
        assert_eq!(progress.bar(95), format!("convert  25.00% [##-------] {text}"));
        assert_eq!(progress.bar(84), format!("convert  25.00% {text}"));
        assert!(progress.bar(80).ends_with(" left, 3 GiB zeros"), "{}", progress.bar(80));
        for columns in 1..100 {
            assert!(progress.bar(columns).len() < columns, "{columns}");
        }
    }
}
