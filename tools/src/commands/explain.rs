//! `explain`: what a code means and what to do about it.

use block_core::ErrorCode;
use block_core::options::nearest;
use block_inspect::Code;

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::wording;

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The code, as it stands in a message or report; without it, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl ExplainArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let Some(code) = self.code.as_deref() else {
            for known in cx.registry.codes() {
                cx.console.line(format_args!("{:34} {}", known.code, known.meaning))?;
            }
            for code in Code::ALL {
                cx.console.line(format_args!("{:34} {}", code.as_str(), code.meaning()))?;
            }
            return Ok(0);
        };
        if let Some(ErrorCode { code, meaning, remedy, advice }) =
            cx.registry.codes().find(|known| known.code.eq_ignore_ascii_case(code))
        {
            cx.console.line(format_args!("{code}: {meaning}."))?;
            cx.console.line("")?;
            let sentences = advice.iter().map(wording::sentence);
            let remedy: Vec<String> =
                std::iter::once((*remedy).to_owned()).chain(sentences).collect();
            cx.console.line(remedy.join(" "))?;
            return Ok(0);
        }
        if let Ok(known) = code.parse::<Code>() {
            cx.console.line(format_args!("{known}: {}.", known.meaning()))?;
            cx.console.line("")?;
            cx.console.line(format_args!(
                "Severity {}. {}",
                format!("{:?}", known.severity()).to_lowercase(),
                match known.is_about_origin() {
                    true =>
                        "It is harmless in a file whose maker you trust: --trusted, or --accept for this code alone.",
                    false =>
                        "It does not depend on who made the file; --accept takes a file in spite of it.",
                }
            ))?;
            return Ok(0);
        }
        let known = cx.registry.codes().map(|known| known.code);
        let known = known.chain(Code::ALL.iter().map(|code| code.as_str()));
        let failure = Failure::new(format!("no code is called '{code}'"));
        Err(match nearest(code, known) {
            Some(near) => failure.hint(format!("did you mean '{near}'?")),
            None => failure.hint(format!("'{} explain' lists all", cx.console.program())),
        })
    }
}
