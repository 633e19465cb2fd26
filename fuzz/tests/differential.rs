//! Changed images read by our driver and by stock `qemu-img`: if both read an image, they read the same.
//!
//! Known differences are left out: images that only one of the two opens, entries that point past the end of the file
//! (an error here, zeros there), and images with private bytes before blocks (`block_extra`), which `qemu-img` does not
//! skip.

use std::fs;
use std::path::Path;
use std::process::Command;

use block_fuzz::differential::{changed_image, our_reading};

/// Position of `block_extra` in a header, in bytes.
const BLOCK_EXTRA: std::ops::Range<usize> = 0x17C..0x180;

/// Returns the number of images: `BLOCK_DIFFERENTIAL`, or as many as take a few seconds.
fn cases() -> u64 {
    std::env::var("BLOCK_DIFFERENTIAL").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}

fn has_stock_tool() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    let required = std::env::var_os("BLOCK_REQUIRE_ORACLES").is_some();
    assert!(found || !required, "qemu-img is not installed");
    found
}

/// Returns the disk as `qemu-img` reads it, with limits on memory and time. `None` if it refuses the image.
fn stock_reading(file: &Path) -> Option<Vec<u8>> {
    let raw = file.with_extension("raw");
    let limits = "ulimit -v 4000000; exec timeout 20 qemu-img convert -f vdi -O raw \"$1\" \"$2\"";
    let output = Command::new("sh").args(["-c", limits, "sh"]).arg(file).arg(&raw).output().ok()?;
    output.status.success().then(|| fs::read(&raw).expect("the converted disk"))
}

#[test]
fn changed_images_read_as_stock_tools_read_them() {
    if !has_stock_tool() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("image.vdi");
    let (mut compared, mut differing) = (0, Vec::new());
    for seed in 0..cases() {
        let image = changed_image(seed);
        let Some(ours) = our_reading(&image) else { continue };
        if image.get(BLOCK_EXTRA) != Some(&[0; 4]) {
            continue;
        }
        fs::write(&path, &image).expect("room for an image");
        if let Some(theirs) = stock_reading(&path) {
            compared += 1;
            if ours != theirs {
                differing.push(seed);
            }
        }
    }
    println!("{compared} of {} images read by both", cases());
    assert!(differing.is_empty(), "other content with the seeds {differing:?}");
    assert!(compared * 10 >= cases(), "only {compared} of {} images compared", cases());
}
