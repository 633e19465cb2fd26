//! QEMU's older formats: qcow version 1 and qed.

use block_core::Result;
use block_core::inspect::Code;
use block_core::inspect::Examination;

pub(super) async fn qcow1(cx: &mut Examination<'_>) -> Result<()> {
    cx.find(
        Code::FormatDeprecated,
        (4, 4),
        "version 1 is out of use and cannot name a backing format",
    );
    let offset = cx.input.u64_be(8).unwrap_or(0);
    if offset != 0 {
        let len = cx.input.u32_be(16).unwrap_or(0);
        backing(cx, 8, offset, len).await?;
        cx.find(
            Code::BackingFormatMissing,
            (8, 8),
            "this version has no place for the backing format",
        );
    }
    if cx.input.u32_be(36).unwrap_or(0) != 0 {
        cx.find(Code::Encrypted, (36, 4), "the data is encrypted");
        cx.find(Code::EncryptionWeak, (36, 4), "AES-CBC with the password as key is broken");
    }
    let size = cx.input.u64_be(24);
    let bits = cx.input.u8(32).zip(cx.input.u8(33));
    let reach = bits.and_then(|(c, l2)| 1u64.checked_shl(u32::from(c).checked_add(l2.into())?));
    let table = size.zip(reach).and_then(|(size, reach)| size.div_ceil(reach).checked_mul(8));
    let l1 = cx.input.u64_be(40);
    cx.table("L1 table", (24, 8), (l1, table), 32 << 20, 1 << 16);
    cx.disk_size((24, 8), size);
    Ok(())
}

pub(super) async fn qed(cx: &mut Examination<'_>) -> Result<()> {
    cx.find(Code::FormatDeprecated, (0, 4), "the format is out of use");
    let features = cx.input.u64_le(16).unwrap_or(0);
    cx.find_if(features & 2 != 0, Code::Dirty, (16, 8), "the image was not closed cleanly");
    if features & 1 != 0 {
        let offset = u64::from(cx.input.u32_le(56).unwrap_or(0));
        let len = cx.input.u32_le(60).unwrap_or(0);
        backing(cx, 56, offset, len).await?;
        cx.find_if(
            features & 4 == 0,
            Code::BackingFormatMissing,
            (16, 8),
            "the backing file's format is to be guessed",
        );
    }
    let cluster = cx.input.u32_le(4).map(u64::from);
    let table = cluster.zip(cx.input.u32_le(8)).and_then(|(c, n)| c.checked_mul(n.into()));
    let l1 = cx.input.u64_le(40);
    cx.table("L1 table", (40, 8), (l1, table), 1 << 30, table.unwrap_or(0));
    let size = cx.input.u64_le(48);
    cx.disk_size((48, 8), size);
    Ok(())
}

async fn backing(cx: &mut Examination<'_>, field: u64, offset: u64, len: u32) -> Result<()> {
    let taken = cx.need_some(offset, u64::from(len.min(4096))).await?;
    let name = cx.input.prefix(offset, usize::try_from(taken).unwrap_or(0)).to_vec();
    if taken < u64::from(len.min(4096)) {
        cx.find(Code::OutOfBounds, (field, 12), "the backing file's name is not all in the file");
    }
    cx.reference(Code::ExtBacking, (offset, len), &name, "a backing file is named");
    Ok(())
}
