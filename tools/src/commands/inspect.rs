//! `inspect`: whether a file is safe to use. It opens no other file that the file names.

use block_core::size;
use block_inspect::{
    Code, InspectOptions, InspectReport, Partition, Policy, Verdict, inspect, inspect_deep,
};

use crate::args::{ImageSpec, OutputFormat, ShareArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

/// A named policy.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum Origin {
    Untrusted,
    Trusted,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit code: 0 accept, 1 warn, 2 refuse (also when the file could not be inspected)."
)]
pub(crate) struct InspectArgs {
    /// The format the file is said to have
    #[arg(short = 'f', long, value_name = "FMT")]
    format: Option<String>,
    #[command(flatten)]
    share: ShareArgs,
    /// Where the file comes from: anyone (untrusted), or somebody who may name other files and ask for large disks (trusted)
    #[arg(long, value_name = "POLICY", default_value = "untrusted", conflicts_with = "trusted")]
    policy: Origin,
    /// The same as --policy trusted
    #[arg(long)]
    trusted: bool,
    /// Do not hold a finding of this code against the file
    #[arg(long, value_name = "CODE")]
    accept: Vec<String>,
    /// Warn of a finding of this code, whatever the policy makes of it
    #[arg(long, value_name = "CODE")]
    warn: Vec<String>,
    /// Refuse the file for a finding of this code
    #[arg(long, value_name = "CODE")]
    refuse: Vec<String>,
    /// Inspect the guest's disk inside too
    #[arg(long)]
    deep: bool,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    /// The file
    #[arg(value_name = "FILE")]
    file: String,
}

/// Exit status for findings to read before the file is used.
const WARNED: u8 = 1;
/// Exit status for a file that must not be used.
const REFUSED: u8 = 2;

impl InspectArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        // A file that could not be inspected must not be used. A script that checks the exit code then stays on the
        // safe side.
        self.judge(cx).map_err(|failure| match failure.status {
            0 => failure,
            _ => failure.status(REFUSED),
        })
    }

    fn policy(&self) -> Result<Policy> {
        let mut policy = match (self.policy, self.trusted) {
            (Origin::Untrusted, false) => Policy::untrusted(),
            _ => Policy::trusted(),
        };
        let overrides = [
            (&self.accept, Verdict::Accept),
            (&self.warn, Verdict::Warn),
            (&self.refuse, Verdict::Refuse),
        ];
        for (codes, verdict) in overrides {
            for code in codes {
                policy = policy.with(code.parse::<Code>().map_err(Failure::from)?, verdict);
            }
        }
        Ok(policy)
    }

    fn judge(self, cx: &Context) -> Result<u8> {
        let policy = self.policy()?;
        let mut options = InspectOptions::new(policy);
        options.declared.clone_from(&self.format);
        let spec = ImageSpec::plain(&self.file, None);
        cx.block_on(async {
            let how = OpenMode::shared(self.share);
            let storage = image::open_storage(cx, &spec, &how).await?;
            let failed = |error| Failure::open(&spec.shown, &error);
            let report = if self.deep {
                inspect_deep(storage, &options, &cx.registry).await
            } else {
                inspect(&*storage, &options, &cx.registry).await
            };
            let report = report.map_err(failed)?;
            match self.output {
                OutputFormat::Json => cx.console.json(&report)?,
                OutputFormat::Human => human(cx, &report, "")?,
            }
            Ok(match report.verdict {
                Verdict::Refuse => REFUSED,
                Verdict::Warn => WARNED,
                Verdict::Accept => 0,
            })
        })
    }
}

/// Returns a line about a partition, with its position in bytes, as `offset=` and `dd skip=` expect it.
pub(super) fn partition_line(partition: &Partition) -> String {
    let name = match partition.name.as_str() {
        "" => String::new(),
        name => format!(", named '{name}'"),
    };
    format!(
        "partition {}: at {} ({:#x}), {} ({} bytes), {}{name}",
        partition.number,
        partition.start,
        partition.start,
        size::human(partition.length),
        partition.length,
        partition.kind,
    )
}

fn human(cx: &Context, report: &InspectReport, indent: &str) -> Result<()> {
    let line = |text: String| cx.console.line(format_args!("{indent}{text}"));
    let format = report.format.as_deref().unwrap_or("nothing that can be named");
    let variant = report.variant.as_deref().map_or(String::new(), |v| format!(" ({v})"));
    line(format!("file: {}", report.uri))?;
    line(format!("what it is: {format}{variant}"))?;
    line(format!("file length: {} ({} bytes)", size::human(report.file_len), report.file_len))?;
    if let Some(virtual_size) = report.virtual_size {
        line(format!("states a disk of: {} ({virtual_size} bytes)", size::human(virtual_size)))?;
    }
    line(format!("verdict: {}", verdict(report.verdict)))?;
    for finding in &report.findings {
        let place = match finding.place().as_str() {
            "" => String::new(),
            place => format!(" at {place}"),
        };
        line(format!(
            "  {} [{}]{place}: {}",
            format!("{:?}", finding.severity).to_lowercase(),
            finding.code,
            finding.message
        ))?;
    }
    for partition in &report.partitions {
        line(partition_line(partition))?;
    }
    for limit in &report.limits_hit {
        line(format!("  not looked at: {limit}"))?;
    }
    if let Some(guest) = &report.guest {
        line("the guest's disk:".to_owned())?;
        human(cx, guest, &format!("{indent}  "))?;
    }
    Ok(())
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "nothing speaks against using it",
        Verdict::Warn => "use it after reading the findings",
        Verdict::Refuse => "do not use it",
    }
}
