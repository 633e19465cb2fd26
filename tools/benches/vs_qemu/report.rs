//! The table of results, for the terminal, as JSON and as a picture.

use std::fmt;
use std::path::Path;

use serde_json::json;

use super::measure::Sample;
use super::works::Work;

/// All rows of one run.
pub struct Table {
    pub rows: Vec<Row>,
    rounds: usize,
}

/// The measurements of one work.
pub struct Row {
    name: String,
    ours: Sample,
    /// Median of the rival's best mode, chosen separately for wall and processor time.
    theirs: Sample,
    wall: f64,
    cpu: f64,
    /// First and third quartile of the wall-time ratios of the rounds.
    spread: (f64, f64),
    /// Ratios of wall and processor time of plain system calls on the same bytes, for each way of making them.
    plain: Vec<(f64, f64)>,
    targets: (f64, f64),
    rss_target: Option<f64>,
    operations: u64,
    rounds: usize,
    commands: Vec<String>,
}

impl Row {
    pub fn new(
        work: &Work,
        ours: &[Sample],
        theirs: &[Vec<Sample>],
        plain: &[Vec<Sample>],
    ) -> Self {
        let (wall, cpu) = (|s: &Sample| s.wall, |s: &Sample| s.cpu);
        let fastest = best(theirs, wall);
        let cheapest = best(theirs, cpu);
        Self {
            name: work.name.clone(),
            wall: ratio(ours, fastest, wall, 0.5),
            cpu: ratio(ours, cheapest, cpu, 0.5),
            spread: (ratio(ours, fastest, wall, 0.25), ratio(ours, fastest, wall, 0.75)),
            plain: plain
                .iter()
                .map(|way| (ratio(way, fastest, wall, 0.5), ratio(way, cheapest, cpu, 0.5)))
                .collect(),
            ours: Sample {
                wall: median(ours, wall),
                cpu: median(ours, cpu),
                rss: median(ours, |s| s.rss),
            },
            theirs: Sample {
                wall: median(fastest, wall),
                cpu: median(cheapest, cpu),
                rss: median(best(theirs, |s| s.rss), |s| s.rss),
            },
            targets: work.targets,
            rss_target: work.rss_target,
            operations: work.operations,
            rounds: ours.len(),
            commands: std::iter::once(&work.ours)
                .chain(&work.rivals)
                .chain(&work.plain)
                .map(|words| tidy(words))
                .collect(),
        }
    }

    fn is_reached(&self) -> bool {
        let memory = self.rss_target.is_none_or(|limit| self.ours.rss / 1024.0 <= limit);
        self.wall <= self.targets.0 && self.cpu <= self.targets.1 && memory
    }

    /// Whether plain system calls were measured and all missed the goals. No format can reach them then.
    fn is_beyond_plain_calls(&self) -> bool {
        let reaches = |(wall, cpu): &(f64, f64)| *wall <= self.targets.0 && *cpu <= self.targets.1;
        !self.plain.is_empty() && !self.plain.iter().any(reaches)
    }

    fn verdict(&self) -> &'static str {
        match (self.is_reached(), self.is_beyond_plain_calls()) {
            (true, _) => "reached",
            (false, true) => "beyond plain calls",
            (false, false) => "MISSED",
        }
    }
}

fn median(samples: &[Sample], pick: fn(&Sample) -> f64) -> f64 {
    quantile(samples.iter().map(pick).collect(), 0.5)
}

/// Returns the samples of the rival's mode with the smallest median.
fn best(theirs: &[Vec<Sample>], pick: fn(&Sample) -> f64) -> &[Sample] {
    let best = theirs.iter().min_by(|a, b| median(a, pick).total_cmp(&median(b, pick)));
    best.map(Vec::as_slice).unwrap_or_default()
}

/// Returns a quantile of the ratios of samples from the same round.
fn ratio(ours: &[Sample], theirs: &[Sample], pick: fn(&Sample) -> f64, at: f64) -> f64 {
    quantile(ours.iter().zip(theirs).map(|(a, b)| pick(a) / pick(b)).collect(), at)
}

/// Returns a command without the directories of the machine it ran on.
fn tidy(words: &[String]) -> String {
    let short = |word: &String| match word.rsplit_once('/') {
        Some((_, name)) => name.to_owned(),
        None => word.clone(),
    };
    words.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// Returns the value at quantile `at` (0 to 1).
pub fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index among a handful of rounds"
    )]
    let index = (values.len().saturating_sub(1) as f64 * at).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<38} {:>6.3} ({:.2}–{:.2}) ≤ {:<5} {:>6.3} ≤ {:<5} {:>9.4} {:>9.4} {:>7.1} {:>7.1}  {}",
            self.name,
            self.wall,
            self.spread.0,
            self.spread.1,
            self.targets.0,
            self.cpu,
            self.targets.1,
            self.ours.wall,
            self.theirs.wall,
            self.ours.rss / 1024.0,
            self.theirs.rss / 1024.0,
            self.verdict(),
        )?;
        for (index, (wall, cpu)) in self.plain.iter().enumerate() {
            write!(f, "{} {wall:.3}, {cpu:.3}", if index == 0 { "  plain calls" } else { ";" })?;
        }
        Ok(())
    }
}

impl Table {
    pub fn new(rounds: usize) -> Self {
        Self { rows: Vec::new(), rounds }
    }

    pub fn heading() -> String {
        format!(
            "{:<38} {:>6} {:>11} {:>7} {:>6} {:>7} {:>9} {:>9} {:>7} {:>7}",
            "work (ours ÷ theirs)",
            "wall",
            "spread",
            "goal",
            "cpu",
            "goal",
            "ours s",
            "theirs s",
            "MiB",
            "theirs"
        )
    }

    pub fn summary(&self) -> String {
        let reached = self.rows.iter().filter(|row| row.is_reached()).count();
        let missed = self.rows.iter().filter(|row| row.verdict() == "MISSED").count();
        format!(
            "{reached} of {} rows reached, {missed} missed, and the others beyond plain system calls; {} rounds at least",
            self.rows.len(),
            self.rounds
        )
    }

    /// Writes `vs_qemu.json` and `vs_qemu.svg` into `dir`.
    pub fn keep(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let told = |program: &str, argument: &str| {
            let output = std::process::Command::new(program).arg(argument).output();
            let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            text.unwrap_or_default().lines().next().unwrap_or("").trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let json = json!({
            "date": told("date", "-uI"),
            "machine": format!("{} cores, kernel {}", cores, told("uname", "-r")),
            "rival": told("qemu-img", "--version"),
            "rounds": self.rounds,
            "rows": rows,
        });
        std::fs::write(dir.join("vs_qemu.json"), format!("{json:#}\n"))?;
        std::fs::write(dir.join("vs_qemu.svg"), self.svg())
    }

    /// Draws bars of ours over theirs, for wall and processor time, with a mark at the goal and a line at 1.
    fn svg(&self) -> String {
        const LEFT: f64 = 300.0;
        const SCALE: f64 = 360.0;
        let bar_end = |ratio: f64| LEFT + ratio.min(1.2) * SCALE;
        let height = self.rows.len() * 34 + 60;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"800\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\">block-img ÷ qemu-img: time taken, shorter is \
             better</text>\n<text x=\"10\" y=\"38\" fill=\"#555\">upper bar wall, lower bar CPU; the \
             mark is the goal, the line is equal speed</text>\n"
        );
        for (index, row) in self.rows.iter().enumerate() {
            let y = index * 34 + 50;
            svg += &format!("<text x=\"10\" y=\"{}\">{}</text>\n", y + 18, row.name);
            for (offset, ratio, goal, colour) in
                [(3, row.wall, row.targets.0, "#2a7ab9"), (15, row.cpu, row.targets.1, "#7fb3d9")]
            {
                svg += &format!(
                    "<rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"10\" fill=\"{colour}\"/>\
                     <text x=\"{:.1}\" y=\"{}\" font-size=\"10\">{ratio:.2}</text>\
                     <rect x=\"{:.1}\" y=\"{}\" width=\"2\" height=\"12\" fill=\"#c33\"/>\n",
                    y + offset,
                    bar_end(ratio) - LEFT,
                    bar_end(ratio) + 4.0,
                    y + offset + 9,
                    bar_end(goal),
                    y + offset - 1,
                );
            }
        }
        let line = bar_end(1.0);
        svg += &format!(
            "<line x1=\"{line}\" y1=\"46\" x2=\"{line}\" y2=\"{}\" stroke=\"#999\"/>\n</svg>\n",
            height - 10
        );
        svg
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let sample = |s: &Sample| json!({ "wall_s": s.wall, "cpu_s": s.cpu, "rss_kib": s.rss });
        json!({
            "work": self.name,
            "wall_ratio": self.wall,
            "wall_ratio_quartiles": [self.spread.0, self.spread.1],
            "cpu_ratio": self.cpu,
            "wall_goal": self.targets.0,
            "cpu_goal": self.targets.1,
            "rss_goal_mib": self.rss_target,
            "plain_calls_ratios": self.plain.iter().map(|(wall, cpu)| [wall, cpu]).collect::<Vec<_>>(),
            "verdict": self.verdict(),
            "rounds": self.rounds,
            "operations": self.operations,
            "ours": sample(&self.ours),
            "theirs_best": sample(&self.theirs),
            "commands": self.commands,
        })
    }
}
