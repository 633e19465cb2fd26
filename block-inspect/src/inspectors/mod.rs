//! Inspectors for harmful content, one file per family.

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
mod vhd;
mod vhdx;
mod vhdx_log;
mod vmdk;

use block_core::inspect::{Examination, Inspector};
use block_core::probe::ProbeReport;
use block_core::{BoxFuture, Result};

/// All inspectors.
pub(crate) const ALL: &[Inspector] = &[
    Inspector { formats: &["qcow1"], examine: |cx| Box::pin(qemu::qcow1(cx)) },
    Inspector { formats: &["qcow2"], examine: |cx| Box::pin(qcow2::examine(cx)) },
    Inspector { formats: &["qed"], examine: |cx| Box::pin(qemu::qed(cx)) },
    Inspector {
        formats: &["cow"],
        examine: |cx| {
            other::cow(cx);
            done()
        },
    },
    Inspector {
        formats: &["vhd", "vhd-diff", "vhd-tap", "vhd-fixed"],
        examine: |cx| Box::pin(vhd::examine(cx)),
    },
    Inspector { formats: &["vhdx", "avhdx"], examine: |cx| Box::pin(vhdx::examine(cx)) },
    Inspector { formats: &["vmdk", "vmdk-stream"], examine: |cx| Box::pin(vmdk::sparse(cx)) },
    Inspector {
        formats: &["vmdk-cowd"],
        examine: |cx| {
            vmdk::cowd(cx);
            done()
        },
    },
    Inspector { formats: &["vmdk-sesparse"], examine: |cx| Box::pin(vmdk::sesparse(cx)) },
    Inspector { formats: &["vmdk-descriptor"], examine: |cx| Box::pin(vmdk::text(cx)) },
    Inspector {
        formats: &["parallels"],
        examine: |cx| {
            other::parallels(cx);
            done()
        },
    },
    Inspector {
        formats: &["parallels-bundle"],
        examine: |cx| Box::pin(other::parallels_bundle(cx)),
    },
    Inspector { formats: &["dmg"], examine: |cx| Box::pin(apple::dmg(cx)) },
    Inspector {
        formats: &["dmg-encrypted"],
        examine: |cx| {
            other::encrypted(cx);
            done()
        },
    },
    Inspector { formats: &["asif"], examine: |cx| Box::pin(apple::asif(cx)) },
    Inspector {
        formats: &["bochs"],
        examine: |cx| {
            other::bochs(cx);
            done()
        },
    },
    Inspector { formats: &["cloop"], examine: |cx| Box::pin(other::cloop(cx)) },
    Inspector {
        formats: &["luks1"],
        examine: |cx| {
            luks::version_1(cx);
            done()
        },
    },
    Inspector { formats: &["luks2"], examine: |cx| Box::pin(luks::version_2(cx)) },
    Inspector { formats: &["ewf", "ewf-logical"], examine: |cx| Box::pin(forensic::ewf(cx)) },
    Inspector { formats: &["ewf2", "ewf2-logical"], examine: |cx| Box::pin(forensic::ewf2(cx)) },
    Inspector { formats: &["zip", "aff4"], examine: |cx| Box::pin(other::zip(cx)) },
    Inspector {
        formats: &["android-sparse"],
        examine: |cx| {
            other::android(cx);
            done()
        },
    },
    Inspector {
        formats: &["viso"],
        examine: |cx| {
            other::viso(cx);
            done()
        },
    },
    Inspector {
        formats: &["ovf", "vbox", "sparsebundle", "cue", "import-manifest"],
        examine: |cx| {
            other::pointer(cx);
            done()
        },
    },
    Inspector {
        formats: &["gzip", "gcp-tarball"],
        examine: |cx| {
            stream::gzip(cx);
            done()
        },
    },
    Inspector { formats: &["xz"], examine: |cx| Box::pin(stream::xz(cx)) },
    Inspector {
        formats: &["zstd"],
        examine: |cx| {
            stream::zstd(cx);
            done()
        },
    },
    Inspector {
        formats: &["lz4"],
        examine: |cx| {
            stream::lz4(cx);
            done()
        },
    },
    Inspector {
        formats: &["lzip"],
        examine: |cx| {
            stream::lzip(cx);
            done()
        },
    },
    Inspector {
        formats: &["iso9660"],
        examine: |cx| {
            disk::iso(cx);
            done()
        },
    },
];

/// Returns the future of an inspector that reads nothing more.
fn done<'a>() -> BoxFuture<'a, Result<()>> {
    Box::pin(std::future::ready(Ok(())))
}

/// Examines the partition table of a disk that begins at byte 0 of the file.
pub(crate) fn partitions(cx: &mut Examination<'_>, probe: &ProbeReport) {
    let outer = probe.selected.as_deref().unwrap_or_default();
    if matches!(outer, "raw" | "vhd-fixed" | "iso9660" | "udf" | "high-sierra") {
        cx.of_format("raw");
        disk::partitions(cx, probe);
    }
}
