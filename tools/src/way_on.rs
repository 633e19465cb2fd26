//! Hints for files that no driver opens, chosen by the file's format.

use block_core::ErrorKind;
use block_core::probe::{Kind, ProbeReport};

use crate::args::ImageSpec;
use crate::context::Context;
use crate::error::Failure;
use crate::escape::Escaped;
use crate::host_path::file_path;
use crate::machine;

/// Maximum number of a machine file's disks that a hint names.
const NAMED_DISKS: usize = 4;

/// Returns the failure that no driver opens the file of `spec`, with a hint by its format.
pub(crate) fn not_opened(
    cx: &Context,
    spec: &ImageSpec,
    report: &ProbeReport,
    error: &block_core::Error,
) -> Failure {
    let failure = Failure::open(&spec.shown, error);
    let program = cx.console.program();
    match (error.kind(), report.selected()) {
        (ErrorKind::Ambiguous, _) | (_, None) => failure.hint(format!(
            "'{program} probe' shows the evidence, -f names the format that is meant"
        )),
        (_, Some(found)) => failure.hint(by_format(program, spec, &found.id, found.kind)),
    }
}

fn by_format(program: &str, spec: &ImageSpec, id: &str, kind: Kind) -> String {
    let unpack = |with: &str| {
        format!(
            "unpack it first; '{with} FILE | {program} convert -f raw - TARGET' streams a raw disk"
        )
    };
    let convert = |with: &str| format!("convert it first with a program that opens {id}{with}");
    match id {
        "vbox" => machine_file(spec),
        "gzip" => unpack("zcat"),
        "xz" => unpack("xzcat"),
        "zstd" => unpack("zstdcat"),
        "bzip2" => unpack("bzcat"),
        "lz4" => unpack("lz4cat"),
        "lzip" | "lzma" => unpack("lzcat"),
        "ova" => "unpack it first with tar; the disk is the member that ends in .vmdk, .vdi or .vhd".to_owned(),
        "ovf" => "it describes a machine; name the file of its disk, which ends in .vmdk, .vdi or .vhd".to_owned(),
        "gcp-tarball" => "unpack it first with tar; the disk is the member disk.raw".to_owned(),
        "qcow2" | "qcow1" | "qed" | "parallels" | "bochs" | "dmg" | "cloop" => convert(", such as QEMU"),
        "luks1" | "luks2" => "open it first with cryptsetup; the disk is the device that appears".to_owned(),
        "android-sparse" => "unpack it first with simg2img".to_owned(),
        id if id.starts_with("vmdk") || id.starts_with("vhd") => convert(", such as QEMU or VirtualBox"),
        id if id.starts_with("ewf") => "export it first as raw with ewfexport".to_owned(),
        id if id.starts_with("aff") => "export it first as raw with affconvert".to_owned(),
        _ => match kind {
            Kind::Wrapper => "unpack it first; the disk is the member that ends in .vmdk, .vdi, .vhd, .qcow2, .raw or .img".to_owned(),
            Kind::NotADisk => "it holds no disk".to_owned(),
            Kind::Descriptor => "it names other files; the disk is in one of them".to_owned(),
            _ => convert(""),
        },
    }
}

/// Returns the hint for a machine file, which names its disks.
fn machine_file(spec: &ImageSpec) -> String {
    let mut hint = "it describes a machine; give one of its disks, with --vbox and this file for the disk's parents".to_owned();
    let disks = machine::registered_disks(&file_path(&spec.uri)).unwrap_or_default();
    let names: Vec<String> = disks
        .iter()
        .take(NAMED_DISKS)
        .map(|disk| format!("'{}'", Escaped(crate::host_path::display_name(&disk.uri))))
        .collect();
    if !names.is_empty() {
        hint.push_str(": ");
        hint.push_str(&names.join(", "));
    }
    if disks.len() > NAMED_DISKS {
        hint.push_str(", …");
    }
    hint
}
