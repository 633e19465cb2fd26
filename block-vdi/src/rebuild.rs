//! Rebuilds a lost header from the map, which is still there, and from what the user knows.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a plan is checked when it is made: all places lie below the largest offset of a file"
)]

use std::sync::Arc;

use block_core::engine::{PagedTable, SlotSet};
use block_core::{CreateRequest, Error, ErrorKind, LostHeader, Result, Storage, is_zero};

use crate::create::Plan;
use crate::format::{ENTRY_FREE, ENTRY_ZERO};
use crate::header::Header;
use crate::header_sector::HeaderSector;

/// The two layouts that images have.
const LAYOUTS: [&str; 2] = ["virtualbox", "qemu"];

/// A layout that fits the map, and the end of the slots that the map names.
struct Fit {
    plan: Plan,
    layout: &'static str,
    slots_end: u64,
    /// Whether the last slot ends where the file does.
    ends_with_file: bool,
}

/// Returns the header that fits the map. `known` describes a new image of this kind: its disk size and each option set
/// in it must be right.
pub(crate) async fn lost_header(
    storage: &Arc<dyn Storage>,
    known: &CreateRequest,
) -> Result<LostHeader> {
    let file_len = storage.len().await?;
    if Header::parse(HeaderSector::read(&**storage, file_len).await?.bytes(), file_len).is_ok() {
        let message = "the header is not lost: there is nothing to assume";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let wanted = known.options.text("layout");
    let (mut fits, mut reasons) = (Vec::new(), Vec::new());
    for layout in LAYOUTS.into_iter().filter(|layout| wanted.is_none_or(|wanted| wanted == *layout))
    {
        let mut options = known.options.clone();
        options.set(crate::create::OPTIONS, "layout", layout)?;
        let plan = Plan::new(known.size, &options, None)?;
        match fit(storage, plan, layout, file_len).await? {
            // A map of one block in slot 0 looks the same as zeros.
            Ok(fit) if fit.plan.blocks == 1 && fit.slots_end == 1 && wanted.is_none() => {
                reasons.push(format!("{layout}: too little to go by, if the layout is not said"));
            }
            Ok(fit) => fits.push((fit, options)),
            Err(reason) => reasons.push(format!("{layout}: {reason}")),
        }
    }
    if fits.iter().any(|(fit, _)| fit.ends_with_file) {
        fits.retain(|(fit, _)| fit.ends_with_file);
    }
    let found = fits.pop();
    let (Some((fit, options)), true) = (found, fits.is_empty()) else {
        return Err(if reasons.is_empty() {
            Error::new(ErrorKind::Ambiguous, "the map fits each layout")
                .with_hint("say which is right: layout=virtualbox or layout=qemu")
        } else {
            Error::new(
                ErrorKind::Corrupt,
                format!("no sound map lies where it would be ({})", reasons.join("; ")),
            )
            .with_hint("are the size of the disk and the size of its blocks right?")
        });
    };
    let mut head = HeaderSector::of(fit.plan.header(&options, None)?);
    let header = Header::parse(head.bytes(), file_len)?;
    head.set_allocated(&header, fit.slots_end)?;
    let header = Header::parse(head.bytes(), file_len)?;
    let facts = vec![
        ("layout", fit.layout.to_owned()),
        ("type", header.image_type.to_string()),
        ("disk size", header.disk_size.to_string()),
        ("block size", header.block_size.to_string()),
        ("map offset", format!("{:#x}", header.map_offset)),
        ("data offset", format!("{:#x}", header.data_offset)),
        ("blocks stored", header.allocated.to_string()),
        ("UUID", header.uuid.to_string()),
        ("modification UUID", header.modification_uuid.to_string()),
    ];
    Ok(LostHeader { bytes: head.for_disk(&header)?.to_vec(), facts })
}

/// Returns whether the map lies where `plan` puts it: every entry is free, zero, or names a slot inside the file that
/// no other entry names. The inner error is the reason against it.
async fn fit(
    storage: &Arc<dyn Storage>,
    plan: Plan,
    layout: &'static str,
    file_len: u64,
) -> Result<std::result::Result<Fit, String>> {
    if plan.data_offset > file_len {
        return Ok(Err(format!("the map would end at {:#x}, past the file", plan.data_offset)));
    }
    let table = PagedTable::new(Arc::clone(storage), plan.map_offset, plan.blocks, 0);
    let (mut used, mut entries, mut at) = (SlotSet::default(), Vec::new(), 0);
    while at < plan.blocks {
        table.read(at, &mut entries).await?;
        for (block, entry) in (at..).zip(&entries) {
            if matches!(*entry, ENTRY_FREE | ENTRY_ZERO) && !plan.filled {
                continue;
            }
            let wrong = |why: &str| {
                let place = table.place(block);
                Ok(Err(format!("the entry {entry:#x} of block {block} at {place:#x} {why}")))
            };
            let slot = u64::from(*entry);
            let needed = (plan.size - block * plan.block_size).min(plan.block_size);
            let end = plan.file_len_with(slot).checked_add(needed);
            if slot >= plan.blocks || end.is_none_or(|end| end > file_len) {
                return wrong("names no slot of the file");
            }
            if used.contains(slot) {
                return wrong("names a slot that another block has");
            }
            used.insert(slot);
        }
        at += entries.len() as u64;
    }
    let map_end = table.place(plan.blocks);
    // Less than the unit of a layout: 1 MiB at most.
    let mut rest = vec![0; usize::try_from(plan.data_offset - map_end).unwrap_or(0)];
    storage.read_at(map_end, &mut rest).await?;
    if !is_zero(&rest) {
        return Ok(Err(format!("more follows behind the map, at {map_end:#x}")));
    }
    let slots_end = used.end();
    let ends_with_file = plan.file_len_with(slots_end) == file_len;
    Ok(Ok(Fit { plan, layout, slots_end, ends_with_file }))
}
