//! Raw disks and optical discs: contradicting partition tables, and volume sizes.

use crate::hints::partition::{GptHeader, PROTECTIVE, gpt_headers, mbr_entries};
use crate::recognisers::optical::iso_descriptors;
use block_core::inspect::Examination;
use block_core::inspect::{Code, Severity};
use block_core::probe::ProbeReport;

/// Examines the structures behind the hints of a raw disk, a fixed VHD or a disc.
pub(super) fn partitions(cx: &mut Examination<'_>, probe: &ProbeReport) {
    let hinted = |id: &str| probe.raw_hints.iter().any(|hint| hint.id == id);
    let disc = probe.selected.as_deref().is_some_and(|id| matches!(id, "iso9660" | "udf"));
    if hinted("gpt") {
        gpt(cx);
    }
    if cx.input.has(510, &[0x55, 0xAA]) && (hinted("gpt") || hinted("mbr")) {
        mbr(cx, hinted("gpt"), disc);
    }
    if disc && (hinted("gpt") || hinted("mbr") || hinted("apm")) {
        cx.find_as(Code::PtHybrid, Severity::Info, (0, 512), "the disc has a partition table too");
    }
}

fn mbr(cx: &mut Examination<'_>, with_gpt: bool, disc: bool) {
    let entries = mbr_entries(&cx.input);
    let used: Vec<_> = entries.iter().filter(|entry| entry.kind != 0).collect();
    let sectors = cx.input.len().div_ceil(512);
    for entry in &entries {
        cx.find_if(
            entry.status & 0x7F != 0,
            Code::PtBad,
            (entry.at, 1),
            format!("the status is {:#x}, wanted 0 or 0x80", entry.status),
        );
    }
    for entry in &used {
        let end = u64::from(entry.start).saturating_add(entry.sectors.into());
        cx.find_if(
            entry.kind != PROTECTIVE && end > sectors && !disc,
            Code::PtBad,
            (entry.at.saturating_add(8), 8),
            format!("a partition ends at sector {end} of {sectors}"),
        );
    }
    let protective = entries.iter().position(|entry| entry.kind == PROTECTIVE);
    if with_gpt && !disc {
        match protective {
            None => {
                cx.find_as(Code::PtHybrid, Severity::Medium, (446, 64), "no entry protects the GPT")
            }
            Some(at) => {
                cx.find_if(
                    at != 0,
                    Code::PtBad,
                    (446, 64),
                    "the protective entry is not the first",
                );
                if used.len() > 1 {
                    let message = "partitions stand beside the protective entry";
                    cx.find_as(Code::PtHybrid, Severity::Medium, (446, 64), message);
                }
            }
        }
    }
}

fn gpt(cx: &mut Examination<'_>) {
    let (primary, backup) = gpt_headers(&cx.input);
    let sound = [primary, backup].iter().flatten().any(GptHeader::sound);
    // With one valid copy there is one disk to see, and programs repair the other copy. Two contradicting copies are
    // two disks, and without a valid copy there is none.
    let severity = if sound { Severity::Medium } else { Severity::High };
    for header in [primary, backup].into_iter().flatten() {
        if !header.checksum || header.table == Some(false) {
            cx.find_as(Code::Checksum, severity, (header.at, 92), "a checksum of the GPT is wrong");
        }
        cx.find_if(
            !header.own_place,
            Code::PtBad,
            (header.at.saturating_add(24), 8),
            "a GPT header is not at its own place",
        );
    }
    match (primary, backup) {
        (Some(first), Some(last)) => {
            let part =
                |at: u64, offset: u64, len: usize| cx.input.bytes(at.saturating_add(offset), len);
            let same = part(first.at, 40, 32) == part(last.at, 40, 32)
                && part(first.at, 80, 12) == part(last.at, 80, 12);
            if !same {
                let both = first.sound() && last.sound();
                let severity = if both { Severity::High } else { severity };
                let message = "the two GPT headers describe different disks";
                cx.find_as(Code::CopyMismatch, severity, (last.at, 92), message);
            }
        }
        (Some(_), None) => {
            let end = cx.input.len().saturating_sub(512);
            let message = "the backup of the GPT is missing";
            cx.find_as(Code::CopyMismatch, severity, (end, 512), message);
        }
        (None, Some(last)) => cx.find_as(
            Code::CopyMismatch,
            severity,
            (512, 92),
            format!("only the backup of the GPT is there, at {:#x}", last.at),
        ),
        (None, None) => {}
    }
}

/// Compares the volume size of a disc with the file's length.
pub(super) fn iso(cx: &mut Examination<'_>) {
    let (Some(at), _) = iso_descriptors(&cx.input) else {
        return;
    };
    let blocks = cx.input.u32_le(at.saturating_add(0x50)).map(u64::from);
    let block = cx.input.u16_le(at.saturating_add(0x80)).map(u64::from);
    let size = blocks.zip(block).and_then(|(blocks, block)| blocks.checked_mul(block));
    let len = cx.input.len();
    cx.find_if(
        size.is_none_or(|size| size > len),
        Code::SizeDisagree,
        (at.saturating_add(0x50), 8),
        format!("the volume has {} bytes, the file {len}", size.unwrap_or(u64::MAX)),
    );
}
