//! Compares the catalogue of formats with the recognisers and the test vectors. No format may be missing from any of
//! the three.

use std::collections::BTreeSet;

use crate::images::registry;
use crate::{containers, hints, wrappers};

/// The catalogue: one row per format, with the names used here for its variants.
const CATALOGUE: &[(&str, &[&str])] = &[
    ("qcow1", &["qcow1"]),
    ("qcow2 v2, v3 and others", &["qcow2"]),
    ("qed", &["qed"]),
    ("vdi 1.1 and 0.x", &["vdi"]),
    ("vhd dynamic", &["vhd"]),
    ("vhd diff", &["vhd-diff"]),
    ("vhd fixed, footers of 512 and 511 bytes", &["vhd-fixed"]),
    ("vhdx", &["vhdx"]),
    ("avhdx", &["avhdx"]),
    ("vmdk sparse", &["vmdk"]),
    ("vmdk streamOptimized", &["vmdk-stream"]),
    ("vmdk ESXi COWD", &["vmdk-cowd"]),
    ("vmdk seSparse", &["vmdk-sesparse"]),
    ("parallels v1 and ext", &["parallels"]),
    ("dmg, trailer last and first", &["dmg"]),
    ("dmg encrypted v1 and v2", &["dmg-encrypted"]),
    ("apple sparseimage", &["sparseimage"]),
    ("apple ASIF", &["asif"]),
    ("bochs growing", &["bochs"]),
    ("bochs sparse", &["bochs-sparse"]),
    ("cloop v2", &["cloop"]),
    ("LUKS1", &["luks1"]),
    ("LUKS2", &["luks2"]),
    ("EWF E01", &["ewf"]),
    ("EWF L01", &["ewf-logical"]),
    ("EWF2 Ex01, Lx01", &["ewf2", "ewf2-logical"]),
    ("AFF v1", &["aff"]),
    ("AFF4", &["aff4"]),
    ("android sparse", &["android-sparse"]),
    ("xen/tap VHD", &["vhd-tap"]),
    ("UML/QEMU cow", &["cow"]),
    ("libvirt save", &["libvirt-save"]),
    ("QEMU VM state", &["qemu-vmstate"]),
    ("vmdk descriptor", &["vmdk-descriptor"]),
    ("parallels bundle", &["parallels-bundle"]),
    ("VISO", &["viso"]),
    ("OVF", &["ovf"]),
    ("VirtualBox machine", &["vbox"]),
    ("sparsebundle", &["sparsebundle"]),
    ("CUE", &["cue"]),
    ("AWS import manifest", &["import-manifest"]),
    ("iso9660, primary first or later", &["iso9660"]),
    ("High Sierra", &["high-sierra"]),
    ("iso raw 2352", &["iso-raw-2352"]),
    ("udf, bridge", &["udf"]),
    ("squashfs 4", &["squashfs"]),
    ("WIM / ESD", &["wim", "esd"]),
    ("tar", &["tar"]),
    ("OVA", &["ova"]),
    ("zip", &["zip"]),
    ("7z / xar / cab / rpm", &["7z", "xar", "cab", "rpm"]),
    ("gzip", &["gzip"]),
    ("GCP tarball", &["gcp-tarball"]),
    ("xz", &["xz"]),
    ("zstd", &["zstd"]),
    ("bzip2", &["bzip2"]),
    ("lz4 frame / legacy", &["lz4"]),
    ("lzip / lzma-alone / compress / lzop", &["lzip", "lzma", "compress", "lzop"]),
    ("zlib stream", &["zlib"]),
];

/// The catalogue of partition tables and file systems.
const HINTS: &[&str] = &[
    "mbr",
    "gpt",
    "apm",
    "fat",
    "exfat",
    "ntfs",
    "refs",
    "bitlocker",
    "ext",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "erofs",
    "hfs+",
    "hfsx",
    "hfs",
    "apfs",
    "swap",
    "nilfs2",
    "reiserfs",
    "jfs",
    "lvm2",
    "md-raid",
    "vmfs",
    "bcache",
    "dm-verity",
    "dm-integrity",
    "vdo",
    "stratis",
    "bluestore",
    "ubi",
    "cramfs",
    "romfs",
    "android-super",
    "android-vbmeta",
];

fn set<'a>(ids: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    ids.into_iter().collect()
}

#[test]
fn every_format_of_the_catalogue_has_a_recogniser_and_a_vector() {
    let catalogue = set(CATALOGUE.iter().flat_map(|(_, ids)| ids.iter().copied()));
    let mut built = set(block_inspect::CATALOGUE.recognisers().map(|recogniser| recogniser.id));
    let registry = registry();
    let drivers = registry.drivers().into_iter().map(|driver| driver.descriptor().name);
    built.extend(drivers.filter(|name| *name != "raw"));
    assert_eq!(built, catalogue, "recognisers and drivers (left) and the catalogue (right)");
    let rows = [containers::rows(), wrappers::wrapper_rows(), wrappers::disc_rows()];
    let mut seen = set(rows.iter().flatten().map(|row| row.0));
    let weak = containers::weak_rows();
    seen.extend(weak.iter().map(|row| row.0));
    seen.extend(wrappers::WEAK.iter().map(|row| row.0));
    assert_eq!(seen, catalogue, "vectors (left) and the catalogue (right)");
}

#[test]
fn every_hint_of_the_catalogue_has_a_vector() {
    let rows = hints::rows();
    assert_eq!(set(rows.iter().map(|row| row.0)), set(HINTS.iter().copied()));
}
