//! QEMU's own formats: all versions of qcow, qed, and the obsolete cow.

use block_core::probe::Location;
use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::{fits, multiple, power_of_two, within};
use block_core::probe::{Placement, Probe};

pub(crate) const ALL: &[Recogniser] = &[
    Recogniser::new("qcow1", qcow1),
    Recogniser::new("qcow2", qcow2),
    Recogniser::new("qed", qed),
    Recogniser::new("cow", cow),
];

const QFI: &[u8] = b"QFI\xFB";

fn qcow1(input: &ProbeInput) -> Probe {
    if input.u32_be(4) != Some(1) {
        return Probe::of("qcow1", input).name(&["qcow"]).done();
    }
    let cluster_bits = input.u8(32);
    let l2_bits = input.u8(33);
    let size = input.u64_be(24);
    let table = size.zip(cluster_bits.zip(l2_bits)).and_then(|(size, (cluster, l2))| {
        let reach = 1u64.checked_shl(u32::from(cluster).checked_add(u32::from(l2))?)?;
        size.div_ceil(reach).checked_mul(8)
    });
    let l1 = input.u64_be(40);
    Probe::of("qcow1", input)
        .placement(Placement::Header)
        .signature(0, QFI)
        .version((4, 4), "1", true)
        .structure("cluster bits", (32, 1), "9 to 16", within(cluster_bits, 9..=16))
        .structure("table bits", (33, 1), "6 to 13", within(l2_bits, 6..=13))
        .structure("disk size", (24, 8), "more than 1", size.is_some_and(|size| size > 1))
        .structure("encryption", (36, 4), "0 or 1", within(input.u32_be(36), 0..=1))
        .structure("L1 offset", (40, 8), "48 or more", l1.is_some_and(|l1| l1 >= 48))
        .structure(
            "L1 table",
            (40, 8),
            "at most 32 MiB and inside the file",
            table.is_some_and(|table| table <= 32 << 20) && fits(input, l1, table, 1 << 16),
        )
        .at_most(90)
        .payload_from(48)
        .name(&["qcow"])
        .done()
}

fn qcow2(input: &ProbeInput) -> Probe {
    let version = input.u32_be(4);
    if version == Some(1) {
        return Probe::of("qcow2", input).name(&["qcow2"]).done();
    }
    let probe = Probe::of("qcow2", input)
        .placement(Placement::Header)
        .signature(0, QFI)
        .version((4, 4), "2 or 3", within(version, 2..=3))
        .name(&["qcow2"]);
    if !probe.is_signed() || !within(version, 2..=3) {
        return probe.payload_from(1 << 16).done();
    }
    let bits = input.u32_be(20);
    let cluster = bits.filter(|bits| (9..=21).contains(bits)).map_or(1 << 16, |bits| 1u64 << bits);
    let l1_entries = input.u32_be(36).map(u64::from);
    let l1_len = l1_entries.and_then(|entries| entries.checked_mul(8));
    let l1 = input.u64_be(40);
    let size = input.u64_be(24);
    let v3 = version == Some(3);
    // Each L1 entry covers one cluster of L2 entries. L2 entries are twice as long with extended L2.
    let entry = if v3 && input.u64_be(72).is_some_and(|bits| bits & 0x10 != 0) { 16 } else { 8 };
    let reach = cluster.checked_div(entry).and_then(|entries| entries.checked_mul(cluster));
    let covered = l1_entries.zip(reach).and_then(|(count, reach)| count.checked_mul(reach));
    let refcounts = input.u64_be(48);
    let refcount_len = input.u32_be(56).map(u64::from).and_then(|n| n.checked_mul(cluster));
    let snapshots = input.u32_be(60).map(u64::from);
    let backing = input.u64_be(8).unwrap_or(0);
    let probe = probe
        .variant(if v3 { "v3" } else { "v2" })
        .structure("cluster bits", (20, 4), "9 to 21", within(bits, 9..=21))
        .structure(
            "L1 table",
            (40, 8),
            "on a cluster, at most 32 MiB, inside the file",
            multiple(l1, cluster)
                && l1_len.is_some_and(|len| len <= 32 << 20)
                && fits(input, l1, l1_len, cluster),
        )
        .structure(
            "L1 entries",
            (36, 4),
            "enough for the disk size",
            size.zip(covered).is_some_and(|(size, covered)| size <= covered && size < 1 << 63),
        )
        .structure(
            "refcount table",
            (48, 8),
            "on a cluster, at most 8 MiB, inside the file",
            multiple(refcounts, cluster)
                && refcount_len.is_some_and(|len| len > 0 && len <= 8 << 20)
                && fits(input, refcounts, Some(1), 0),
        )
        .structure(
            "snapshot table",
            (60, 4),
            "at most 65536 entries inside the file",
            snapshots == Some(0)
                || (within(snapshots, 0..=65536)
                    && fits(input, input.u64_be(64), snapshots.and_then(|n| n.checked_mul(40)), 0)),
        )
        .degraded(
            "backing name",
            (16, 4),
            "1 to 1023 bytes",
            backing != 0 && !within(input.u32_be(16), 1..=1023),
        )
        .payload_from(cluster);
    let extensions = extensions(input);
    let probe = if v3 {
        let header = input.u32_be(100).map(u64::from);
        let features = input.u64_be(72);
        let data_file = features.is_some_and(|bits| bits & 4 != 0);
        probe
            .structure(
                "header length",
                (100, 4),
                "104 to a cluster, a multiple of 8",
                multiple(header, 8) && within(header, 104..=cluster),
            )
            .structure("refcount order", (96, 4), "0 to 6", within(input.u32_be(96), 0..=6))
            .structure(
                "incompatible features",
                (72, 8),
                "bits 0 to 4 only",
                features.is_some_and(|bits| bits >> 5 == 0),
            )
            .degraded(
                "state",
                (79, 1),
                "neither dirty nor corrupt",
                features.is_some_and(|bits| bits & 3 != 0),
            )
            .degraded(
                "data file name",
                (79, 1),
                "an extension with the name of the data file",
                data_file && !extensions.list.iter().any(|e| e.id == DATA_FILE),
            )
            .at_most(95)
    } else {
        probe.at_most(90)
    };
    let at = Location::start(extensions.end, 8);
    let probe =
        probe.structure("header extensions", at, "inside the first cluster", !extensions.overrun);
    match slack(input, &extensions, cluster) {
        Some((from, len)) => probe.slack((from, len)).done(),
        None => probe.done(),
    }
}

/// Returns the range from the end of the header to the end of its cluster, as far as it was read.
fn slack(input: &ProbeInput, extensions: &Extensions, cluster: u64) -> Option<(u64, u32)> {
    if !extensions.complete || extensions.overrun {
        return None;
    }
    let backing = input.u64_be(8)?;
    let backing_end =
        if backing == 0 { 0 } else { backing.checked_add(input.u32_be(16)?.into())? };
    let from = extensions.end.max(backing_end);
    Some((from, u32::try_from(cluster.checked_sub(from)?.min(1 << 16)).ok()?))
}

pub(crate) const DATA_FILE: u32 = 0x4441_5441;

/// A header extension of qcow2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension {
    /// Extension type.
    pub(crate) id: u32,
    /// Byte offset of the data from the start of the file.
    pub(crate) offset: u64,
    /// Length of the data in bytes.
    pub(crate) len: u32,
}

/// The header extensions that were read.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    /// All extensions except the end marker.
    pub(crate) list: Vec<Extension>,
    /// Offset past the last extension.
    pub(crate) end: u64,
    /// Whether an extension extends past the first cluster.
    pub(crate) overrun: bool,
    /// Whether the end of the extensions was reached.
    pub(crate) complete: bool,
}

/// Walks the header extensions of a qcow2 image, at most 200.
pub(crate) fn extensions(input: &ProbeInput) -> Extensions {
    let start = match input.u32_be(4) {
        Some(3) => input.u32_be(100).map_or(104, u64::from),
        _ => 72,
    };
    let cluster =
        input.u32_be(20).filter(|bits| (9..=21).contains(bits)).map_or(512, |b| 1u64 << b);
    // The backing file's name follows the extensions, and ends them if there is no end marker.
    let stop = input.u64_be(8).filter(|at| *at > start).map_or(cluster, |at| at.min(cluster));
    let mut found = Extensions { end: start, ..Extensions::default() };
    for _ in 0..200 {
        if found.end.saturating_add(8) > stop {
            found.complete = true;
            found.overrun = found.end > cluster;
            return found;
        }
        let (Some(id), Some(len)) =
            (input.u32_be(found.end), input.u32_be(found.end.saturating_add(4)))
        else {
            return found;
        };
        let offset = found.end.saturating_add(8);
        if id == 0 {
            found.end = offset;
            found.complete = true;
            return found;
        }
        let end = offset.saturating_add(u64::from(len));
        if end > cluster {
            found.overrun = true;
            return found;
        }
        found.list.push(Extension { id, offset, len });
        found.end = end.next_multiple_of(8);
    }
    found
}

fn qed(input: &ProbeInput) -> Probe {
    let cluster = input.u32_le(4).map(u64::from);
    let features = input.u64_le(16);
    Probe::of("qed", input)
        .placement(Placement::Header)
        .signature(0, b"QED\0")
        .structure(
            "cluster size",
            (4, 4),
            "a power of two from 4 KiB to 64 MiB",
            power_of_two(cluster, 4096..=64 << 20),
        )
        .structure(
            "table size",
            (8, 4),
            "1, 2, 4, 8 or 16 clusters",
            power_of_two(input.u32_le(8).map(u64::from), 1..=16),
        )
        .structure("header size", (12, 4), "at least 1 cluster", within(input.u32_le(12), 1..=4096))
        .structure(
            "L1 offset",
            (40, 8),
            "on a cluster",
            multiple(input.u64_le(40), cluster.unwrap_or(0)),
        )
        .structure(
            "features",
            (16, 8),
            "bits 0 to 2 only",
            features.is_some_and(|bits| bits >> 3 == 0),
        )
        .degraded("state", (16, 1), "no check needed", features.is_some_and(|bits| bits & 2 != 0))
        .at_most(90)
        .payload_from(cluster.unwrap_or(4096))
        .name(&["qed"])
        .done()
}

fn cow(input: &ProbeInput) -> Probe {
    Probe::of("cow", input)
        .word(0, b"OOOM")
        .structure("version", (4, 4), "1 to 3", within(input.u32_be(4), 1..=3))
        .at_most(60)
        .name(&["cow"])
        .done()
}
