//! The lines of `-p`, byte for byte as stock prints them where a raw disk is stored whole.

mod common;

use common::{Folder, noise, oracles};

#[test]
fn progress_has_the_steps_of_stock() {
    if !oracles() {
        return;
    }
    for megabytes in [1u64, 3, 8, 10, 250] {
        let folder = Folder::new();
        folder.raw("a.raw", megabytes << 20, &[(0, noise(megabytes, (megabytes as usize) << 20))]);
        for line in [
            "convert -p -f raw -O raw a.raw b.raw",
            "convert -p -f raw -O vdi a.raw b.vdi",
            "convert -p -m 16 -W -f raw -O raw a.raw b.raw",
            "compare -p -f raw -F raw a.raw b.raw",
        ] {
            let theirs = folder.theirs(line).ok();
            let ours = folder.ours(line).ok();
            assert_eq!(ours.out, theirs.out, "{megabytes} MiB: {line}");
            assert!(ours.out.contains("(100.00/100%)\r"));
        }
    }
}
