//! The options of `qemu-img` 10.0.2, a word for each option: its spellings, joined by `|`.

/// Command and options.
pub const OPTIONS: &[(&str, &str)] = &[
    (
        "create",
        "-f|--format -o|--options -b|--backing -F|--backing-format -u|--backing-unsafe -q|--quiet --object --help",
    ),
    (
        "info",
        "-f|--format --output -b|--backing-chain -U|--force-share --image-opts --object --help",
    ),
    (
        "convert",
        "-f|--source-format -O|--output-format|--target-format -o|--options|--target-options -p|--progress -c|--compress \
         -n|--no-create -t|--target-cache -T|--source-cache -S|--sparse-size -m|--parallel|--num-coroutines \
         -W|--oob-writes -U|--force-share -q|--quiet -C|--copy-range-offloading -r|--rate \
         -l|--snapshot|--source-snapshot -B|--backing -F|--backing-format --target-is-zero --salvage --bitmaps \
         --skip-broken-bitmaps --image-opts|--source-image-opts --target-image-opts --object --help",
    ),
    (
        "check",
        "-f|--format --output -r|--repair -T|--cache -U|--force-share -q|--quiet --image-opts --object --help",
    ),
    (
        "map",
        "-f|--format --output -s|--start-offset -l|--max-length -U|--force-share --image-opts --object --help",
    ),
    (
        "compare",
        "-f|--a-format -F|--b-format -s|--strict -p|--progress -q|--quiet -T|--cache -U|--force-share --image-opts \
         --object --help",
    ),
    ("resize", "-f|--format --shrink --preallocation -q|--quiet --image-opts --object --help"),
    (
        "measure",
        "-O|--target-format -o|--options --output -s|--size -f|--format -l|--snapshot \
         -U|--force-share --image-opts --object --help",
    ),
    (
        "dd",
        "-f|--format -O|--output-format -U|--force-share --image-opts --object --help bs= count= skip= if= of=",
    ),
    (
        "rebase",
        "-f|--format -t|--cache -T|--backing-cache -b|--backing -F|--backing-format -u|--backing-unsafe -p|--progress \
         -q|--quiet -U|--force-share -c|--compress --image-opts --object --help",
    ),
    (
        "commit",
        "-f|--format -t|--cache -b|--base -d|--drop -r|--rate -p|--progress -q|--quiet --image-opts --object --help",
    ),
    (
        "amend",
        "-o|--options -f|--format -t|--cache -p|--progress -q|--quiet --force --image-opts --object --help",
    ),
    (
        "snapshot",
        "-l|--list -c|--create -a|--apply -d|--delete -f|--format -q|--quiet -U|--force-share --image-opts --object --help",
    ),
    (
        "bench",
        "-c|--count -d|--depth -s|--buffer-size -S|--step-size -o|--offset -w|--write --pattern --flush-interval \
         --no-drain -t|--cache -i|--aio -n|--native -U|--force-share -f|--format -q|--quiet --image-opts --help",
    ),
];

/// Those of `bitmap`, which takes any words here, to refuse them.
pub const OPTIONS_OF_BITMAP: &str = "--add --remove --clear --enable --disable --merge -g|--granularity \
     -b|--source-file -F|--source-format -f|--format --image-opts --object --help";

/// Those before the command.
pub const OPTIONS_OF_PROGRAM: &str = "-h|--help -V|--version -T|--trace";

/// Whether `word` of a command line is the option `spelling`, with or without a value.
pub fn is_option(word: &str, spelling: &str) -> bool {
    let rest = match word.strip_prefix(spelling) {
        Some(rest) => rest,
        None => return false,
    };
    let long = spelling.starts_with("--");
    rest.is_empty() || spelling.ends_with('=') || (long && rest.starts_with('='))
}
