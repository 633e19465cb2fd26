//! The same command lines given to us and to the stock tool: the same JSON, the same status, the same bytes.

mod common;

use common::{Folder, assert_shared_fields_equal, noise, oracles};

/// Images of both formats, written by both tools: raw sparse, raw odd, raw empty; vdi from each side.
fn images(folder: &Folder) -> Vec<&'static str> {
    let content =
        [(0, noise(1, 5000)), (1 << 20, noise(2, 65536)), ((5 << 20) + 12345, noise(3, 700_000))];
    folder.raw("sparse.raw", 9 << 20, &content);
    folder.raw("odd.raw", (3 << 20) + 77, &[(0, noise(4, 100)), (3 << 20, noise(5, 77))]);
    folder.raw("hole.raw", 4 << 20, &[]);
    folder.theirs("convert -f raw -O vdi sparse.raw theirs.vdi").ok();
    folder.theirs("convert -f raw -O vdi -o static=on sparse.raw theirs-static.vdi").ok();
    folder.theirs("convert -W -m 16 -f raw -O vdi sparse.raw theirs-any-order.vdi").ok();
    folder.theirs("create -q -f vdi empty.vdi 100M").ok();
    folder.ours("convert -f raw -O vdi sparse.raw ours.vdi").ok();
    folder.ours("convert -f raw -O vdi -o static=on sparse.raw ours-static.vdi").ok();
    folder.ours("convert -f raw -O vdi -o layout=qemu odd.raw ours-odd.vdi").ok();
    vec![
        "sparse.raw",
        "odd.raw",
        "hole.raw",
        "theirs.vdi",
        "theirs-static.vdi",
        "theirs-any-order.vdi",
        "empty.vdi",
        "ours.vdi",
        "ours-static.vdi",
        "ours-odd.vdi",
    ]
}

#[track_caller]
fn same_json(folder: &Folder, line: &str) {
    let (ours, theirs) = (folder.ours(line), folder.theirs(line));
    assert_eq!(ours.status, theirs.status, "{line}: {ours:?} {theirs:?}");
    if theirs.out.is_empty() {
        assert_eq!(ours.out, "", "{line}");
        return;
    }
    assert_shared_fields_equal(&ours.json(), &theirs.json(), line);
}

#[test]
fn json_and_status_of_what_reads_an_image_are_the_same() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    for image in images(&folder) {
        for line in [
            format!("info --output=json {image}"),
            format!("info --output json -U {image}"),
            format!("info {image} --output json --backing-chain"),
            format!("check --output=json {image}"),
            format!("map --output=json {image}"),
            format!("map --output=json -s 1M -l 3M {image}"),
            format!("measure --output=json {image}"),
            format!("measure --output=json -O raw {image}"),
        ] {
            same_json(&folder, &line);
        }
        let format = if image.ends_with("vdi") { "vdi" } else { "raw" };
        same_json(&folder, &format!("info -f {format} --output=json {image}"));
        same_json(
            &folder,
            &format!("info --image-opts --output=json driver={format},file.filename={image}"),
        );
    }
    same_json(&folder, "measure --output=json --size 3G");
}

#[test]
fn the_status_of_a_check_tells_a_damaged_image_as_the_stock_tool_does() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    folder.theirs("create -q -f vdi sound.vdi 8M").ok();
    folder.qemu_io("vdi", "sound.vdi", &["write -P 1 0 1M", "write -P 2 1M 1M"]);
    let sound = std::fs::read(folder.file("sound.vdi")).unwrap();
    let entry = |block: usize| 0x200 + 4 * block;
    let cases: [(&str, usize, u32, (i32, i32)); 5] = [
        ("sound", entry(0), 0, (0, 0)),
        ("shared", entry(1), 0, (2, 2)),
        // Stock reads zeros where the file has ended, and finds nothing.
        ("past-end", entry(1), 7, (2, 0)),
        ("too-large", entry(1), 8, (2, 2)),
        // A counter above the slots in use costs space and no data: a leak, where stock says corruption.
        ("count", 0x184, 3, (3, 2)),
    ];
    for (name, at, value, statuses) in cases {
        let mut bytes = sound.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(folder.file("damaged.vdi"), bytes).unwrap();
        for line in ["check damaged.vdi", "check --output=json damaged.vdi"] {
            let (ours, theirs) = (folder.ours(line), folder.theirs(line));
            assert_eq!((ours.status, theirs.status), statuses, "{name}: {ours:?} {theirs:?}");
        }
        let line = "check --output=json damaged.vdi";
        let (ours, theirs) = (folder.ours(line).json(), folder.theirs(line).json());
        for field in ["check-errors", "filename", "format"] {
            assert_eq!(ours[field], theirs[field], "{name}");
        }
        assert_eq!(ours["corruptions"].is_u64(), statuses.0 == 2, "{name}: {ours}");
    }
}

#[test]
fn human_output_is_the_same_where_scripts_read_it() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    for image in images(&folder) {
        let (ours, theirs) = (
            folder.ours(&format!("info {image}")).ok().out,
            folder.theirs(&format!("info {image}")).ok().out,
        );
        for line in theirs.lines() {
            assert!(ours.lines().any(|known| known == line), "{image}: '{line}' is not in\n{ours}");
        }
        let line = format!("map {image}");
        assert_eq!(folder.ours(&line).ok().out, folder.theirs(&line).ok().out, "{line}");
    }
    let line = "check ours.vdi";
    let ours = folder.ours(line).ok().out;
    assert!(ours.starts_with("No errors were found on the image.\n"), "{ours}");
}

#[test]
fn what_one_writes_the_other_reads_the_same() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    for image in images(&folder) {
        for format in ["raw", "vdi"] {
            let copy = format!("copy-of-{image}.{format}");
            folder.ours(&format!("convert -O {format} {image} {copy}")).ok();
            folder.theirs(&format!("compare {image} {copy}")).ok();
            folder.ours(&format!("compare {image} {copy}")).ok();
            if format == "vdi" {
                let checked = folder.theirs(&format!("check {copy}")).ok();
                assert!(checked.out.contains("No errors were found"), "{checked:?}");
            }
        }
    }
    assert_eq!(folder.leftovers(), Vec::<String>::new());
}

#[test]
fn comparisons_end_with_the_same_words_and_status() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    let base = noise(7, 3 << 20);
    let mut changed = base.clone();
    changed[(2 << 20) + 700] ^= 2;
    folder.raw("a", 4 << 20, &[(0, base.clone())]);
    folder.raw("b", 4 << 20, &[(0, changed)]);
    folder.raw("longer", 5 << 20, &[(0, base.clone())]);
    folder.raw("longer-data", 5 << 20, &[(0, base.clone()), ((4 << 20) + 9000, noise(8, 600))]);
    folder.raw("zero", 4 << 20, &[]);
    folder.theirs("convert -f raw -O vdi a a.vdi").ok();
    let lines = [
        "compare a a",
        "compare -q a b",
        "compare a b",
        "compare b a",
        "compare a longer",
        "compare longer a",
        "compare a longer-data",
        "compare zero a",
        "compare a zero",
        "compare -s a longer",
        "compare -s a zero",
        "compare a a.vdi",
        "compare -f raw -F vdi a a.vdi",
        "compare -f raw -F raw a a.vdi",
        "compare a missing",
        "compare missing a",
        "compare -T none a b",
        "compare -T none a a.vdi",
        "compare -T none a.vdi b",
        "compare -T none a longer-data",
        "compare -T none zero a",
    ];
    for line in lines {
        let (ours, theirs) = (folder.ours(line), folder.theirs(line));
        assert_eq!((ours.status, &ours.out), (theirs.status, &theirs.out), "{line}: {ours:?}");
    }
}

#[test]
fn sizes_are_created_and_changed_alike() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    for size in ["0", "1", "1000", "1M", "1.5M", ".5k", "0x1000", "+7b", "1536k"] {
        for format in ["raw", "vdi"] {
            // VirtualBox, which reads what we write, refuses an empty disk; the stock tool makes one.
            if size == "0" && format == "vdi" {
                folder.ours("create -f vdi -o layout=qemu ours 0").ok();
                continue;
            }
            let line = |name: &str| format!("create -f {format} {name} {size}");
            let ours = folder.ours(&line("ours"));
            let theirs = folder.theirs(&line("theirs"));
            assert_eq!(ours.status, theirs.status, "{size} {format}: {ours:?} {theirs:?}");
            assert_eq!(ours.out.replace("ours", "theirs"), theirs.out, "{size}");
            let info = |name: &str| folder.theirs(&format!("info --output=json {name}")).json();
            assert_eq!(info("ours")["virtual-size"], info("theirs")["virtual-size"], "{size}");
        }
    }
    for size in ["abc", "1MB", "1e3", "-1", "9E", "", "1.5"] {
        let ours = folder.ours_with(&["create", "ours", size]);
        let theirs = folder.stock("qemu-img", &["create", "theirs", size]);
        assert_eq!(ours.status, theirs.status, "{size}: {ours:?}");
    }
    for line in [
        "resize -f raw IMAGE 2M",
        "resize -f raw IMAGE +512k",
        "resize -f raw IMAGE +0",
        "resize IMAGE +1M",
        "resize -f raw IMAGE -1M",
        "resize -f raw --shrink IMAGE -1M",
        "resize --shrink -q -f raw IMAGE 1M",
        "resize -f raw --shrink IMAGE -50M",
        "resize -f raw IMAGE 1x",
        "resize IMAGE",
        "resize -f raw missing 1M",
    ] {
        for name in ["ours", "theirs"] {
            if line.ends_with("IMAGE 2M") {
                folder.raw(name, 1 << 20, &[(0, noise(1, 4096))]);
            }
        }
        let ours = folder.ours(&line.replace("IMAGE", "ours"));
        let theirs = folder.theirs(&line.replace("IMAGE", "theirs"));
        assert_eq!((ours.status, &ours.out), (theirs.status, &theirs.out), "{line}: {ours:?}");
        assert!(folder.same_bytes("ours", "theirs"), "{line}");
    }
}

#[test]
fn dd_copies_the_same_blocks() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    folder.raw("in", (1 << 20) + 1024, &[(1000, noise(9, 300_000))]);
    for words in [
        "if=in of=OUT",
        "bs=1M if=in of=OUT",
        "if=in of=OUT bs=4096 count=3",
        "if=in of=OUT bs=4096 skip=2 count=9",
        "of=OUT if=in bs=1k skip=5000",
        "-f raw -O raw if=in of=OUT bs=64k skip=1",
        "if=in",
        "if=in of=OUT bs=0",
        "if=in of=OUT seek=1",
    ] {
        let ours = folder.ours(&format!("dd {}", words.replace("OUT", "ours")));
        let theirs = folder.theirs(&format!("dd {}", words.replace("OUT", "theirs")));
        assert_eq!((ours.status, &ours.out), (theirs.status, &theirs.out), "{words}: {ours:?}");
        if ours.status == 0 {
            assert!(folder.same_bytes("ours", "theirs"), "{words}");
        }
    }
}

#[test]
fn refusals_have_the_same_status_and_first_words() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    folder.raw("a.raw", 1 << 20, &[]);
    folder.raw("small.raw", 1 << 19, &[]);
    folder.theirs("create -q -f vdi a.vdi 1M").ok();
    let mut wrong = Vec::new();
    let mut check = |right: bool, what: String| {
        if !right {
            wrong.push(what);
        }
    };
    // (command line, how much of the message after the program's name scripts may match)
    for (line, matched) in [
        (
            "info missing",
            "Could not open 'missing': Could not open 'missing': No such file or directory",
        ),
        ("info -f nope a.raw", "Could not open 'a.raw': Unknown driver 'nope'"),
        ("info -f vdi a.raw", "Could not open 'a.raw': "),
        ("info", ""),
        ("info a.raw a.vdi", ""),
        ("info --nope a.raw", ""),
        ("info --output=xml a.raw", "--output expects 'human' or 'json' not 'xml'"),
        ("nope", "Command not found: nope"),
        ("convert a.raw", "Must specify image file name"),
        ("convert -O nope a.raw b", "Unknown file format 'nope'"),
        ("convert -c -O vdi a.raw b", "Compression not supported for this file format"),
        ("convert -n a.raw small.raw", "output file is smaller than input file"),
        ("convert -n a.raw missing", "Could not open 'missing'"),
        ("convert --target-is-zero a.raw b", "--target-is-zero requires use of -n flag"),
        ("convert -S 1000 a.raw b", "Invalid buffer size for sparse output specified."),
        ("convert -m 17 a.raw b", "Invalid number of coroutines specified."),
        ("convert -C -S 4k a.raw b", "Cannot enable copy offloading when -S is used"),
        ("convert -t nope a.raw b", "Invalid cache option: nope"),
        (
            "convert a.raw nowhere/b",
            "nowhere/b: error while converting raw: Could not create 'nowhere/b': No such file",
        ),
        ("create -f vdi b", "b: Image creation needs a size parameter"),
        ("create -f vdi -o nope=1 b 1M", "b: Invalid parameter 'nope'"),
        ("create -f vdi -o static=maybe b 1M", "b: Parameter 'static' expects 'on' or 'off'"),
        ("create -f nope b 1M", "b: Unknown file format 'nope'"),
        ("create -f vdi b abc", "Invalid image size specified: 'abc'."),
        ("create b 1M 2M", "Unexpected argument: 2M"),
        ("check a.raw", "This image format does not support checks"),
        ("check missing", "Could not open 'missing'"),
        ("measure", "Either --size N or one filename must be specified."),
        ("measure --size 1M a.raw", "--size N cannot be used together with a filename."),
        ("commit a.vdi", "Image does not have a backing file"),
        ("rebase a.raw", "Must specify backing file (-b) or use unsafe mode (-u)"),
        ("snapshot -c s a.vdi", "Could not create snapshot 's': Operation not supported"),
        ("snapshot -a s a.vdi", "Could not apply snapshot 's'"),
        ("snapshot -d s a.vdi", "Could not delete snapshot 's'"),
        ("amend -f raw -o x=1 a.raw", "Format driver 'raw' does not support option amendment"),
        ("resize a.vdi 512k", "Use the --shrink option"),
    ] {
        let ours = folder.ours(line);
        assert!(!folder.file("b").exists(), "{line} left a file");
        let theirs = folder.theirs(line);
        let _ = std::fs::remove_file(folder.file("b"));
        check(ours.status == theirs.status, format!("{line}: {ours:?} {theirs:?}"));
        let message = |err: &str| {
            let err = err.replace("WARNING", "qemu-img: WARNING");
            err.split_once(": ").map_or(String::new(), |(_, message)| message.to_owned())
        };
        if line != "resize a.vdi 512k" {
            check(message(&theirs.err).starts_with(matched), format!("{line}: stock {theirs:?}"));
        }
        check(message(&ours.err).starts_with(matched), format!("{line}: {ours:?}"));
    }
    for line in
        ["snapshot -l a.vdi", "snapshot -l a.raw", "create -f vdi -o help", "--version", "--help"]
    {
        assert_eq!(folder.ours(line).status, folder.theirs(line).status, "{line}");
    }
}

#[test]
fn options_of_convert_do_the_same() {
    if !oracles() {
        return;
    }
    let folder = Folder::new();
    let content =
        [(4096, noise(1, 4096)), (1 << 20, vec![0; 1 << 20]), (3 << 20, noise(2, 100_000))];
    folder.raw("a.raw", 6 << 20, &content);
    let zeros_in_it = [noise(4, 70_000), vec![0; 100_000], noise(5, 30_000)].concat();
    folder.raw("c.raw", 3 << 20, &[((1 << 20) - 90_000, zeros_in_it)]);
    folder.raw("b.raw", 1 << 20, &[(512, noise(3, 512))]);
    let allocated = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(folder.file(name)).unwrap().blocks() * 512
    };
    for options in [
        "-O raw a.raw",
        "-f raw -O raw -p a.raw",
        "-O raw -S 0 a.raw",
        "-O raw -S 64k a.raw",
        "-O vdi a.raw",
        "-O vdi -m 16 -W a.raw",
        "-O vdi -t writeback a.raw",
        "-O vdi -t none -T none a.raw",
        "-O raw -t none -T none c.raw",
        "-O vdi -t none c.raw",
        "-O raw a.raw b.raw",
        "-O vdi a.raw b.raw a.raw",
        "-O raw -o size=8M a.raw",
        "-O vdi -o static=on a.raw",
        "-O raw -r 100M a.raw",
        "-O raw -U a.raw",
        "-O raw --salvage a.raw",
    ] {
        for name in ["ours", "theirs"] {
            let _ = std::fs::remove_file(folder.file(name));
        }
        let ours = folder.ours(&format!("convert {options} ours")).ok();
        let theirs = folder.theirs(&format!("convert {options} theirs")).ok();
        let last = |out: &str| out.rsplit('\r').nth(1).map(str::to_owned);
        assert_eq!(last(&ours.out), last(&theirs.out), "{options}");
        folder.theirs("compare -q ours theirs").ok();
        if options.contains("-O raw") {
            let (ours, theirs) = (allocated("ours"), allocated("theirs"));
            // The file system's list of extents may take a block of its own.
            assert!(ours <= theirs + 4096, "{options}: {ours} bytes stored against {theirs}");
            let full = 6 << 20;
            assert!(!options.contains("-S 0") || ours >= full, "{options}: {ours} bytes stored");
        }
    }
    for name in ["ours", "theirs"] {
        folder.raw(name, 8 << 20, &[(0, noise(9, 8 << 20))]);
    }
    folder.ours("convert -n a.raw ours").ok();
    folder.theirs("convert -n a.raw theirs").ok();
    folder.theirs("compare -q ours theirs").ok();
}
