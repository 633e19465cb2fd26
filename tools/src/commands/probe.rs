//! `probe`: what a file could be, and the evidence.

use block_core::probe::{Decision, Evidence, ProbeReport};

use crate::args::{ImageSpec, NamingArgs, OutputFormat, ShareArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

#[derive(clap::Args, Debug)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    naming: NamingArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Show the formats that found nothing too, and the windows that were read
    #[arg(short = 'a', long)]
    all: bool,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    /// The file
    #[arg(value_name = "FILE")]
    file: String,
}

impl ProbeArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        self.naming.check()?;
        let spec = ImageSpec::parse(&self.file, self.naming.image_opts, None)?;
        cx.block_on(async {
            let how = OpenMode::shared(self.share);
            let storage = image::open_storage(cx, &spec, &how).await?;
            let failed = |error| Failure::open(&spec.shown, &error);
            let report = cx.registry.probe(&*storage).await.map_err(failed)?;
            match self.output {
                OutputFormat::Json => cx.console.json(&report)?,
                OutputFormat::Human => self.human(cx, &report)?,
            }
            Ok(match report.decision {
                Decision::Ambiguous | Decision::Broken => 1,
                _ => 0,
            })
        })
    }

    fn human(&self, cx: &Context, report: &ProbeReport) -> Result<()> {
        let line = |text: String| cx.console.line(text);
        line(format!("file: {} ({} bytes)", self.file, report.file_len))?;
        line(format!("verdict: {}", verdict(report)))?;
        for driver in report.drivers().iter().take(1) {
            line(match cx.registry.driver(driver) {
                Ok(_) => format!("opened by: {driver}"),
                Err(_) => format!("opened by: nothing here (no driver for {driver})"),
            })?;
        }
        for candidate in report.candidates.iter().filter(|c| self.all || c.score.value > 0) {
            let variant = candidate.variant.as_deref().map_or(String::new(), |v| format!(" ({v})"));
            line(format!("{:>4}  {}{variant}", candidate.score.value, candidate.id))?;
            for evidence in &candidate.evidence {
                line(format!("        {}", evidence_line(evidence)))?;
            }
        }
        for hint in &report.raw_hints {
            line(format!("inside: {} at {:#x} (weight {})", hint.id, hint.offset, hint.weight))?;
        }
        for relation in &report.relations {
            line(format!("{:?}: {} over {}", relation.kind, relation.outer, relation.inner))?;
        }
        if self.all {
            for window in &report.windows_read {
                line(format!("read: {} bytes at {:#x}", window.len, window.offset))?;
            }
        }
        for limit in &report.limits_hit {
            line(format!("limit: {limit}"))?;
        }
        Ok(())
    }
}

fn verdict(report: &ProbeReport) -> String {
    let selected = report.selected.as_deref().unwrap_or("");
    match report.decision {
        Decision::Selected => selected.to_owned(),
        Decision::Broken => format!("{selected}, broken or of an unknown version"),
        Decision::Ambiguous => "ambiguous: more than one format claims it".to_owned(),
        Decision::Raw => "raw: no format claims it".to_owned(),
        Decision::Empty => "empty".to_owned(),
    }
}

fn evidence_line(evidence: &Evidence) -> String {
    let verdict = if evidence.is_against() {
        format!(", wanted {}", evidence.expected)
    } else {
        format!(" = {}", evidence.expected)
    };
    format!(
        "{} at {}: {}{verdict}",
        evidence.code,
        evidence.place(),
        if evidence.found.is_empty() { "nothing".to_owned() } else { evidence.found_hex() }
    )
}
