//! `-o name=value,…`: parses, lists and shows the options of a format.

use std::sync::Arc;

use block_core::options::{nearest, split_list};
use block_core::{BlockDriver, OptionKind, OptionSpec, OptionValue, Options, Registry};

use crate::args::size_or_failure;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::wording;

/// The options of an image to be created.
#[derive(Debug, Default)]
pub(crate) struct CreateOptions {
    /// Options of the driver.
    pub driver: Options,
    /// `size=`.
    pub size: Option<u64>,
    /// `backing_file=`.
    pub backing_file: Option<String>,
    /// `backing_fmt=`.
    pub backing_format: Option<String>,
    /// Hints for the host's file system, each as ` name=value`. They are validated and shown, and have no effect.
    pub hints: String,
}

/// Hint that scripts give for the file of an image. It has no effect here.
const HINT_NOCOW: OptionSpec = OptionSpec {
    name: "nocow",
    kind: OptionKind::Bool,
    default: None,
    help: "accepted, without effect",
};
/// Hint that scripts give for the file of an image. It has no effect here, because holes and large extents come by
/// themselves.
const HINT_EXTENT: OptionSpec = OptionSpec {
    name: "extent_size_hint",
    kind: OptionKind::Size { min: 0, max: u32::MAX as u64 },
    default: None,
    help: "accepted, without effect",
};

impl CreateOptions {
    fn hint(&mut self, spec: OptionSpec, value: &str) -> Result<()> {
        let specs = [spec];
        let mut given = Options::new();
        given.set(&specs, spec.name, value)?;
        self.hints.push_str(&shown(&specs, &given));
        Ok(())
    }
}

/// Returns the driver of a format in which an image is to be created.
pub(crate) fn output_driver<'r>(
    registry: &'r Registry,
    format: &str,
) -> Result<&'r Arc<dyn BlockDriver>> {
    let driver = registry.driver(format).map_err(|error| {
        let failure = Failure::new(format!("Unknown file format '{format}'"));
        let drivers = registry.drivers();
        let able = drivers.iter().map(|driver| driver.descriptor()).filter(|d| d.can_create);
        let names: Vec<&str> = able.map(|descriptor| descriptor.name).collect();
        let written = format!("formats that can be written: {}", names.join(", "));
        failure.hint(match error.hint() {
            Some(hint) => format!("{} ({written})", wording::hint(hint)),
            None => written,
        })
    })?;
    if driver.descriptor().can_create {
        Ok(driver)
    } else {
        Err(Failure::new(format!("Format driver '{format}' does not support image creation")))
    }
}

/// Whether one of the lists asks for help.
pub(crate) fn asks_for_help(lists: &[String]) -> bool {
    lists
        .iter()
        .flat_map(|list| split_list(list))
        .any(|(name, value)| value.is_none() && (name == "help" || name == "?"))
}

/// Parses the lists of `-o` for `driver`.
pub(crate) fn parse_create(driver: &dyn BlockDriver, lists: &[String]) -> Result<CreateOptions> {
    let descriptor = driver.descriptor();
    let mut options = CreateOptions::default();
    for (name, value) in lists.iter().flat_map(|list| split_list(list)) {
        let value = value.unwrap_or_else(|| "on".to_owned());
        match name.as_str() {
            "size" => options.size = Some(size_or_failure(&value)?),
            "nocow" => options.hint(HINT_NOCOW, &value)?,
            "extent_size_hint" => options.hint(HINT_EXTENT, &value)?,
            "backing_file" if descriptor.has_parents => options.backing_file = Some(value),
            "backing_fmt" if descriptor.has_parents => options.backing_format = Some(value),
            _ => options.driver.set(descriptor.create_options, &name, &value).map_err(|error| {
                let failure = Failure::from(error);
                let known = descriptor.create_options.iter().map(|spec| spec.name);
                match (&failure.hint, nearest(&name, known.chain(["size"]))) {
                    (None, Some(near)) if near != name => {
                        failure.hint(format!("did you mean '{near}'?"))
                    }
                    _ => failure,
                }
            })?,
        }
    }
    Ok(options)
}

/// Parses lists of `-o` against `specs` alone.
pub(crate) fn parse(specs: &[OptionSpec], lists: &[String]) -> Result<Options> {
    let mut options = Options::new();
    for (name, value) in lists.iter().flat_map(|list| split_list(list)) {
        options.set(specs, &name, value.as_deref().unwrap_or("on"))?;
    }
    Ok(options)
}

/// Prints the options of a format.
pub(crate) fn help(cx: &Context, title: &str, specs: &[OptionSpec], sized: bool) -> Result<()> {
    let mut rows: Vec<(String, &str)> = Vec::new();
    if sized {
        rows.push(("size=<size>".to_owned(), "Virtual disk size"));
    }
    for spec in specs {
        rows.push((format!("{}={}", spec.name, spec.kind.describe()), spec.help));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    cx.console.line(format_args!("Supported {title} options:"))?;
    for (name, help) in rows {
        cx.console.line(format_args!("  {name:width$} - {help}"))?;
    }
    Ok(())
}

/// Returns ` name=value` for each option that was set, and for each switch with a default.
pub(crate) fn shown(specs: &[OptionSpec], options: &Options) -> String {
    let mut text = String::new();
    for spec in specs {
        let given = options.iter().find(|(name, _)| *name == spec.name).map(|(_, value)| value);
        let value = match (given, spec.kind, spec.default) {
            (Some(value), ..) => value_text(value),
            (None, block_core::OptionKind::Bool, Some(default)) => default.to_owned(),
            _ => continue,
        };
        text.push_str(&format!(" {}={value}", spec.name));
    }
    text
}

fn value_text(value: &OptionValue) -> String {
    match value {
        OptionValue::Number(number) => number.to_string(),
        OptionValue::Bool(true) => "on".to_owned(),
        OptionValue::Bool(false) => "off".to_owned(),
        OptionValue::Uuid(uuid) => uuid.to_string(),
        OptionValue::Text(text) => text.clone(),
        _ => String::new(),
    }
}
