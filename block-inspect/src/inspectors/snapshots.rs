//! The snapshots of a qcow2 image: each must have its own L1 table in a valid place.

use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;

/// Length in bytes of the fixed part of a snapshot's header.
const FIXED: u64 = 40;
const LARGEST_L1: u64 = 32 << 20;

/// Walks the snapshot headers, reading at most as many bytes as the limit on texts. The headers have no total length to
/// skip by.
pub(super) async fn examine(cx: &mut Examination<'_>, cluster: u64) -> Result<()> {
    let count = u64::from(cx.input.u32_be(60).unwrap_or(0));
    let start = cx.input.u64_be(64).unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    let taken = cx.need_some(start, cx.limits.text_bytes).await?;
    let end = start.saturating_add(taken);
    let mut at = start;
    for index in 0..count {
        if at.saturating_add(FIXED) > end {
            if end < cx.input.len() {
                cx.limit("qcow2 snapshots");
            }
            break;
        }
        let long = |offset: u64| cx.input.u32_be(at.saturating_add(offset)).map_or(0, u64::from);
        let short = |offset: u64| cx.input.u16_be(at.saturating_add(offset)).map_or(0, u64::from);
        let names = short(12).saturating_add(short(14)).saturating_add(long(36));
        let l1 = (cx.input.u64_be(at), Some(long(8).saturating_mul(8)));
        if l1.0 == Some(0) || l1.1 == Some(0) {
            cx.find(Code::Structure, (at, 12), format!("snapshot {index} has no map"));
            // The headers after this one are no more reliable.
            break;
        }
        cx.table("L1 table of a snapshot", (at, 12), l1, LARGEST_L1, cluster);
        at = at.saturating_add(FIXED).saturating_add(names);
        at = at.checked_next_multiple_of(8).unwrap_or(u64::MAX);
    }
    Ok(())
}
