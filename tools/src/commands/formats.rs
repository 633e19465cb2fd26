//! `formats`: what each driver can do.

use block_core::{Descriptor, OptionSpec};
use serde_json::{Value, json};

use crate::args::OutputFormat;
use crate::context::Context;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub(crate) struct FormatsArgs {
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
}

impl FormatsArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let formats: Vec<&Descriptor> =
            cx.registry.drivers().iter().map(|driver| driver.descriptor()).collect();
        let protocols: Vec<&str> = cx.registry.protocols().iter().map(|p| p.scheme()).collect();
        match self.output {
            OutputFormat::Json => {
                let formats: Vec<Value> = formats.iter().map(|format| json_of(format)).collect();
                cx.console.json(&json!({"formats": formats, "protocols": protocols}))?;
            }
            OutputFormat::Human => {
                let width =
                    formats.iter().map(|format| format.name.len()).max().unwrap_or(0).max(6);
                cx.console.line(format_args!(
                    "{:width$}  open  create  check  repair  parents  description",
                    "format"
                ))?;
                let mark = |able: bool| if able { "yes" } else { "-" };
                for format in formats {
                    cx.console.line(format_args!(
                        "{:width$}  {:4}  {:6}  {:5}  {:6}  {:7}  {}",
                        format.name,
                        "yes",
                        mark(format.can_create),
                        mark(format.can_check),
                        mark(format.can_repair),
                        mark(format.has_parents),
                        format.long_name,
                    ))?;
                }
                cx.console.line("")?;
                cx.console.line(format_args!("protocols: {}", protocols.join(" ")))?;
            }
        }
        Ok(0)
    }
}

fn json_of(format: &Descriptor) -> Value {
    json!({
        "name": format.name,
        "description": format.long_name,
        "extensions": format.extensions,
        "create": format.can_create,
        "check": format.can_check,
        "repair": format.can_repair,
        "parents": format.has_parents,
        "open-options": options_json(format.open_options),
        "create-options": options_json(format.create_options),
        "amend-options": options_json(format.amend_options),
    })
}

fn options_json(specs: &[OptionSpec]) -> Vec<Value> {
    specs
        .iter()
        .map(|spec| {
            json!({
                "name": spec.name,
                "value": spec.kind.describe(),
                "default": spec.default,
                "help": spec.help,
            })
        })
        .collect()
}
