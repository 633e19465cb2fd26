//! Parallels disks: both versions of the expandable image.

use block_core::probe::ProbeInput;
use block_core::probe::Recogniser;
use block_core::probe::fields::{multiple, within};
use block_core::probe::{Placement, Probe};

pub(crate) const ALL: &[Recogniser] = &[Recogniser::new("parallels", parallels)];

pub(crate) const OLD: &[u8] = b"WithoutFreeSpace";
pub(crate) const EXTENDED: &[u8] = b"WithouFreSpacExt";
/// The value of the in-use field while a program has the image open.
pub(crate) const IN_USE: u32 = 0x746F_6E59;
const IN_USE_CLOSED: u32 = 0x312E_3276;
/// Largest cluster in sectors. Larger ones are not positive as 32-bit byte counts.
const LARGEST_CLUSTER: u32 = 4_186_127;

fn parallels(input: &ProbeInput) -> Probe {
    let extended = input.has(0, EXTENDED);
    let cluster = input.u32_le(28);
    let entries = input.u32_le(32).map(u64::from);
    let sectors = if extended { input.u64_le(36) } else { input.u32_le(36).map(u64::from) };
    let reach = entries.zip(cluster).and_then(|(n, c)| n.checked_mul(u64::from(c)));
    let table_end = entries.and_then(|n| n.checked_mul(4)?.checked_add(64));
    let data = input.u32_le(48).map(u64::from);
    let in_use = input.u32_le(44);
    Probe::of("parallels", input)
        .placement(Placement::Header)
        .signature(0, if extended { EXTENDED } else { OLD })
        .variant(if extended { "extended" } else { "v1" })
        .version((16, 4), "2", input.u32_le(16) == Some(2))
        .structure(
            "cluster size",
            (28, 4),
            "1 to 4186127 sectors",
            within(cluster, 1..=LARGEST_CLUSTER),
        )
        .structure(
            "table entries",
            (32, 4),
            "enough for the disk size",
            sectors.zip(reach).is_some_and(|(sectors, reach)| sectors <= reach),
        )
        .structure(
            "table",
            (32, 4),
            "inside the file",
            table_end.is_some_and(|end| end <= input.len()),
        )
        .structure(
            "in-use mark",
            (44, 4),
            "0, v2.1 or Ynot",
            in_use.is_some_and(|mark| [0, IN_USE, IN_USE_CLOSED].contains(&mark)),
        )
        .structure(
            "data offset",
            (48, 4),
            "on a cluster",
            !extended || multiple(data, cluster.map_or(0, u64::from)),
        )
        .at_most(95)
        .payload_from(table_end.unwrap_or(64).max(data.unwrap_or(0).saturating_mul(512)))
        .name(&["hdd", "hds", "parallels"])
        .done()
}
