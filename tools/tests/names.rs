//! Names that steer a terminal, begin a line, or are not UTF-8: every command takes them, and prints none as it is.

mod common;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output};

use common::noise;
use tempfile::TempDir;

/// A line end, escape sequences of seven and eight bits, an override of the direction, a byte that is no UTF-8.
const NASTY: &[u8] = b"a\nb\x1b[31m\xc2\x9b1m\xe2\x80\xae\xe9\r\x7f\xe2\x80\xa8";

/// What a name becomes on a line.
const SHOWN: &str = "a\\nb\\u{1b}[31m\\u{9b}1m\\u{202e}\\xe9\\r\\u{7f}\\u{2028}";

/// Command lines. `@` is the start of each name, either a plain one or the nasty one.
const LINES: &[&str] = &[
    "info @.vdi",
    "info -b --parent @.vdi @.child.vdi",
    "info --output=json @.vdi",
    "info -b --output=json --parent @.vdi @.child.vdi",
    "info --image-opts driver=vdi,file.driver=file,file.filename=@.vdi",
    "info @.missing",
    "info @.missing/@.vdi",
    "info @:@",
    "info @://@",
    "info file:@.vdi",
    "info .",
    "info json:@",
    "info --image-opts @=@",
    "info --image-opts driver=@,file.filename=@.vdi",
    "info -f @ @.vdi",
    "info --output=@ @.vdi",
    "info --allow @.dir --vbox @.vbox @.vdi",
    "info --vbox @.missing @.vdi",
    "info --vbox @.raw @.vdi",
    "info --parent @.missing @.child.vdi",
    "create -f vdi @.new 1M",
    "create -f vdi -b @.vdi -F vdi @.new",
    "create -f vdi -b @.missing @.new",
    "create -f raw -o @=1 @.new 1M",
    "create -f @ @.new 1M",
    "create @.new @",
    "create @.missing/@.new 1M",
    "convert @.vdi @.new",
    "convert --verify -O vdi @.vdi @.new",
    "convert --parent @.vdi @.child.vdi @.new",
    "convert -n @.vdi @.missing",
    "convert @.missing @.new",
    "convert -B @.vdi -F vdi -O vdi @.vdi @.new",
    "convert -O @ @.vdi @.new",
    "convert -t @ @.vdi @.new",
    "convert -m @ @.vdi @.new",
    "check @.vdi",
    "check --output=json @.vdi",
    "check @.raw",
    "check @.missing",
    "check @.gz",
    "map @.vdi",
    "map --output=json @.vdi",
    "map --picture @.vdi",
    "map --svg - @.vdi",
    "map --svg @.svg --png @.png @.vdi",
    "map --svg @.missing/@ @.vdi",
    "compare @.vdi @.raw",
    "compare @.vdi @.missing",
    "resize @.vdi +1M",
    "resize @.raw -1M",
    "resize @.vdi @",
    "resize @.missing +1M",
    "measure -O vdi @.vdi",
    "measure --output=json @.vdi",
    "measure -s @",
    "dd -f vdi if=@.vdi of=@.new",
    "dd if=@.missing of=@.new",
    "dd @",
    "dd if=@.vdi of=@.new bs=@",
    "rebase --parent @.vdi -b @.copy.vdi @.child.vdi",
    "rebase --parent @.vdi -b @.missing @.child.vdi",
    "rebase -b @.vdi @.raw",
    "commit --parent @.vdi @.child.vdi",
    "commit --parent @.vdi -b @.missing @.child.vdi",
    "commit @.vdi",
    "amend -o uuid=11111111-2222-4333-8444-555555555555 @.vdi",
    "amend -o uuid=@ @.vdi",
    "amend -o @=1 @.vdi",
    "amend -o uuid=x @.missing",
    "snapshot -l @.vdi",
    "snapshot -c @ @.vdi",
    "snapshot -a @ @.vdi",
    "snapshot -d @ @.vdi",
    "bitmap --add @.vdi @",
    "bench -q -c 1 @.vdi",
    "bench -c 1 @.missing",
    "bench -c @ @.vdi",
    "probe @.vdi",
    "probe --output=json @.vdi",
    "probe @.missing",
    "inspect @.vdi",
    "inspect --deep @.vdi",
    "inspect --output=json @.vdi",
    "inspect --accept @ @.vdi",
    "inspect --policy @ @.vdi",
    "inspect @.missing",
    "chain --parent @.vdi @.child.vdi",
    "chain --output=json --parent @.vdi @.child.vdi",
    "chain @.missing",
    "compact @.vdi",
    "compact --output=json @.vdi",
    "compact @.raw",
    "diff @.vdi @.raw",
    "diff --output=json @.vdi @.raw",
    "diff @.vdi @.missing",
    "digest @.vdi @.raw",
    "digest --output=json @.vdi @.raw",
    "digest @.missing",
    "formats --output=@",
    "explain @",
    "completions @",
    "man @.dir",
    "man @.raw",
    "@",
    "--@",
    "info --@",
    "info @.vdi @.vdi",
];

/// A folder whose files are called `start` and a suffix.
struct Case {
    dir: TempDir,
    start: OsString,
}

impl Case {
    fn new(start: &[u8]) -> Self {
        let case = Self { dir: TempDir::new().unwrap(), start: OsString::from_vec(start.to_vec()) };
        let path = |suffix: &str| case.dir.path().join(case.word(&format!("@{suffix}")));
        fs::write(path(".raw"), [noise(1, 1 << 20), vec![0; 1 << 20]].concat()).unwrap();
        fs::write(path(".gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03").unwrap();
        fs::write(path(".vbox"), VBOX).unwrap();
        fs::create_dir(path(".dir")).unwrap();
        for line in [
            "convert -f raw -O vdi @.raw @.vdi",
            "convert -f raw -O vdi @.raw @.copy.vdi",
            "create -q -f vdi -b @.vdi -F vdi @.child.vdi",
        ] {
            let output = case.run(line);
            assert!(output.status.success(), "{line}: {output:?}");
        }
        case
    }

    /// A word with the start of the names in its place.
    fn word(&self, word: &str) -> OsString {
        let parts: Vec<&[u8]> = word.split('@').map(str::as_bytes).collect();
        OsString::from_vec(parts.join(self.start.as_bytes()))
    }

    fn run(&self, line: &str) -> Output {
        self.run_words(line.split(' ').map(|word| self.word(word)))
    }

    fn run_words(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_block-img"));
        command.args(words).current_dir(self.dir.path());
        command.env("LC_ALL", "C.UTF-8").env("COLUMNS", "80").output().unwrap()
    }
}

const VBOX: &str = r#"<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux"><Machine name="m"><MediaRegistry><HardDisks>
</HardDisks></MediaRegistry></Machine></VirtualBox>"#;

/// The lines of an output in which nothing steers a terminal.
#[track_caller]
fn lines(line: &str, bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|why| panic!("{line}: {why}: {bytes:?}"));
    let steers = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(*c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{10ff80}'..='\u{10ffff}')
    };
    assert_eq!(text.chars().find(steers), None, "{line}: {text:?}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn no_command_prints_a_name_that_steers() {
    let mut shown = 0;
    let mut commands = BTreeSet::new();
    for line in LINES {
        let (plain, nasty) = (Case::new(b"as_long_as_that_"), Case::new(NASTY));
        let (of_plain, of_nasty) = (plain.run(line), nasty.run(line));
        assert_eq!(of_nasty.status, of_plain.status, "{line}: {of_nasty:?} {of_plain:?}");
        for (plain, nasty) in
            [(&of_plain.stdout, &of_nasty.stdout), (&of_plain.stderr, &of_nasty.stderr)]
        {
            let (plain, nasty) = (lines(line, plain), lines(line, nasty));
            let json = line.contains("=json");
            if !json || nasty.is_empty() {
                assert_eq!(nasty.len(), plain.len(), "{line}: {nasty:#?} {plain:#?}");
            }
            shown += nasty.iter().filter(|line| line.contains(SHOWN)).count();
        }
        if line.contains("=json") {
            serde_json::from_slice::<serde_json::Value>(&of_nasty.stdout)
                .unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        commands.insert(line.split(' ').next().unwrap_or_default().to_owned());
    }
    assert!(shown > 60, "names are shown at all: {shown}");
    let known = block_img::command(&block_img::registry());
    for command in known.get_subcommands() {
        assert!(commands.contains(command.get_name()), "no line for {}", command.get_name());
    }
}

#[test]
fn names_that_are_not_utf_8_work_in_every_place() {
    for start in [&b"caf\xe9"[..], b"caf\xe9/d\xff", b"\xf4\x8f\xbf\xa9"] {
        let dir = TempDir::new().unwrap();
        let file = Path::new(OsStr::from_bytes(start));
        fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        let case = Case { dir, start: file.as_os_str().to_owned() };
        let content = noise(1, 1 << 20);
        fs::write(case.dir.path().join(case.word("@.raw")), &content).unwrap();
        for line in [
            "convert -f raw -O vdi @.raw @.vdi",
            "info file:@.vdi",
            "info --image-opts driver=vdi,file.filename=@.vdi",
            "create -f vdi -b @.vdi -F vdi @.child.vdi",
            "info --parent @.vdi @.child.vdi",
            "chain --parent @.vdi @.child.vdi",
            "check @.vdi",
            "map @.vdi",
            "compare @.vdi @.raw",
            "diff @.vdi @.raw",
            "digest @.vdi",
            "probe @.vdi",
            "inspect @.vdi",
            "measure @.vdi",
            "bench -q -c 1 @.vdi",
            "snapshot -l @.vdi",
            "amend -q -o uuid=11111111-2222-4333-8444-555555555555 @.vdi",
            "rebase -q -u -b @.vdi -F vdi @.child.vdi",
            "commit -q --parent @.vdi @.child.vdi",
            "convert -f vdi -O vdi -B @.vdi -F vdi @.vdi @.other.vdi",
            "dd if=@.vdi of=@.dd",
            "map --svg @.svg --png @.png @.vdi",
            "convert -n -O raw @.vdi @.dd",
            "compare @.dd @.raw",
            "compact -q @.vdi",
            "resize -q @.vdi +1M",
            "man @.man",
        ] {
            let output = case.run(line);
            assert!(output.status.success(), "{line}: {output:?}");
        }
        assert_eq!(fs::read(case.dir.path().join(case.word("@.dd"))).unwrap(), content);
        // As far as JSON can hold the name: in the argument it does.
        let json = [&b"json:{\"driver\":\"raw\",\"file\":{\"filename\":\""[..], start, b".raw\"}}"];
        let output = case.run_words([OsStr::new("info"), OsStr::from_bytes(&json.concat())]);
        assert!(output.status.success(), "{output:?}");
        let expected: BTreeSet<OsString> =
            [".raw", ".vdi", ".child.vdi", ".other.vdi", ".dd", ".svg", ".png", ".man"]
                .iter()
                .map(|suffix| {
                    case.dir.path().join(case.word(&format!("@{suffix}"))).into_os_string()
                })
                .collect();
        let folder = case.dir.path().join(file);
        let found: BTreeSet<OsString> = fs::read_dir(folder.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path().into_os_string())
            .collect();
        assert_eq!(found, expected, "each file under its own name, and no other");
    }
}

#[test]
fn a_name_with_a_line_end_is_one_line_of_digest_as_of_sha256sum() {
    let case = Case::new(b"x\n0000  y\\");
    let ours = case.run("digest @.raw");
    let theirs = Command::new("sha256sum")
        .arg(case.word("@.raw"))
        .current_dir(case.dir.path())
        .output()
        .unwrap();
    let name = |line: &[u8]| {
        let line = String::from_utf8(line.to_vec()).unwrap();
        assert_eq!(line.lines().count(), 1);
        let (hash, name) =
            line.trim_end().split_once("  ").map(|(h, n)| (h.to_owned(), n.to_owned())).unwrap();
        (hash.starts_with('\\'), name)
    };
    assert_eq!(name(&ours.stdout), name(&theirs.stdout));
}
