//! Sizes, option lists and names: a parsed one means the same after it is written out and parsed again.

use block_core::options::split_list;
use block_core::{BlockDriver, ErrorKind, OptionSpec, OptionValue, Options, size};
use block_raw::RawDriver;
use block_vdi::VdiDriver;

use crate::drivers::{Memory, registry};

/// Parses the input as text of each kind.
pub(crate) fn body(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    a_size(&text);
    if let Some(number) = data.first_chunk::<8>() {
        a_number(u64::from_le_bytes(*number));
    }
    a_list(&text);
    for driver in [&VdiDriver as &dyn BlockDriver, &RawDriver] {
        let descriptor = driver.descriptor();
        for specs in [descriptor.create_options, descriptor.open_options, descriptor.amend_options]
        {
            options(&text, specs);
        }
    }
    a_uri(&text);
    crate::image_spec::body(&text);
}

/// Asserts that a size means the same number of bytes in either case of its unit and after a blank.
fn a_size(text: &str) {
    match size::parse(text) {
        Ok(bytes) => {
            assert!(bytes <= i64::MAX as u64, "{text:?} is {bytes}");
            assert_eq!(size::parse(&bytes.to_string()).ok(), Some(bytes), "{text:?}");
            assert_eq!(size::parse(&format!("{bytes:#x}")).ok(), Some(bytes), "{text:?}");
            assert_eq!(size::parse(&format!(" {text}")).ok(), Some(bytes), "{text:?}");
            assert_eq!(size::parse(&text.to_uppercase()).ok(), Some(bytes), "{text:?}");
            if let Ok(plain) = text.parse::<u64>() {
                assert_eq!(bytes, plain, "{text:?}");
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
            let plain = text.parse::<u64>().is_ok_and(|number| number <= i64::MAX as u64);
            assert!(!plain, "{text:?} is a size");
        }
    }
}

/// Asserts that a number of units is that many bytes or too many, and that its short form is right to three digits.
fn a_number(number: u64) {
    for (unit, power) in [("", 0), ("k", 10), ("M", 20), ("G", 30), ("T", 40), ("P", 50)] {
        let wanted = u128::from(number) << power;
        let found = size::parse(&format!("{number}{unit}")).ok().map(u128::from);
        assert_eq!(found, (wanted <= i64::MAX as u128).then_some(wanted), "{number}{unit}");
    }
    let shown = size::human(number);
    let (value, unit) = shown.split_once(' ').expect("a number and a unit");
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = units.iter().position(|known| *known == unit).expect("a known unit");
    let value = value.parse::<f64>().expect("a number") * 1024f64.powi(power as i32);
    let off = (value - number as f64).abs();
    assert!(off <= number as f64 * 0.0051, "{number} is shown as {shown}");
}

/// Asserts that a list reassembled from its items has the same items.
fn a_list(text: &str) {
    let items = split_list(text);
    let written: Vec<String> = items
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}").replace(',', ",,"),
            None => name.replace(',', ",,"),
        })
        .collect();
    assert_eq!(split_list(&written.join(",")), items, "{text:?}");
}

/// Asserts that parsed options are the same after being written out and parsed again.
fn options(text: &str, specs: &[OptionSpec]) {
    match Options::parse(text, specs) {
        Ok(options) => {
            let written: Vec<String> = options
                .iter()
                .map(|(name, value)| format!("{name}={}", spelled(value).replace(',', ",,")))
                .collect();
            let again = Options::parse(&written.join(","), specs);
            assert_eq!(again.ok().as_ref(), Some(&options), "{text:?} as {written:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
            let known = |name: &str| specs.iter().any(|spec| spec.name == name);
            if let Some(hint) = error.hint() {
                let named = hint.to_string().split('\'').nth(1).is_some_and(known);
                assert!(named, "the hint {hint:?} names no option");
            }
        }
    }
}

fn spelled(value: &OptionValue) -> String {
    match value {
        OptionValue::Number(number) => number.to_string(),
        OptionValue::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        OptionValue::Uuid(uuid) => uuid.to_string(),
        OptionValue::Text(text) => text.clone(),
        other => panic!("a value that this test does not know: {other:?}"),
    }
}

/// Asserts that a registered scheme is removed once and that any other name is a path.
fn a_uri(text: &str) {
    let registry = registry(&Memory::default());
    for uri in [text.to_owned(), format!("memory:{text}")] {
        let (protocol, location) = registry.protocol(&uri).expect("bare paths have a protocol");
        assert_eq!(protocol.scheme(), "memory");
        let wanted = uri.strip_prefix("memory:").unwrap_or(&uri);
        assert_eq!(location, wanted, "{uri:?}");
    }
}
