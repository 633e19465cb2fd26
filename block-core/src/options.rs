//! Options as data: declared once by a driver, parsed, explained and checked in one place.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{Error, ErrorKind, Result, size};

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A size in bytes: `64k`, `1.5G`, `0x200`.
    Size {
        /// Smallest value, in bytes.
        min: u64,
        /// Largest value, in bytes.
        max: u64,
    },
    /// A number without a unit.
    Number {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// `on` or `off`, or one of the synonyms that QEMU accepts.
    Bool,
    /// One of the listed words.
    Choice(&'static [&'static str]),
    /// A UUID in its usual spelling.
    Uuid,
    /// A UUID, or `new` for a random one.
    NewUuid,
    /// Any text.
    Text,
}

impl OptionKind {
    /// Returns the type's notation in help texts.
    pub fn describe(&self) -> String {
        match self {
            Self::Size { .. } => "<size>".into(),
            Self::Number { .. } => "<num>".into(),
            Self::Bool => "<bool (on/off)>".into(),
            Self::Choice(words) => format!("<{}>", words.join("|")),
            Self::Uuid => "<uuid>".into(),
            Self::NewUuid => "<uuid|new>".into(),
            Self::Text => "<str>".into(),
        }
    }
}

/// One option of a driver.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Name, as in `name=value`.
    pub name: &'static str,
    /// Type of the value.
    pub kind: OptionKind,
    /// Default value as text. `None`: not set.
    pub default: Option<&'static str>,
    /// Help text for `-o help`, one clause.
    pub help: &'static str,
}

impl OptionSpec {
    /// Parses one value of this option.
    ///
    /// # Errors
    /// `InvalidInput` with the option, the value and the expected type.
    pub fn parse(&self, value: &str) -> Result<OptionValue> {
        let bad = |wanted: String| {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("Parameter '{}' expects {wanted}, not '{value}'", self.name),
            ))
        };
        match self.kind {
            OptionKind::Size { min, max } => match size::parse(value) {
                Ok(n) if (min..=max).contains(&n) => Ok(OptionValue::Number(n)),
                Ok(_) => bad(format!("a size from {min} to {max} bytes")),
                Err(_) => bad("a size".into()),
            },
            OptionKind::Number { min, max } => match value.parse() {
                Ok(n) if (min..=max).contains(&n) => Ok(OptionValue::Number(n)),
                _ => bad(format!("a number from {min} to {max}")),
            },
            OptionKind::Bool => match value {
                "on" | "yes" | "true" | "y" => Ok(OptionValue::Bool(true)),
                "off" | "no" | "false" | "n" => Ok(OptionValue::Bool(false)),
                _ => Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("Parameter '{}' expects 'on' or 'off'", self.name),
                )),
            },
            OptionKind::Choice(words) if words.contains(&value) => {
                Ok(OptionValue::Text(value.to_owned()))
            }
            OptionKind::Choice(words) => bad(format!("one of {}", words.join(", "))),
            OptionKind::NewUuid if value == "new" => Ok(OptionValue::Uuid(Uuid::new_v4())),
            OptionKind::Uuid | OptionKind::NewUuid => match Uuid::try_parse(value) {
                Ok(uuid) => Ok(OptionValue::Uuid(uuid)),
                Err(_) => bad("a UUID".into()),
            },
            OptionKind::Text => Ok(OptionValue::Text(value.to_owned())),
        }
    }
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionValue {
    /// A size in bytes, or a number.
    Number(u64),
    /// On or off.
    Bool(bool),
    /// A UUID.
    Uuid(Uuid),
    /// Text, or a word of a choice.
    Text(String),
}

/// The options of one call: parsed values by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    values: BTreeMap<&'static str, OptionValue>,
}

impl Options {
    /// Creates an empty set of options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses `name=value,name=value` against `specs`. `,,` inside a value stands for a comma. A bare name
    /// means `name=on`. If a name occurs more than once, its last value wins.
    ///
    /// # Errors
    /// `InvalidInput` for a bad value, or for an unknown name, with the nearest valid one as a hint.
    pub fn parse(list: &str, specs: &[OptionSpec]) -> Result<Self> {
        let mut options = Self::new();
        for (name, value) in split_list(list) {
            options.set(specs, &name, value.as_deref().unwrap_or("on"))?;
        }
        Ok(options)
    }

    /// Parses pairs of name and value. If a name occurs more than once, its last value wins.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of(pairs: &[(String, String)], specs: &[OptionSpec]) -> Result<Self> {
        let mut options = Self::new();
        for (name, value) in pairs {
            options.set(specs, name, value)?;
        }
        Ok(options)
    }

    /// Parses and sets one value.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn set(&mut self, specs: &[OptionSpec], name: &str, value: &str) -> Result<()> {
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            let error = Error::new(ErrorKind::InvalidInput, format!("Invalid parameter '{name}'"));
            return Err(match nearest(name, specs.iter().map(|spec| spec.name)) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error,
            });
        };
        self.values.insert(spec.name, spec.parse(value)?);
        Ok(())
    }

    /// Returns whether the option was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Returns the value of a size or number, if it was given.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.values.get(name) {
            Some(OptionValue::Number(n)) => Some(*n),
            _ => None,
        }
    }

    /// Returns the value of a bool, if it was given.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(OptionValue::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    /// Returns the value of a UUID, if it was given.
    pub fn uuid(&self, name: &str) -> Option<Uuid> {
        match self.values.get(name) {
            Some(OptionValue::Uuid(uuid)) => Some(*uuid),
            _ => None,
        }
    }

    /// Returns the value of a text or choice, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(OptionValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Iterates over the values in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &OptionValue)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }
}

/// Splits `a=b,c,d=e,,f` into names and values, and unescapes doubled commas.
pub fn split_list(list: &str) -> Vec<(String, Option<String>)> {
    let mut items = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.peek() != Some(&',') {
            items.push(String::new());
            continue;
        }
        if c == ',' {
            chars.next();
        }
        if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
        .into_iter()
        .filter(|item| !item.is_empty())
        .map(|item| match item.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (item, None),
        })
        .collect()
}

/// Returns the known word nearest to a mistyped one, if any is close.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).saturating_add(1))
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut previous = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (j, cb) in b.iter().enumerate() {
            let above = row.get(j.saturating_add(1)).copied().unwrap_or(usize::MAX);
            let change = previous.saturating_add(usize::from(ca != *cb));
            left = change.min(above.saturating_add(1)).min(left.saturating_add(1));
            previous = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec {
            name: "static",
            kind: OptionKind::Bool,
            default: Some("off"),
            help: "preallocate",
        },
        OptionSpec { name: "comment", kind: OptionKind::Text, default: None, help: "a note" },
    ];

    #[test]
    fn a_doubled_comma_is_a_comma_and_the_last_value_wins() {
        let options = Options::parse("comment=a,,b,static=on,static=off", SPECS).unwrap();
        assert_eq!(options.text("comment"), Some("a,b"));
        assert_eq!(options.bool("static"), Some(false));
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest_one() {
        let error = Options::parse("statik=on", SPECS).unwrap_err();
        assert_eq!(error.message(), "Invalid parameter 'statik'");
        assert_eq!(error.hint().unwrap().to_string(), "did you mean 'static'?");
        assert_eq!(Options::parse("zzz=on", SPECS).unwrap_err().hint(), None);
    }

    #[test]
    fn a_bad_bool_is_refused_in_the_words_scripts_know() {
        for (words, wanted) in
            [(["on", "yes", "true", "y"], true), (["off", "no", "false", "n"], false)]
        {
            for word in words {
                let options = Options::parse(&format!("static={word}"), SPECS).unwrap();
                assert_eq!(options.bool("static"), Some(wanted), "{word}");
            }
        }
        for word in ["maybe", "1", "YES", ""] {
            let error = Options::parse(&format!("static={word}"), SPECS).unwrap_err();
            assert_eq!(error.message(), "Parameter 'static' expects 'on' or 'off'");
        }
    }
}
