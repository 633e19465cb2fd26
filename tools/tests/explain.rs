//! Every code that an error or a finding can carry is explained, and nothing else is.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use block_inspect::Code;
use common::Folder;

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The codes in the sources of the drivers and of the core: what `with_code` is given, and what looks
/// like `vdi.map.duplicate`.
fn codes_in_sources() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    let mut rooms = 0;
    for entry in fs::read_dir(&root).unwrap() {
        let room = entry.unwrap();
        if room.file_name().to_string_lossy().starts_with("block-") {
            sources(&room.path().join("src"), &mut files);
            rooms += 1;
        }
    }
    assert!(rooms >= 4, "{rooms} crates in {}", root.display());
    let mut codes = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // What stands in tests is nobody's promise.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        if file.to_string_lossy().contains("testkit") || file.ends_with("codes.rs") {
            continue;
        }
        for part in text.split("with_code(").skip(1) {
            let given = part.trim_start().strip_prefix('"').and_then(|part| part.split('"').next());
            codes.extend(given.map(str::to_owned));
        }
        codes.extend(text.split('"').filter(|word| is_finding_code(word)).map(str::to_owned));
    }
    codes
}

fn is_finding_code(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let plain =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    parts.len() == 3 && parts.iter().all(plain) && ["vdi", "raw"].contains(&parts[0])
}

#[test]
fn every_code_of_errors_and_checks_is_explained() {
    let folder = Folder::new();
    let codes = codes_in_sources();
    assert!(codes.contains("vdi.map.duplicate") && codes.contains("image-locked"), "{codes:?}");
    for code in codes {
        let ran = folder.ours(&format!("explain {code}"));
        assert_eq!(ran.status, 0, "{code} is not explained: {}", ran.err);
        assert!(ran.out.contains(&code) && ran.out.len() > code.len() + 40, "{}", ran.out);
    }
}

/// Whether a text of a library names options or commands of this program.
fn speaks_the_command_line(text: &str) -> bool {
    let words =
        ["'check", "`check", "'amend", "`amend", "'compact", "block-img", "check -r", "amend -o"];
    let options = text.split([' ', '(', '\'', '`']).any(|word| {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        name.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    options || words.iter().any(|word| text.contains(word))
}

#[test]
fn libraries_advise_without_naming_options_of_this_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for room in ["block-core", "block-file", "block-inspect", "block-raw", "block-vdi"] {
        sources(&root.join(room).join("src"), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for part in text.split("with_hint(").skip(1) {
            // The first text of the call, if it has one.
            let call = part.split(';').next().unwrap_or_default();
            let hint = call.split('"').nth(1).unwrap_or_default();
            assert!(!speaks_the_command_line(hint), "{}: {hint}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} hints");
    assert!(speaks_the_command_line("say so with '-f raw'"), "the test would not see one");
}

#[test]
fn every_explained_code_is_used_and_explained_once() {
    let used = codes_in_sources();
    let registry = block_img::registry();
    let mut known = BTreeSet::new();
    for code in registry.codes() {
        assert!(known.insert(code.code), "{} is explained twice", code.code);
        assert!(used.contains(code.code), "{} is explained and not used", code.code);
        assert!(!code.meaning.ends_with('.') && code.remedy.ends_with('.'), "{code:?}");
        assert!(!speaks_the_command_line(code.remedy), "{code:?}");
    }
    assert!(known.len() > 20);
}

#[test]
fn every_finding_of_inspect_is_explained_in_either_spelling() {
    let folder = Folder::new();
    assert!(Code::ALL.len() > 40);
    for code in Code::ALL {
        let ran = folder.ours(&format!("explain {code}")).ok();
        assert!(ran.out.contains(code.meaning()), "{code}: {}", ran.out);
        let other = code.as_str().to_ascii_lowercase().replace('_', "-");
        assert_eq!(folder.ours(&format!("explain {other}")).ok().out, ran.out);
    }
}

#[test]
fn programs_get_every_explanation_as_json() {
    let folder = Folder::new();
    let all = folder.ours("explain --output=json").ok().out;
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), block_img::registry().codes().count() + Code::ALL.len());
    for known in all {
        let code = known["code"].as_str().unwrap();
        assert!(known["meaning"].as_str().unwrap().len() > 5, "{code}");
        assert!(known["remedy"].as_str().unwrap().ends_with('.'), "{code}");
    }
    let one = folder.ours("explain --output=json vdi.map.duplicate").ok().out;
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert!(all.contains(&one), "{one}");
}

#[test]
fn a_code_in_a_message_can_be_asked_for() {
    let folder = Folder::new();
    fs::write(folder.file("x.raw"), [0; 512]).unwrap();
    let err = folder.ours("info -f nonsense x.raw").fails(1).err;
    let code = err.lines().find_map(|line| line.strip_prefix("code: ")).expect(&err);
    folder.ours(&format!("explain {}", code.split(' ').next().unwrap())).ok();
    let ran = folder.ours("explain no-such-code-at-all").fails(1);
    assert!(ran.err.contains("no-such-code-at-all"), "{}", ran.err);
}
