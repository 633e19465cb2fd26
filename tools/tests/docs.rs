//! Help, manual pages, completions and the options of `qemu-img`: one grammar, said four times.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command as Process, Stdio};

use clap::{Arg, Command};
use common::Folder;
use common::stock_options::OPTIONS;

fn grammar() -> Command {
    let mut command = block_img::command(&block_img::registry());
    command.build();
    command
}

/// `-x` and `--long` of an option, all its aliases with it.
fn spellings(arg: &Arg) -> Vec<String> {
    let short = arg.get_short_and_visible_aliases().unwrap_or_default();
    let long = arg.get_long_and_visible_aliases().unwrap_or_default();
    let short = short.into_iter().map(|name| format!("-{name}"));
    short.chain(long.into_iter().map(|name| format!("--{name}"))).collect()
}

/// What a reader is to be told of: the visible options.
fn shown(command: &Command) -> Vec<String> {
    command.get_arguments().filter(|arg| !arg.is_hide_set()).flat_map(spellings).collect()
}

fn subcommands(command: &Command) -> Vec<&Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect()
}

#[test]
fn every_option_of_the_stock_tool_is_taken() {
    let grammar = grammar();
    for (name, options) in OPTIONS {
        let command = grammar.find_subcommand(name).unwrap_or_else(|| panic!("no {name}"));
        let known: BTreeSet<String> = command
            .get_arguments()
            .flat_map(|arg| {
                let short = arg.get_short_and_visible_aliases().unwrap_or_default();
                let long =
                    arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default());
                let hidden = arg.get_all_short_aliases().unwrap_or_default();
                let short = short.into_iter().chain(hidden).map(|name| format!("-{name}"));
                short.chain(long.map(|name| format!("--{name}"))).collect::<Vec<_>>()
            })
            .collect();
        let options = options.split([' ', '|']).filter(|option| option.starts_with('-'));
        let missing: Vec<&str> = options.filter(|option| !known.contains(*option)).collect();
        assert!(missing.is_empty(), "{name} does not take {missing:?}");
    }
}

#[test]
fn help_names_every_command_and_option() {
    let folder = Folder::new();
    let grammar = grammar();
    let main = folder.ours("--help").ok().out;
    for command in subcommands(&grammar) {
        let name = command.get_name();
        let lists = |line: &str| line.split_whitespace().next() == Some(name);
        assert!(main.lines().any(lists), "--help does not list {name}: {main}");
        let help = folder.ours(&format!("{name} --help")).ok().out;
        for option in shown(command) {
            assert!(has_word(&help, &option), "'{name} --help' does not tell of {option}: {help}");
        }
    }
}

/// Whether `word` stands in `text`, not as a part of a longer option.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn the_manual_has_a_page_for_every_command_and_a_line_for_every_option() {
    let folder = Folder::new();
    let written = folder.ours("man pages").ok().out;
    let grammar = grammar();
    let mut pages = 0;
    for line in written.lines() {
        let page = plain(&fs::read_to_string(folder.file(line)).unwrap());
        assert!(
            page.contains(".SH NAME") && page.contains(".SH \"EXIT STATUS\""),
            "{line}: {page}"
        );
        let name = line.trim_start_matches("pages/block-img").trim_end_matches(".1");
        let name = name.trim_start_matches('-');
        let command = match name {
            "" => &grammar,
            _ => grammar.find_subcommand(name).unwrap_or_else(|| panic!("a page for {name}")),
        };
        for option in shown(command) {
            assert!(has_word(&page, &option), "{line} does not tell of {option}: {page}");
        }
        pages += 1;
    }
    assert_eq!(pages, subcommands(&grammar).len() + 1, "{written}");
    let main = folder.ours("man").ok().out;
    assert_eq!(main, fs::read_to_string(folder.file("pages/block-img.1")).unwrap());
}

/// A page without what selects its fonts.
fn plain(page: &str) -> String {
    let mut text = page.replace("\\-", "-");
    for font in ["\\fR", "\\fB", "\\fI"] {
        text = text.replace(font, " ");
    }
    text
}

#[test]
fn the_manual_is_set_without_complaints() {
    let folder = Folder::new();
    folder.ours("man pages").ok();
    for page in ["block-img.1", "block-img-convert.1", "block-img-check.1"] {
        let path = folder.file(&format!("pages/{page}"));
        let set = Process::new("groff").args(["-k", "-man", "-Tutf8", "-ww"]).arg(&path).output();
        let Ok(set) = set else {
            eprintln!("SKIPPED: groff is not installed");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&set.stderr), "", "{page}");
        assert!(set.stdout.len() > 500, "{page}");
    }
}

#[test]
fn completions_know_every_command_and_option() {
    let folder = Folder::new();
    let grammar = grammar();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = folder.ours(&format!("completions {shell}")).ok().out;
        for command in subcommands(&grammar) {
            assert!(has_word(&script, command.get_name()), "{shell}: {}", command.get_name());
            let longs = command.get_arguments().filter(|arg| !arg.is_hide_set());
            for long in longs.filter_map(Arg::get_long) {
                // Fish names an option without its dashes.
                let known =
                    script.contains(&format!("--{long}")) || script.contains(&format!("-l {long}"));
                assert!(known, "{shell}: {} --{long}", command.get_name());
            }
        }
    }
    assert_eq!(folder.ours("completions tcsh").status, 1);
}

#[test]
fn bash_takes_the_script_and_completes_with_it() {
    let folder = Folder::new();
    fs::write(folder.file("script"), folder.ours("completions bash").ok().out).unwrap();
    let ask = "source ./script; COMP_WORDS=(block-img comp); COMP_CWORD=1; \
               _block__img block-img comp block-img; echo \"${COMPREPLY[@]}\"";
    let ran = folder.stock("bash", &["--norc", "-c", ask]).ok();
    let words: BTreeSet<&str> = ran.out.split_whitespace().collect();
    for wanted in ["compare", "compact", "completions"] {
        assert!(words.contains(wanted), "{ran:?}");
    }
}

#[test]
fn the_version_is_where_scripts_look_for_it_and_says_what_is_built_in() {
    let folder = Folder::new();
    let ran = folder.ours("--version").ok();
    let mut lines = ran.out.lines();
    let first = lines.next().unwrap();
    let number = first.strip_prefix("block-img version ").expect(first).split(' ').next().unwrap();
    assert_eq!(number.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{first}");
    assert!(ran.out.contains("formats: ") && ran.out.contains("vdi"), "{}", ran.out);
    assert!(ran.out.contains("protocols: file"), "{}", ran.out);
    assert_eq!(folder.ours("-V").ok().out, ran.out);
    let program = folder.file("qemu-img");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_block-img"), &program).unwrap();
    let version = Process::new(&program).arg("--version").stderr(Stdio::null()).output().unwrap();
    assert!(version.stdout.starts_with(b"qemu-img version 10."));
}
