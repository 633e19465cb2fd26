//! What can do harm in each format: one file for each family.

mod apple;
mod base64;
mod disk;
mod forensic;
mod luks;
mod other;
mod qcow2;
mod qemu;
mod snapshots;
mod stream;
mod vdi;
mod vhd;
mod vhdx;
mod vhdx_log;
mod vmdk;

use super::examination::Examination;
use crate::Result;
use crate::probe::ProbeReport;

/// A candidate at or above this score is a claim, and is examined whether it was selected or not.
const CLAIM: u8 = 60;

/// Examines the metadata of every format that claims the file.
pub(super) async fn examine(cx: &mut Examination<'_>, probe: &ProbeReport) -> Result<()> {
    for candidate in probe.candidates.iter().filter(|c| c.score.value >= CLAIM) {
        cx.of_format(&candidate.id);
        one(cx, &candidate.id).await?;
    }
    let outer = probe.selected.as_deref().unwrap_or_default();
    if matches!(outer, "raw" | "vhd-fixed" | "iso9660" | "udf" | "high-sierra") {
        cx.of_format("raw");
        disk::partitions(cx, probe);
    }
    Ok(())
}

async fn one(cx: &mut Examination<'_>, id: &str) -> Result<()> {
    match id {
        "qcow1" => qemu::qcow1(cx).await?,
        "qcow2" => qcow2::examine(cx).await?,
        "qed" => qemu::qed(cx).await?,
        "cow" => other::cow(cx),
        "vdi" => vdi::examine(cx),
        "vhd" | "vhd-diff" | "vhd-tap" | "vhd-fixed" => vhd::examine(cx).await?,
        "vhdx" | "avhdx" => vhdx::examine(cx).await?,
        "vmdk" | "vmdk-stream" => vmdk::sparse(cx).await?,
        "vmdk-cowd" => vmdk::cowd(cx),
        "vmdk-sesparse" => vmdk::sesparse(cx).await?,
        "vmdk-descriptor" => vmdk::text(cx).await?,
        "parallels" => other::parallels(cx),
        "parallels-bundle" => other::parallels_bundle(cx).await?,
        "dmg" => apple::dmg(cx).await?,
        "dmg-encrypted" => other::encrypted(cx),
        "asif" => apple::asif(cx).await?,
        "bochs" => other::bochs(cx),
        "cloop" => other::cloop(cx).await?,
        "luks1" => luks::version_1(cx),
        "luks2" => luks::version_2(cx).await?,
        "ewf" | "ewf-logical" => forensic::ewf(cx).await?,
        "ewf2" | "ewf2-logical" => forensic::ewf2(cx).await?,
        "zip" | "aff4" => other::zip(cx).await?,
        "android-sparse" => other::android(cx),
        "viso" => other::viso(cx),
        "ovf" | "vbox" | "sparsebundle" | "cue" | "import-manifest" => other::pointer(cx),
        "gzip" | "gcp-tarball" => stream::gzip(cx),
        "xz" => stream::xz(cx).await?,
        "zstd" => stream::zstd(cx),
        "lz4" => stream::lz4(cx),
        "lzip" => stream::lzip(cx),
        "iso9660" => disk::iso(cx),
        _ => {}
    }
    Ok(())
}
