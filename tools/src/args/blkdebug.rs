//! Translation of `blkdebug`, QEMU's filter that injects errors, to our filter `fault`.
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

use std::collections::BTreeMap;

/// The name and the value of an option.
type Pair = (String, String);

const DRIVER: &str = "blkdebug";
const RULE: &str = "inject-error.";

/// Replaces each `blkdebug` node among `pairs` by `fault`. Fails with what `fault` does not support.
pub(super) fn as_fault(pairs: Vec<Pair>) -> Result<Vec<Pair>, String> {
    let Some(node) = pairs.iter().find_map(|(name, value)| {
        name.strip_suffix("driver").filter(|_| value == DRIVER).map(str::to_owned)
    }) else {
        return Ok(pairs);
    };
    // `blkdebug` at the top means a raw image in the filter, as for any protocol.
    let (at_top, file) = (node.is_empty(), if node.is_empty() { "file." } else { node.as_str() });
    let mut rules = BTreeMap::<usize, Vec<Pair>>::new();
    let mut rest = Vec::new();
    for (name, value) in pairs {
        let Some(own) = name.strip_prefix(node.as_str()) else {
            rest.push((name, value));
            continue;
        };
        match own {
            "driver" => rest.push((format!("{file}driver"), "fault".to_owned())),
            "image.driver" if matches!(value.as_str(), "file" | "host_device") => {}
            "image.driver" => return Err(format!("it stands on a file here, not on '{value}'")),
            "image.filename" | "image.path" => rest.push((format!("{file}filename"), value)),
            _ => {
                let rule = own.strip_prefix(RULE).and_then(|rule| rule.split_once('.'));
                let Some((number, word)) = rule else {
                    match own.strip_prefix("image.").or(Some(own).filter(|_| is_general(own))) {
                        Some(word) => rest.push((format!("{file}{word}"), value)),
                        None => return Err(format!("'{own}' is not supported")),
                    }
                    continue;
                };
                let number = number.parse().map_err(|_| format!("'{own}' has no number"))?;
                rules.entry(number).or_default().push((word.to_owned(), value));
            }
        }
    }
    let rules = rules.values().map(|words| rule(words)).collect::<Result<Vec<_>, _>>()?;
    rest.push((format!("{file}rules"), rules.join(";")));
    if at_top {
        rest.push(("driver".to_owned(), "raw".to_owned()));
    }
    Ok(rest)
}

/// Whether any node accepts this option. Here it has no effect.
fn is_general(name: &str) -> bool {
    ["read-only", "node-name", "discard", "detect-zeroes", "cache.direct", "cache.no-flush"]
        .contains(&name)
}

/// Translates one rule of `blkdebug` to one of `fault`.
fn rule(words: &[Pair]) -> Result<String, String> {
    let (mut op, mut iotype, mut once, mut rest) = (None, None, false, String::new());
    for (name, value) in words {
        match name.as_str() {
            "event" => op = Some(event(value)?),
            "iotype" => iotype = Some(io_type(value)?),
            "errno" => match value.as_str() {
                "5" => rest.push_str(",error=eio"),
                "28" => rest.push_str(",error=enospc"),
                _ => return Err(format!("errno is 5 (EIO) or 28 (ENOSPC) here, not {value}")),
            },
            "sector" => {
                let sector: Option<u64> = value.parse().ok();
                let at = sector.and_then(|sector| sector.checked_mul(512));
                let at = at.ok_or_else(|| format!("sector {value} is no sector of a file"))?;
                rest.push_str(&format!(",at={at}"));
            }
            "once" => once = matches!(value.as_str(), "on" | "true" | "yes" | "y"),
            // Whether a request fails at its start or at its end cannot be observed.
            "immediately" => {}
            _ => return Err(format!("'inject-error' has no '{name}' here")),
        }
    }
    let op = op.ok_or("'inject-error' needs an event")?;
    let op = match (op, iotype) {
        ("any", iotype) => iotype.unwrap_or("any"),
        (op, None) => op,
        (op, Some(iotype)) if op == iotype => op,
        (op, Some(iotype)) => return Err(format!("an event of a {op} with an iotype of {iotype}")),
    };
    let times = if once { 1 } else { u64::MAX };
    Ok(format!("op={op},times={times}{rest}"))
}

/// Returns the kind of request to which a QEMU event belongs.
fn event(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "read_aio" | "pread" => "read",
        "write_aio" | "pwritev" => "write",
        "pwritev_zero" => "zero",
        "flush_to_os" | "flush_to_disk" => "flush",
        "none" => "any",
        _ => {
            return Err(format!(
                "the event '{name}' does not happen here; those that do are none, read_aio, write_aio, pwritev, pwritev_zero, flush_to_os, flush_to_disk"
            ));
        }
    })
}

fn io_type(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "read" => "read",
        "write" => "write",
        "write-zeroes" | "discard" => "zero",
        "flush" => "flush",
        _ => return Err(format!("the iotype '{name}' does not happen here")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<String, String> {
        let pairs = text.split(',').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        let pairs = as_fault(pairs.collect())?;
        Ok(pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn its_rules_are_those_of_the_filter() {
        assert_eq!(
            told("driver=vdi,file.driver=blkdebug,file.image.driver=file,file.image.filename=a,file.inject-error.0.event=pwritev,file.inject-error.0.errno=28,file.inject-error.0.sector=3,file.inject-error.0.once=on,file.inject-error.1.event=none,file.inject-error.1.iotype=flush"),
            Ok("driver=vdi file.driver=fault file.filename=a file.rules=op=write,times=1,error=enospc,at=1536;op=flush,times=18446744073709551615".to_owned())
        );
        assert_eq!(
            told("driver=blkdebug,image.filename=a"),
            Ok("file.driver=fault file.filename=a file.rules= driver=raw".to_owned())
        );
        assert_eq!(told("driver=raw,file.filename=a"), Ok("driver=raw file.filename=a".to_owned()));
    }

    #[test]
    fn what_it_cannot_do_is_refused_by_name() {
        let start = "driver=blkdebug,image.filename=a,";
        for (words, said) in [
            ("set-state.0.event=pwritev", "'set-state.0.event'"),
            ("config=c", "'config'"),
            ("inject-error.0.event=l2_update", "l2_update"),
            ("inject-error.0.event=pwritev,inject-error.0.errno=13", "13"),
            ("inject-error.0.errno=5", "event"),
            ("inject-error.0.event=pwritev,inject-error.0.state=2", "'state'"),
            ("inject-error.0.event=pwritev,inject-error.0.iotype=read", "iotype of read"),
            ("inject-error.0.event=pwritev,inject-error.0.sector=-1", "sector -1"),
            ("inject-error.0.event=pwritev,inject-error.0.sector=99999999999999999999", "sector 9"),
            ("image.driver=nbd", "nbd"),
        ] {
            let error = told(&format!("{start}{words}")).unwrap_err();
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}
