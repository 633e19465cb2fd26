//! `explain`: what a code means and what to do about it.

use block_core::options::nearest;
use block_core::{ErrorCode, Registry};
use block_inspect::Code;
use serde::Serialize;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::wording;

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    /// The code, as it stands in a message or report; without it, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// The explanation of a code.
#[derive(Serialize)]
struct Explanation {
    code: &'static str,
    meaning: &'static str,
    remedy: String,
}

impl ExplainArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        match (self.code.as_deref(), self.output) {
            (None, OutputFormat::Human) => {
                for known in explanations(&cx.registry) {
                    cx.console.line(format_args!("{:34} {}", known.code, known.meaning))?;
                }
            }
            (None, OutputFormat::Json) => {
                cx.console.json(&explanations(&cx.registry).collect::<Vec<_>>())?;
            }
            (Some(code), OutputFormat::Human) => {
                let Explanation { code, meaning, remedy } = find(cx, code)?;
                cx.console.line(format_args!("{code}: {meaning}."))?;
                cx.console.line("")?;
                cx.console.line(remedy)?;
            }
            (Some(code), OutputFormat::Json) => cx.console.json(&find(cx, code)?)?,
        }
        Ok(0)
    }
}

/// Returns all codes: those of errors and check findings, then those of inspections.
fn explanations(registry: &Registry) -> impl Iterator<Item = Explanation> {
    registry.codes().map(of_error).chain(Code::ALL.iter().map(of_inspection))
}

fn find(cx: &Context, code: &str) -> Result<Explanation> {
    if let Some(known) = cx.registry.codes().find(|known| known.code.eq_ignore_ascii_case(code)) {
        return Ok(of_error(known));
    }
    if let Ok(known) = code.parse::<Code>() {
        return Ok(of_inspection(&known));
    }
    let failure = Failure::new(format!("no code is called '{code}'"));
    Err(match nearest(code, explanations(&cx.registry).map(|known| known.code)) {
        Some(near) => failure.hint(format!("did you mean '{near}'?")),
        None => failure.hint(format!("'{} explain' lists all", cx.console.program())),
    })
}

fn of_error(known: &ErrorCode) -> Explanation {
    let sentences = known.advice.iter().map(wording::sentence);
    let remedy: Vec<String> = std::iter::once(known.remedy.to_owned()).chain(sentences).collect();
    Explanation { code: known.code, meaning: known.meaning, remedy: remedy.join(" ") }
}

fn of_inspection(known: &Code) -> Explanation {
    let advice = if known.is_about_origin() {
        "It is harmless in a file whose maker you trust: --trusted, or --accept for this code alone."
    } else {
        "It does not depend on who made the file; --accept takes a file in spite of it."
    };
    let severity = format!("{:?}", known.severity()).to_lowercase();
    let remedy = format!("Severity {severity}. {advice}");
    Explanation { code: known.as_str(), meaning: known.meaning(), remedy }
}
