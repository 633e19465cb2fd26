//! A copy is the same whatever the number of threads, and lies in the order of the guest.
#![allow(missing_docs)]

mod common;

use common::{Folder, noise};

const MIB: u64 = 1 << 20;

#[test]
fn many_threads_make_the_same_image() {
    let folder = Folder::new();
    // Data, with a zero page or two in some pieces; whole pieces of zeros; holes; many small extents.
    let mut content = vec![(3 * MIB, vec![0; 5 * MIB as usize])];
    for piece in (0..3).chain(12..60) {
        let mut bytes = noise(piece, MIB as usize);
        let at = (piece as usize * 4096 * 7) % bytes.len();
        bytes[at..at + 4096].fill(0);
        content.push((piece * MIB, bytes));
    }
    for small in 0..200 {
        content.push((64 * MIB + small * 65536, noise(small, 4096)));
    }
    folder.raw("a.raw", 80 * MIB, &content);
    let where_blocks_lie =
        |image: &str| folder.ours(&format!("map --output=json {image}")).ok().out;
    folder.ours("convert -m 1 -f raw -O vdi a.raw one.vdi").ok();
    let in_order = where_blocks_lie("one.vdi");
    for words in ["", "-m 2", "-m 8", "-m 16", "-m 8 -W", "-T none", "-T none -t none -m 8"] {
        folder.ours(&format!("convert {words} -f raw -O vdi a.raw b.vdi")).ok();
        if !words.contains("-W") {
            assert_eq!(where_blocks_lie("b.vdi"), in_order, "{words}");
        }
        folder.ours("convert -m 1 -f vdi -O raw b.vdi b.raw").ok();
        assert!(folder.same_bytes("a.raw", "b.raw"), "{words}");
        folder.ours(&format!("convert {words} -f vdi -O raw b.vdi c.raw")).ok();
        assert!(folder.same_bytes("a.raw", "c.raw"), "{words}");
    }
}
