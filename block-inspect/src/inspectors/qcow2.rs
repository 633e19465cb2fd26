//! qcow2: backing and data files, features, tables, snapshots, encryption.

use super::snapshots;
use crate::recognisers::qcow::{DATA_FILE, extensions};
use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;

const BACKING_FORMAT: u32 = 0xE279_2ACA;
const BITMAPS: u32 = 0x2385_2875;
/// Bit 2 of the incompatible features: the data is in an external file.
const EXTERNAL_DATA: u64 = 4;
const LARGEST_L1: u64 = 32 << 20;
const LARGEST_REFCOUNTS: u64 = 8 << 20;
const MOST_SNAPSHOTS: u32 = 65_536;

pub(super) async fn examine(cx: &mut Examination<'_>) -> Result<()> {
    if !matches!(cx.input.u32_be(4), Some(2 | 3)) {
        return Ok(());
    }
    let v3 = cx.input.u32_be(4) == Some(3);
    let bits = cx.input.u32_be(20).filter(|bits| (9..=21).contains(bits));
    let cluster = bits.map_or(1 << 16, |bits| 1u64 << bits);
    cx.need_some(0, cluster.min(1 << 20)).await?;
    backing(cx).await?;
    // Version 2 has no feature words. Header extensions are in their place.
    if v3 {
        features(cx).await?;
    } else {
        latent_data_file(cx).await?;
    }
    encryption(cx);
    tables(cx, cluster);
    snapshots::examine(cx, cluster).await?;
    let size = cx.input.u64_be(24);
    cx.disk_size((24, 8), size);
    if extensions(&cx.input).overrun {
        let at = extensions(&cx.input).end;
        cx.find(Code::Structure, (at, 8), "a header extension runs past the first cluster");
    }
    trailing(cx, cluster).await
}

async fn backing(cx: &mut Examination<'_>) -> Result<()> {
    let offset = cx.input.u64_be(8).unwrap_or(0);
    if offset == 0 {
        return Ok(());
    }
    let len = cx.input.u32_be(16).unwrap_or(0);
    if len == 0 {
        cx.find(Code::ExtBacking, (8, 12), "there is a backing file without a name");
        cx.find(Code::Structure, (16, 4), "the backing file's name has 0 bytes, wanted 1 to 1023");
    } else {
        let taken = cx.need_some(offset, u64::from(len.min(4096))).await?;
        let name = cx.input.prefix(offset, usize::try_from(taken).unwrap_or(0)).to_vec();
        if name.len() < usize::try_from(len.min(4096)).unwrap_or(0) {
            cx.find(Code::OutOfBounds, (8, 12), "the backing file's name is not all in the file");
        }
        let message = format!("a backing file is named, {len} bytes at {offset:#x}");
        cx.reference(Code::ExtBacking, (offset, len), &name, message);
    }
    let list = extensions(&cx.input).list;
    match list.iter().find(|extension| extension.id == BACKING_FORMAT) {
        None => cx.find(
            Code::BackingFormatMissing,
            (8, 8),
            "the backing file's format is not recorded, so programs guess it",
        ),
        Some(extension) => {
            let bytes =
                cx.input.prefix(extension.offset, usize::try_from(extension.len).unwrap_or(0));
            let plain = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
            let at = (extension.offset, extension.len);
            cx.find_if(!plain, Code::Noncanonical, at, "the backing format is no plain word");
        }
    }
    Ok(())
}

async fn features(cx: &mut Examination<'_>) -> Result<()> {
    let incompatible = cx.input.u64_be(72).unwrap_or(0);
    let autoclear = cx.input.u64_be(88).unwrap_or(0);
    cx.find_if(
        incompatible >> 5 != 0,
        Code::FeatureUnknown,
        (72, 8),
        "incompatible features above bit 4 are set",
    );
    cx.find_if(incompatible & 1 != 0, Code::Dirty, (79, 1), "the refcounts may be wrong");
    cx.find_if(incompatible & 2 != 0, Code::Corrupt, (79, 1), "the image is marked as corrupt");
    let named = data_file(cx).await?;
    let external = incompatible & EXTERNAL_DATA != 0;
    match (external, named) {
        (true, Some((offset, len, name))) => {
            let message = format!("the data is in another file, named at {offset:#x}");
            cx.reference(Code::ExtDatafile, (offset, len), &name, message);
        }
        (true, None) => cx.find(Code::ExtDatafile, (79, 1), "the data is in a file without a name"),
        (false, Some((offset, len, name))) => latent(cx, offset, len, &name),
        (false, None) => {}
    }
    if autoclear & 2 != 0 {
        cx.find(Code::DatafileRaw, (95, 1), "the data file is to be read as the whole disk");
        cx.find_if(
            !external,
            Code::FeatureInconsistent,
            (95, 1),
            "a raw data file is declared, and there is no data file",
        );
    }
    let list = extensions(&cx.input).list;
    let has_bitmaps = list.iter().any(|extension| extension.id == BITMAPS);
    cx.find_if(has_bitmaps, Code::Bitmaps, (88, 8), "there are persistent dirty bitmaps");
    let header = cx.input.u32_be(100).unwrap_or(104);
    let compression = if header > 104 { cx.input.u8(104).unwrap_or(0) } else { 0 };
    let flagged = incompatible & 8 != 0;
    cx.find_if(
        flagged != (compression != 0),
        Code::FeatureInconsistent,
        (104, 1),
        format!("compression type {compression} contradicts incompatible feature bit 3"),
    );
    cx.find_if(
        compression > 1,
        Code::FeatureUnknown,
        (104, 1),
        format!("compression type is {compression}, wanted 0 (deflate) or 1 (zstd)"),
    );
    Ok(())
}

async fn latent_data_file(cx: &mut Examination<'_>) -> Result<()> {
    if let Some((offset, len, name)) = data_file(cx).await? {
        latent(cx, offset, len, &name);
    }
    Ok(())
}

fn latent(cx: &mut Examination<'_>, offset: u64, len: u32, name: &[u8]) {
    let message = "a data file is named that is not in use";
    cx.reference(Code::ExtDatafileLatent, (offset, len), name, message);
}

async fn data_file(cx: &mut Examination<'_>) -> Result<Option<(u64, u32, Vec<u8>)>> {
    let list = extensions(&cx.input).list;
    let Some(extension) = list.iter().find(|extension| extension.id == DATA_FILE) else {
        return Ok(None);
    };
    let taken = cx.need_some(extension.offset, u64::from(extension.len.min(4096))).await?;
    let name = cx.input.prefix(extension.offset, usize::try_from(taken).unwrap_or(0)).to_vec();
    Ok(Some((extension.offset, extension.len, name)))
}

fn encryption(cx: &mut Examination<'_>) {
    match cx.input.u32_be(32).unwrap_or(0) {
        0 => {}
        method => {
            cx.find(Code::Encrypted, (32, 4), format!("the data is encrypted by method {method}"));
            cx.find_if(
                method == 1,
                Code::EncryptionWeak,
                (32, 4),
                "AES-CBC with the password as key is broken",
            );
            cx.find_if(
                method > 2,
                Code::FeatureUnknown,
                (32, 4),
                format!("the encryption method is {method}, wanted 0 to 2"),
            );
        }
    }
}

fn tables(cx: &mut Examination<'_>, cluster: u64) {
    let l1 = (cx.input.u64_be(40), cx.input.u32_be(36).map(|n| u64::from(n).saturating_mul(8)));
    let refcounts =
        (cx.input.u64_be(48), cx.input.u32_be(56).map(|n| u64::from(n).saturating_mul(cluster)));
    cx.table("L1 table", (36, 4), l1, LARGEST_L1, cluster);
    cx.table("refcount table", (56, 4), refcounts, LARGEST_REFCOUNTS, cluster);
    let count = cx.input.u32_be(60).unwrap_or(0);
    let snapshots = (cx.input.u64_be(64), Some(u64::from(count).saturating_mul(40)));
    if count > 0 {
        cx.find(Code::Snapshots, (60, 4), format!("there are {count} internal snapshots"));
        cx.find_if(
            count > MOST_SNAPSHOTS,
            Code::TableExcessive,
            (60, 4),
            format!("there are {count} snapshots, wanted at most {MOST_SNAPSHOTS}"),
        );
        cx.table("snapshot table", (64, 8), snapshots, 64 << 20, 0);
    }
    let part = |name: &'static str, (offset, len): (Option<u64>, Option<u64>)| {
        (name, offset.unwrap_or(0), len.unwrap_or(0))
    };
    let header = extensions(&cx.input).end;
    let backing = (cx.input.u64_be(8), cx.input.u32_be(16).map(u64::from));
    let backing = if backing.0 == Some(0) { (None, None) } else { backing };
    cx.overlaps(&[
        ("header", 0, header),
        part("L1 table", l1),
        part("refcount table", refcounts),
        part("snapshot table", if count > 0 { snapshots } else { (None, None) }),
        part("backing file's name", backing),
    ]);
}

/// Records bytes past the last cluster with a refcount. Only small refcount structures are read.
async fn trailing(cx: &mut Examination<'_>, cluster: u64) -> Result<()> {
    let v3 = cx.input.u32_be(4) == Some(3);
    let order = if v3 { cx.input.u32_be(96).unwrap_or(4) } else { 4 };
    let (Some(table), Some(clusters)) = (cx.input.u64_be(48), cx.input.u32_be(56)) else {
        return Ok(());
    };
    let table_len = u64::from(clusters).saturating_mul(cluster).min(1 << 20);
    if order > 6 || !cx.need(table, table_len.min(cx.input.len().saturating_sub(table))).await? {
        return Ok(());
    }
    let entries = table_len.checked_div(8).unwrap_or(0);
    let mut last = None;
    for index in 0..entries {
        let place = cx.input.u64_be(table.saturating_add(index.saturating_mul(8))).unwrap_or(0);
        if place & !0x1FF != 0 {
            last = Some((index, place & !0x1FF));
        }
    }
    let Some((index, block)) = last else {
        return Ok(());
    };
    if !cx.need(block, cluster).await? {
        return Ok(());
    }
    let bytes = cx.input.bytes(block, usize::try_from(cluster).unwrap_or(0)).unwrap_or_default();
    let Some(used) = bytes.iter().rposition(|byte| *byte != 0) else {
        return Ok(());
    };
    // The last nonzero byte of the refcounts locates the last cluster in use, to within one byte of refcounts.
    let used_bits = u64::try_from(used).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(8);
    let bits_each = 1u64.checked_shl(order).unwrap_or(16);
    let per_block = cluster.saturating_mul(8).checked_div(bits_each).unwrap_or(0);
    let in_use = index
        .saturating_mul(per_block)
        .saturating_add(used_bits.div_ceil(bits_each))
        .saturating_mul(cluster);
    if cx.input.len() > in_use {
        let message =
            format!("the clusters in use end at {in_use:#x}, the file at {:#x}", cx.input.len());
        cx.find(Code::TrailingData, (in_use, 0), message);
    }
    Ok(())
}
