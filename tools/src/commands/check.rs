//! `check`: checks whether an image is consistent, and repairs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use block_core::{
    BlockDriver, CheckMode, CheckReport, CreateRequest, ErrorKind, LostHeader, OpenContext,
    Options, Severity, Storage,
};
use serde_json::{Map, Value, json};

use super::options;

use crate::args::{AllowArgs, Cache, ImageSpec, OutputFormat, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};

#[derive(clap::Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Repair: 'leaks' gives unused space back, 'all' repairs all that loses no data
    #[arg(short = 'r', long, value_name = "WHAT", value_parser = ["leaks", "all"])]
    repair: Option<String>,
    /// What is known of an image whose header is lost: size=SIZE, and the options it was created with. Shows the
    /// header that fits the map; with '-r all' writes it
    #[arg(long, value_name = "OPTIONS", conflicts_with = "force_share")]
    assume: Option<String>,
    /// Cache mode
    #[arg(short = 'T', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

/// Maximum number of findings of one kind that are printed for people. The JSON holds all.
const TOLD: usize = 20;

/// Exit status for a corrupt image.
const CORRUPT: u8 = 2;

/// Exit status for a format without a check.
const NO_CHECK: u8 = 63;

impl CheckArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        let mode = match self.repair.as_deref() {
            None => CheckMode::Report,
            Some("leaks") => CheckMode::RepairLeaks,
            Some(_) => CheckMode::RepairAll,
        };
        if mode != CheckMode::Report && self.share.force_share {
            return Err(Failure::new("--force-share cannot be combined with --repair")
                .hint("a repair must be the only writer"));
        }
        cx.block_on(self.check(cx, &spec, mode))
    }

    async fn check(&self, cx: &Context, spec: &ImageSpec, mode: CheckMode) -> Result<u8> {
        let how = match mode {
            CheckMode::Report => OpenMode::shared(self.share),
            _ => OpenMode::writing(),
        };
        let how = how.cache(self.cache.0).allow(&self.allow);
        let storage = image::open_storage(cx, spec, &how).await?;
        let driver = image::driver(cx, spec, &*storage).await?;
        let descriptor = driver.descriptor();
        // A check uses no options, but unknown ones are refused.
        Options::of(&spec.options, descriptor.open_options)
            .map_err(|error| Failure::open(&spec.shown, &error))?;
        let able = match mode {
            CheckMode::Report => descriptor.can_check,
            _ => descriptor.can_repair,
        };
        if !able {
            if spec.format.is_none() && descriptor.name == "raw" {
                image::tell_of_another_name(cx, spec);
            }
            cx.console.say("This image format does not support checks");
            return Ok(NO_CHECK);
        }
        let request = how.request(cx, spec).await?;
        let open = OpenContext::new(cx.registry.clone())
            .gate(request.gate)
            .files(request.sharing, request.cache);
        if let Some(known) = &self.assume {
            let header = self.lost_header(&**driver, &storage, known).await?;
            self.tell(cx, &header);
            if mode != CheckMode::RepairAll {
                cx.console.note("nothing was written; -r all writes this header");
                return Ok(CORRUPT);
            }
            write_header(&*storage, &header).await.map_err(|error| failed(spec, &error))?;
        }
        let report = driver.check(storage, mode, &open).await;
        let report = report.map_err(|error| {
            let failure = failed(spec, &error);
            match (mode, error.kind(), &self.assume) {
                (CheckMode::RepairAll, ErrorKind::Corrupt | ErrorKind::Unrecognised, None) => {
                    failure.hint("if the header is lost, --assume size=SIZE makes a new one that fits the map")
                }
                _ => failure,
            }
        })?;
        for warning in open.warnings() {
            cx.console.say(format_args!("warning: {warning}"));
        }
        self.show(cx, descriptor.name, &report)?;
        Ok(status(&report))
    }

    /// Returns the header that fits what is left of the image.
    async fn lost_header(
        &self,
        driver: &dyn BlockDriver,
        storage: &Arc<dyn Storage>,
        known: &str,
    ) -> Result<LostHeader> {
        let given = options::parse_create(driver, &[known.to_owned()])?;
        let Some(size) = given.size else {
            return Err(Failure::new(
                "--assume needs size=SIZE: the map does not tell where the disk ends",
            ));
        };
        if given.backing_file.is_some() || given.backing_format.is_some() {
            return Err(Failure::new("--assume makes a base image")
                .hint("'amend -o parent_uuid=UUID' makes it a child afterwards"));
        }
        let known = CreateRequest::new(size).options(given.driver);
        let header = driver.lost_header(Arc::clone(storage), &known).await;
        header.map_err(|error| Failure::because(format!("No header for '{}'", self.file), &error))
    }

    fn tell(&self, cx: &Context, header: &LostHeader) {
        if !self.quiet {
            cx.console.note(format_args!("the header of '{}', made anew:", self.file));
            for (name, value) in &header.facts {
                cx.console.note(format_args!("    {name}: {value}"));
            }
        }
    }

    fn show(&self, cx: &Context, format: &str, report: &CheckReport) -> Result<()> {
        if !self.quiet {
            let mut told = BTreeMap::<&str, usize>::new();
            for finding in &report.findings {
                let times = told.entry(finding.code).or_default();
                *times += 1;
                if *times > TOLD {
                    continue;
                }
                let word = match (finding.fixed, finding.severity) {
                    (true, Severity::Leak) => "Repaired leak:",
                    (true, _) => "Repaired:",
                    (_, Severity::Corruption) => "ERROR",
                    (_, Severity::Leak) => "Leaked",
                    (_, Severity::Cosmetic) => "note:",
                };
                cx.console.note(format_args!("{word} {} [{}]", finding.message, finding.code));
            }
            for (code, times) in told.iter().filter(|(_, times)| **times > TOLD) {
                cx.console.note(format_args!("… and {} more [{code}]", times - TOLD));
            }
            if report.more_findings > 0 {
                cx.console.note(format_args!("… and {} more", report.more_findings));
            }
        }
        match self.output {
            OutputFormat::Json => Ok(cx.console.json(&self.json(cx, format, report))?),
            OutputFormat::Human if self.quiet => Ok(()),
            OutputFormat::Human => Ok(cx.console.own_text(human(report))?),
        }
    }

    fn json(&self, cx: &Context, format: &str, report: &CheckReport) -> Value {
        let mut map = Map::new();
        map.insert("filename".into(), json!(self.file));
        map.insert("format".into(), json!(format));
        map.insert("check-errors".into(), json!(report.check_errors));
        let mut known = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                map.insert(name.to_owned(), json!(value));
            }
        };
        known("image-end-offset", report.image_end_offset);
        known("corruptions", nonzero(report.corruptions));
        known("leaks", nonzero(report.leaks));
        known("corruptions-fixed", nonzero(report.corruptions_fixed));
        known("leaks-fixed", nonzero(report.leaks_fixed));
        known("total-clusters", report.total_blocks);
        known("allocated-clusters", report.allocated_blocks);
        known("fragmented-clusters", report.fragmented_blocks);
        known("more-findings", nonzero(report.more_findings));
        if !report.findings.is_empty() {
            map.insert("findings".into(), json!(report.findings));
            let found: BTreeSet<&str> = report.findings.iter().map(|found| found.code).collect();
            let known = cx.registry.codes().filter(|known| found.contains(known.code));
            let meanings = known.map(|known| (known.code.to_owned(), json!(known.meaning)));
            map.insert("codes".into(), Value::Object(meanings.collect()));
        }
        Value::Object(map)
    }
}

/// Writes a header in the place of the lost one.
async fn write_header(storage: &dyn Storage, header: &LostHeader) -> block_core::Result<()> {
    storage.write_at(0, &header.bytes).await?;
    storage.flush().await
}

fn failed(spec: &ImageSpec, error: &block_core::Error) -> Failure {
    let mut failure = Failure::open(&spec.shown, error);
    failure.message = failure.message.replace("Could not open", "Check failed for");
    failure
}

fn nonzero(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn human(report: &CheckReport) -> String {
    let mut text = String::new();
    let fixed = report.corruptions_fixed + report.leaks_fixed;
    if fixed > 0 {
        text.push_str(&format!(
            "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} corruptions\n\n",
            report.leaks_fixed, report.corruptions_fixed
        ));
    }
    if report.is_clean() {
        text.push_str("No errors were found on the image.\n");
    }
    if report.corruptions > 0 {
        text.push_str(&format!(
            "\n{} errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n",
            report.corruptions
        ));
    }
    if report.leaks > 0 {
        text.push_str(&format!(
            "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
            report.leaks
        ));
    }
    if report.check_errors > 0 {
        text.push_str(&format!(
            "\n{} internal errors have occurred during the check.\n",
            report.check_errors
        ));
    }
    if let (Some(total), Some(allocated)) = (report.total_blocks, report.allocated_blocks)
        && total > 0
    {
        let percent = |part: u64, whole: u64| match whole {
            0 => 0.0,
            _ => part as f64 * 100.0 / whole as f64,
        };
        text.push_str(&format!(
            "{allocated}/{total} = {:.2}% allocated, {:.2}% fragmented, 0.00% compressed clusters\n",
            percent(allocated, total),
            percent(report.fragmented_blocks.unwrap_or(0), allocated),
        ));
    }
    if let Some(end) = report.image_end_offset {
        text.push_str(&format!("Image end offset: {end}\n"));
    }
    text
}

/// Returns the exit status: 0 clean, 1 not completed, 2 corruptions, 3 only leaks.
fn status(report: &CheckReport) -> u8 {
    match report {
        CheckReport { check_errors: 1.., .. } => 1,
        CheckReport { corruptions: 1.., .. } => CORRUPT,
        CheckReport { leaks: 1.., .. } => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_status() {
        let report = |corruptions, leaks, check_errors| CheckReport {
            corruptions,
            leaks,
            check_errors,
            ..CheckReport::default()
        };
        assert_eq!(status(&report(0, 0, 0)), 0);
        assert_eq!(status(&report(0, 2, 0)), 3);
        assert_eq!(status(&report(1, 2, 0)), 2);
        assert_eq!(status(&report(1, 2, 1)), 1);
    }
}
