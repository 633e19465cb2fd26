//! Image specifications of the command line: a parsed one means the same after it is written out and parsed again, in
//! either form.

#[path = "../../tools/src/args/blkdebug.rs"]
#[allow(dead_code, unreachable_pub, reason = "the parser as the tool has it")]
mod blkdebug;
#[path = "../../tools/src/args/general.rs"]
#[allow(dead_code, unreachable_pub, reason = "the parser as the tool has it")]
mod general;
#[path = "../../tools/src/args/spec.rs"]
#[allow(dead_code, unreachable_pub, reason = "the parser as the tool has it")]
mod spec;

use spec::ImageSpec;

/// The meaning of a specification, without its text: URI, format, options of the format and of the storage.
type Meaning = (String, Option<String>, Vec<(String, String)>, Vec<(String, String)>);

/// Parses the input as a name, as options, and as options in JSON.
pub(crate) fn body(text: &str) {
    let plain = ImageSpec::parse(text, false, None);
    if !text.starts_with("json:") {
        let plain = plain.as_ref().map(|spec| spec.uri.as_str());
        assert_eq!(plain.ok(), Some(text), "a plain name is taken as it is");
    }
    for parsed in [plain, ImageSpec::parse(text, true, None), json(text)].into_iter().flatten() {
        let meaning = meaning(parsed);
        let pairs = pairs(&meaning);
        let listed: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}").replace(',', ",,"))
            .collect();
        // A list cannot express such a name.
        if !pairs
            .iter()
            .any(|(name, _)| name.is_empty() || name.starts_with(',') || name.contains('='))
        {
            let again = ImageSpec::parse(&listed.join(","), true, None);
            same(again, &meaning, &listed.join(","));
        }
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            continue;
        }
        let map: serde_json::Map<String, serde_json::Value> =
            pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let written = format!("json:{}", serde_json::Value::from(map));
        // JSON does not keep the order of its members.
        let mut sorted = meaning;
        sorted.2.sort();
        sorted.3.sort();
        let again = ImageSpec::parse(&written, false, None).map(|mut spec| {
            spec.options.sort();
            spec.storage_options.sort();
            spec
        });
        same(again, &sorted, &written);
    }
}

fn json(text: &str) -> Result<ImageSpec, spec::SpecError> {
    ImageSpec::parse(&format!("json:{text}"), false, None)
}

fn meaning(spec: ImageSpec) -> Meaning {
    (spec.uri, spec.format, spec.options, spec.storage_options)
}

/// Returns the pairs that express the meaning.
fn pairs((uri, format, options, storage_options): &Meaning) -> Vec<(String, String)> {
    let mut pairs = vec![("file.filename".to_owned(), uri.clone())];
    pairs.extend(format.clone().map(|format| ("driver".to_owned(), format)));
    pairs.extend(options.iter().cloned());
    let stored = storage_options.iter();
    pairs.extend(stored.map(|(name, value)| (format!("file.{name}"), value.clone())));
    pairs
}

fn same(again: Result<ImageSpec, spec::SpecError>, meaning_before: &Meaning, written: &str) {
    let again = again.map(meaning).map_err(|error| error.message);
    assert_eq!(again.as_ref(), Ok(meaning_before), "written as {written:?}");
}
