//! Filters on the command line: before the file (`file.driver=`) and before the disk (`driver=`).

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Folder, noise};

fn folder() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    let mut bytes = vec![0; 4 << 20];
    bytes[1 << 20..3 << 20].copy_from_slice(&noise(3, 2 << 20));
    fs::write(folder.file("a.raw"), &bytes).unwrap();
    folder.ours("convert -f raw -O vdi a.raw a.vdi").ok();
    (folder, bytes)
}

#[test]
fn every_filter_passes_the_same_bytes_on() {
    let (folder, bytes) = folder();
    for options in [
        "driver=vdi,file.driver=stats,file.filename=a.vdi",
        "driver=vdi,file.driver=log,file.filename=a.vdi",
        "driver=vdi,file.driver=throttle,file.bps=1G,file.filename=a.vdi",
        "driver=vdi,file.driver=fault,file.after=1000000,file.filename=a.vdi",
        "driver=vdi,file.driver=overlay,file.filename=a.vdi",
        "driver=stats,file.filename=a.vdi",
        "driver=log,format=vdi,file.filename=a.vdi",
        "driver=throttle,iops=100000,file.filename=a.vdi",
        "driver=fault,op=flush,file.filename=a.vdi",
        "driver=stats,format=vdi,file.driver=overlay,file.filename=a.vdi",
    ] {
        let ran = folder.ours(&format!("convert --image-opts -O raw {options} b.raw"));
        assert_eq!(ran.status, 0, "{options}: {ran:?}");
        assert!(fs::read(folder.file("b.raw")).unwrap() == bytes, "{options}");
        fs::remove_file(folder.file("b.raw")).unwrap();
    }
    folder.ours("info overlay:stats:a.vdi").ok();
    folder.ours("info --image-opts driver=stats,format=log,file.filename=a.vdi").fails(1);
    folder
        .ours("info --image-opts driver=vdi,file.driver=fault,file.op=x,file.filename=a.vdi")
        .fails(1);
}

#[test]
fn every_filter_passes_the_same_writes_on() {
    let (folder, _) = folder();
    let work = "bench -w -q -c 40 -s 12k -S 20k --pattern 9";
    folder.ours(&format!("{work} a.raw -f raw")).ok();
    let wanted = fs::read(folder.file("a.raw")).unwrap();
    for options in [
        "driver=raw,file.driver=stats,file.filename=b.raw",
        "driver=stats,format=raw,file.filename=b.raw",
        "driver=log,format=raw,file.filename=b.raw",
        "driver=throttle,iops=100000,format=raw,file.filename=b.raw",
        "driver=fault,after=1000000,format=raw,file.filename=b.raw",
    ] {
        for cache in ["writeback", "none"] {
            folder.ours("convert -O raw a.vdi b.raw").ok();
            folder.ours(&format!("{work} -t {cache} --image-opts {options}")).ok();
            assert!(fs::read(folder.file("b.raw")).unwrap() == wanted, "{cache}: {options}");
        }
    }
}

#[test]
fn a_fault_surfaces_and_names_the_file() {
    let (folder, _) = folder();
    for options in [
        "driver=vdi,file.driver=fault,file.op=read,file.after=3,file.filename=a.vdi",
        "driver=fault,op=read,after=1,file.filename=a.vdi",
    ] {
        let ran = folder.ours(&format!("convert --image-opts -O raw {options} b.raw")).fails(1);
        assert!(ran.err.contains("injected: read"), "{options}: {ran:?}");
        assert!(!folder.file("b.raw").exists() && folder.leftovers().is_empty(), "{options}");
    }
    // Full while blocks are allocated: the request fails, the image stays sound.
    folder.ours("create -q -f vdi c.vdi 64M").ok();
    let options = "driver=vdi,file.driver=fault,file.op=write,file.after=9,file.error=enospc,file.filename=c.vdi";
    let ran = folder
        .ours(&format!("bench -w -q -d 1 -c 32 -s 1M --flush-interval 4 --image-opts {options}"))
        .fails(1);
    assert!(ran.err.contains("injected: write"), "{ran:?}");
    let check = folder.ours("check c.vdi");
    assert!(matches!(check.status, 0 | 3), "{check:?}");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_salvaged() {
    let (folder, bytes) = folder();
    // The piece as a whole and its first units fail; past the page cache, a piece is tried once more.
    let cases = [("writeback", 1, 1), ("writeback", 1, 30), ("none", 2, 3)];
    // With `-S 0`, zeros are not looked for, and what was lost is written like the rest.
    let cases = cases.into_iter().flat_map(|case| [(case, ""), (case, "-S 0")]);
    for ((cache, tries, units), sparse) in cases {
        let times = tries + units;
        let options =
            format!("driver=fault,format=raw,op=read,after=2,times={times},file.filename=a.raw");
        let line = format!("convert -m 1 -T {cache} {sparse} --image-opts -O raw {options}");
        folder.ours(&format!("{line} b.raw")).fails(1);
        let ran = folder.ours(&format!("{line} --salvage --verify b.raw")).ok();
        let lost = units * 4096;
        let summary = format!("warning: {lost} bytes could not be read and are zeros in 'b.raw'");
        assert!(ran.err.contains(&summary), "{ran:?}");
        // One range, told once with its length.
        assert_eq!(ran.err.matches("warning: error while reading offset").count(), 1, "{ran:?}");
        assert!(ran.err.contains(&format!("({lost} bytes from there)")), "{ran:?}");
        // The third piece, in memory that held the noise of the second one.
        let mut wanted = bytes.clone();
        wanted[2 << 20..][..lost].fill(0);
        let copied = fs::read(folder.file("b.raw")).unwrap();
        assert!(copied == wanted, "{cache}, {units} {sparse}");
        fs::remove_file(folder.file("b.raw")).unwrap();
    }
}

#[test]
fn an_overlay_keeps_what_is_written_to_itself() {
    let (folder, _) = folder();
    let before = fs::read(folder.file("a.vdi")).unwrap();
    let options = "driver=vdi,file.driver=overlay,file.filename=a.vdi";
    folder.ours(&format!("bench -w -q -c 40 -s 64k --pattern 9 --image-opts {options}")).ok();
    assert!(fs::read(folder.file("a.vdi")).unwrap() == before);
    folder.ours("bench -w -q -c 40 -s 64k --pattern 9 a.vdi").ok();
    assert!(fs::read(folder.file("a.vdi")).unwrap() != before, "without it, the file changes");
}

#[test]
fn a_throttle_slows_down_by_what_it_is_told() {
    let (folder, _) = folder();
    for options in [
        "driver=vdi,file.driver=throttle,file.bps=8M,file.filename=a.vdi",
        "driver=throttle,bps=8M,file.filename=a.vdi",
    ] {
        let start = Instant::now();
        folder.ours(&format!("bench -q -c 32 -s 64k -d 1 -o 1M --image-opts {options}")).ok();
        // 2 MiB at 8 MiB/s.
        assert!(start.elapsed() >= Duration::from_millis(240), "{options}: {:?}", start.elapsed());
    }
}
