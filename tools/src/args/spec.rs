//! Image specifications: a path, a URI, `json:{…}`, or `driver=…,file.filename=…`.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

use block_core::Access;
use block_core::options::split_list;
use serde_json::Value;

use super::general::General;

/// The reason why a text is not a usable image specification.
#[derive(Debug)]
pub(crate) struct SpecError {
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<&'static str>,
}

type Result<T> = std::result::Result<T, SpecError>;

/// One image, as the user specified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageSpec {
    /// Specification in the user's words, for messages.
    pub shown: String,
    /// The path or URI.
    pub uri: String,
    /// Name of the format, if the user gave it.
    pub format: Option<String>,
    /// Options of the format's driver.
    pub options: Vec<(String, String)>,
    /// Options of the protocol.
    pub storage_options: Vec<(String, String)>,
    /// Options that are not passed to the drivers.
    pub general: General,
    /// Image whose disk is the file of this one, for example to open a partition.
    pub below: Option<Box<ImageSpec>>,
}

/// Values of QEMU's option `aio`, each with the name of the file engine that it selects.
const AIO: [(&str, &str); 3] = [("threads", "sync"), ("native", "auto"), ("io_uring", "io_uring")];

impl ImageSpec {
    /// Parses `text`. With `image_opts`, it is a list of options.
    pub fn parse(text: &str, image_opts: bool, format: Option<&str>) -> Result<Self> {
        if image_opts {
            let pairs = split_list(text)
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_else(|| "on".to_owned())));
            return Self::from_pairs(text, pairs.collect());
        }
        if let Some(json) = text.strip_prefix("json:") {
            let value: Value =
                serde_json::from_str(&with_double_quotes(json)).map_err(|error| SpecError {
                    message: format!(
                        "Could not open '{text}': Could not parse the JSON options: {error}"
                    ),
                    hint: None,
                })?;
            let mut pairs = Vec::new();
            flatten("", &value, &mut pairs);
            let mut spec = Self::from_pairs(text, pairs)?;
            if let Some(format) = format {
                spec.format = Some(format.to_owned());
            }
            return Ok(spec);
        }
        if let Some(rest) = text.strip_prefix("blkdebug:") {
            let without_rules = rest.strip_prefix(':').ok_or_else(|| SpecError {
                message: format!("Could not open '{text}': blkdebug reads no configuration file"),
                hint: Some("give the rules as options: driver=blkdebug,inject-error.0.event=…"),
            })?;
            return Ok(Self { shown: text.to_owned(), ..Self::plain(without_rules, format) });
        }
        Ok(Self::plain(text, format))
    }

    /// Returns the specification of a path or URI.
    pub fn plain(uri: &str, format: Option<&str>) -> Self {
        Self {
            shown: uri.to_owned(),
            uri: uri.to_owned(),
            format: format.map(str::to_owned),
            options: Vec::new(),
            storage_options: Vec::new(),
            general: General::default(),
            below: None,
        }
    }

    /// Refuses write access if an option forbids it or the image lies inside another one.
    pub fn permit(&self, access: Access) -> Result<()> {
        let inside = self.below.as_ref().map(|_| "an image inside another one is read-only");
        let refused = self.general.refuses_writing().or(inside);
        let refused = refused.filter(|_| access == Access::ReadWrite);
        match refused {
            None => Ok(()),
            Some(why) => Err(SpecError {
                message: format!("Could not open '{}': {why}", self.shown),
                hint: None,
            }),
        }
    }

    fn from_pairs(text: &str, pairs: Vec<(String, String)>) -> Result<Self> {
        let pairs = super::blkdebug::as_fault(pairs).map_err(|error| SpecError {
            message: format!("Could not open '{text}': blkdebug: {error}"),
            hint: None,
        })?;
        if pairs.iter().any(|(name, _)| name == "file.file" || name.starts_with("file.file.")) {
            return Self::inside(text, pairs);
        }
        let mut spec = Self::plain(text, None);
        let (mut filename, mut protocol, mut driver) = (None, None, None);
        let wrong = |error: block_core::Error| SpecError {
            message: format!("Could not open '{text}': {error}"),
            hint: None,
        };
        for (name, value) in pairs {
            let bare = name.strip_prefix("file.").unwrap_or(&name);
            if spec.general.take(bare, &value).map_err(wrong)? {
                continue;
            }
            match name.as_str() {
                "driver" => driver = Some(value),
                "filename" | "file" | "file.filename" | "path" | "file.path" => {
                    filename = Some(value)
                }
                "file.driver" => protocol = Some(value),
                _ if bare != name => spec.storage_options.push((bare.to_owned(), value)),
                _ => spec.options.push((name, value)),
            }
        }
        let nothing = [&driver, &protocol].into_iter().flatten().find(|name| is_nothing(name));
        let filename = filename.or(nothing.map(|scheme| format!("{scheme}://")));
        let Some(filename) = filename else {
            return Err(SpecError {
                message: format!(
                    "Could not open '{text}': A block device must be specified for \"file\""
                ),
                hint: Some("name the file with file.filename=PATH"),
            });
        };
        // A protocol as the driver means a raw image on that protocol.
        match driver.as_deref() {
            Some(name) if is_nothing(name) || matches!(name, "file" | "host_device") => {
                spec.format = Some("raw".to_owned());
                spec.storage_options.append(&mut spec.options);
            }
            _ => spec.format = driver,
        }
        for (name, value) in std::mem::take(&mut spec.storage_options) {
            match name.as_str() {
                "aio" => spec.storage_options.push(engine(text, &value)?),
                "locking" => spec.general.set_locking(&value).map_err(wrong)?,
                _ => spec.storage_options.push((name, value)),
            }
        }
        spec.uri = match protocol.as_deref() {
            None | Some("file" | "host_device") => filename,
            Some(scheme) if filename.starts_with(&format!("{scheme}:")) => filename,
            Some(scheme) => format!("{scheme}:{filename}"),
        };
        Ok(spec)
    }
}

/// Maximum number of nodes in a chain of drivers.
const MAX_NODES: usize = 8;

impl ImageSpec {
    /// Parses the options of an image whose file is another image's disk. Options that begin with `file.` belong to the
    /// other image.
    fn inside(text: &str, pairs: Vec<(String, String)>) -> Result<Self> {
        let deepest = "file.".repeat(MAX_NODES);
        if pairs.iter().any(|(name, _)| name.starts_with(&deepest)) {
            return Err(SpecError {
                message: format!(
                    "Could not open '{text}': more than {MAX_NODES} drivers stand on each other"
                ),
                hint: None,
            });
        }
        let mut spec = Self::plain(text, None);
        let mut below = Vec::new();
        for (name, value) in pairs {
            match name.strip_prefix("file.") {
                Some(name) => below.push((name.to_owned(), value)),
                None if name == "driver" => spec.format = Some(value),
                None => {
                    let general = spec.general.take(&name, &value);
                    let taken = general.map_err(|error| SpecError {
                        message: format!("Could not open '{text}': {error}"),
                        hint: None,
                    })?;
                    if !taken {
                        spec.options.push((name, value));
                    }
                }
            }
        }
        let below = Self::from_pairs(text, below)?;
        spec.uri.clone_from(&below.uri);
        spec.below = Some(Box::new(below));
        Ok(spec)
    }
}

/// Whether a protocol needs no file name.
fn is_nothing(protocol: &str) -> bool {
    block_core::null::SCHEMES.contains(&protocol)
}

/// Returns the file engine for a value of `aio`.
pub(crate) fn engine_for(aio: &str) -> Option<&'static str> {
    AIO.iter().find(|(word, _)| *word == aio).map(|(_, engine)| *engine)
}

/// Returns the file option that corresponds to a value of `aio`.
fn engine(text: &str, word: &str) -> Result<(String, String)> {
    match engine_for(word) {
        Some(engine) => Ok(("engine".to_owned(), engine.to_owned())),
        None => Err(SpecError {
            message: format!("Could not open '{text}': invalid parameter value: {word}"),
            hint: Some("aio is threads, native, or io_uring"),
        }),
    }
}

/// Converts QEMU's JSON, in which strings may be single-quoted, to standard JSON.
fn with_double_quotes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut quote = None;
    let mut rest = json.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                out.push('"');
            }
            (Some(open), c) if c == open => {
                quote = None;
                out.push('"');
            }
            (Some('\''), '"') => out.push_str("\\\""),
            // QEMU has an escape for the single quote, standard JSON has not.
            (Some(_), '\\') => match rest.next() {
                Some('\'') => out.push('\''),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            _ => out.push(c),
        }
    }
    out
}

/// Flattens `{"a": {"b": 1}}` to `a.b=1`.
fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = match prefix {
                    "" => name.clone(),
                    _ => format!("{prefix}.{name}"),
                };
                flatten(&name, value, out);
            }
            return;
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{prefix}.{index}"), value, out);
            }
            return;
        }
        Value::Null => return,
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
    };
    out.push((prefix.to_owned(), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_opts_and_json_name_the_same_image() {
        let opts = ImageSpec::parse(
            "driver=raw,offset=512,file.driver=file,file.filename=a,,b",
            true,
            None,
        )
        .unwrap();
        let json = ImageSpec::parse(
            r#"json: {"driver": "raw", "offset": 512, "file": {"driver": "file", "filename": "a,b"}}"#,
            false,
            None,
        )
        .unwrap();
        assert_eq!(opts.uri, "a,b");
        assert_eq!(opts.options, [("offset".to_owned(), "512".to_owned())]);
        assert_eq!(
            (&opts.uri, &opts.format, &opts.options),
            (&json.uri, &json.format, &json.options)
        );
    }

    #[test]
    fn json_takes_single_quotes_as_qemu_does() {
        for (theirs, standard) in [
            (r#"{'a': 'b', "c": "it's"}"#, r#"{"a": "b", "c": "it's"}"#),
            (r#"{'a\'b': 'say "x"'}"#, r#"{"a'b": "say \"x\""}"#),
            (r#"{'a\\': "\"'\""}"#, r#"{"a\\": "\"'\""}"#),
            (r#"{'a"#, r#"{"a"#),
            (r#"'\"#, r#""\"#),
        ] {
            assert_eq!(with_double_quotes(theirs), standard);
        }
        let text = "json:{'driver':'raw','file':{'driver':'file','filename':'it\\'s'}}";
        let spec = ImageSpec::parse(text, false, None).unwrap();
        assert_eq!((spec.uri.as_str(), spec.format.as_deref()), ("it's", Some("raw")));
    }

    #[test]
    fn what_is_said_of_any_image_is_kept_from_the_drivers() {
        for word in ["cache.direct=on", "file.read-only=on", "discard=unmap", "file.node-name=n"] {
            let text = format!("{word},driver=raw,file.filename=a");
            let spec = ImageSpec::parse(&text, true, None).unwrap();
            assert!(spec.options.is_empty() && spec.storage_options.is_empty(), "{word}");
        }
        let spec = ImageSpec::parse("file.read-only=on,file.filename=a", true, None).unwrap();
        assert!(spec.general.refuses_writing().is_some());
        assert!(ImageSpec::parse("cache.direct=1,file.filename=a", true, None).is_err());
    }

    #[test]
    fn the_engine_of_a_file_has_other_names_too() {
        for text in ["file.aio=threads,file.filename=a", "driver=file,aio=threads,filename=a"] {
            let spec = ImageSpec::parse(text, true, None).unwrap();
            assert_eq!(spec.storage_options, [("engine".to_owned(), "sync".to_owned())]);
        }
        let spec = ImageSpec::parse("driver=vdi,aio=threads,file.filename=a", true, None).unwrap();
        assert_eq!(
            spec.options,
            [("aio".to_owned(), "threads".to_owned())],
            "the driver refuses it"
        );
        assert!(ImageSpec::parse("file.aio=maybe,file.filename=a", true, None).is_err());
    }

    #[test]
    fn drivers_stand_on_each_other() {
        let opts = "driver=raw,offset=512,file.driver=vdi,file.base=on,file.file.driver=file,file.file.filename=a";
        let json = "json:{'driver':'raw','offset':512,'file':{'driver':'vdi','base':true,'file':{'driver':'file','filename':'a'}}}";
        for (text, image_opts) in [(opts, true), (json, false)] {
            let spec = ImageSpec::parse(text, image_opts, None).unwrap();
            assert_eq!((spec.uri.as_str(), spec.format.as_deref()), ("a", Some("raw")));
            assert_eq!(spec.options, [("offset".to_owned(), "512".to_owned())]);
            assert!(spec.permit(Access::ReadWrite).is_err() && spec.permit(Access::Read).is_ok());
            let below = spec.below.unwrap();
            assert_eq!((below.uri.as_str(), below.format.as_deref()), ("a", Some("vdi")));
            assert_eq!(below.options, [("base".to_owned(), "on".to_owned())]);
        }
        let deep = format!("driver=raw,{}filename=a", "file.".repeat(100_000));
        assert!(ImageSpec::parse(&deep, true, None).is_err());
    }

    #[test]
    fn a_specification_without_a_file_is_refused() {
        assert!(ImageSpec::parse("driver=vdi", true, None).is_err());
    }
}
