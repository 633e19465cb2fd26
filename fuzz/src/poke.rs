//! Images that our driver created, with changes to single fields.

use arbitrary::{Result, Unstructured};
use block_core::{Access, BlockDriver, CreateRequest, MemStorage, Options, WriteFlags};
use block_vdi::VdiDriver;

use crate::drivers::closed_context;

/// Offsets in bytes of the header's fields, each of 4 bytes.
const FIELDS: &[usize] = &[
    0x40, 0x44, 0x48, 0x4C, 0x50, 0x154, 0x158, 0x168, 0x170, 0x174, 0x178, 0x17C, 0x180, 0x184,
    0x188, 0x198, 0x1A8, 0x1B8, 0x1D4,
];

/// Block sizes that keep images small.
pub(crate) const SMALL: &[&str] = &["128k", "128k", "256k"];

/// Returns a sound image of a few blocks of one of these sizes, some of them written.
pub(crate) async fn sound_image(u: &mut Unstructured<'_>, sizes: &[&str]) -> Result<Vec<u8>> {
    let block_size = *u.choose(sizes)?;
    let layout = if u.ratio(1, 16)? { "virtualbox" } else { "qemu" };
    let is_static = if u.ratio(1, 8)? { "on" } else { "off" };
    let options = format!("block_size={block_size},layout={layout},static={is_static}");
    let blocks = block_core::size::parse(block_size).expect("a size") / 512;
    let size = u.int_in_range(1..=4 * blocks + 60)? * 512;
    let options = Options::parse(&options, VdiDriver.descriptor().create_options);
    let request = CreateRequest::new(size).options(options.expect("the options exist"));
    let storage = MemStorage::new();
    let cx = closed_context();
    let created = VdiDriver.create(storage.clone(), &request, &cx).await;
    created.expect("an image of any small size can be made");
    let opened = VdiDriver.open(storage.clone(), &Options::new(), Access::ReadWrite, &cx).await;
    let device = opened.expect("a new image opens");
    for fill in 1..=u.int_in_range(0..=4u8)? {
        let sector = u.int_in_range(0..=size / 512 - 1)?;
        let written = device.write_sectors(sector, &[fill; 512], WriteFlags::empty()).await;
        written.expect("a new image is written");
    }
    device.close().await.expect("a new image closes");
    Ok(storage.to_bytes().expect("a small image"))
}

/// Changes a few fields, map entries, bytes and the file's length.
pub(crate) fn poke(u: &mut Unstructured<'_>, file: &mut Vec<u8>) -> Result<()> {
    for _ in 0..u.int_in_range(1..=5u8)? {
        match u.int_in_range(0..=7u8)? {
            0..=2 => {
                let field = *u.choose(FIELDS)?;
                poke_u32(u, file, field)?;
            }
            3..=5 => {
                let map = file.get(0x154..0x158).and_then(|b| b.first_chunk::<4>());
                let map = map.map_or(512, |bytes| u32::from_le_bytes(*bytes)) as usize;
                let index = u.int_in_range(0..=9usize)?;
                poke_u32(u, file, map.saturating_add(4 * index))?;
            }
            6 => {
                let at = u.int_in_range(0..=1100usize)?;
                let value = u.arbitrary()?;
                if let Some(byte) = file.get_mut(at) {
                    *byte = value;
                }
            }
            _ => {
                let step = *u.choose(&[1usize, 4, 511, 512, 128 << 10])?;
                let len = if u.arbitrary()? {
                    file.len() + step
                } else {
                    file.len().saturating_sub(step)
                };
                file.resize(len, 0x5A);
            }
        }
    }
    Ok(())
}

/// Sets the number at offset `at` to a value that is wrong in an interesting way.
fn poke_u32(u: &mut Unstructured<'_>, file: &mut [u8], at: usize) -> Result<()> {
    let Some(bytes) = file.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else {
        return Ok(());
    };
    let old = u32::from_le_bytes(*bytes);
    let new = match u.int_in_range(0..=7u8)? {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 | 4 => u.int_in_range(0..=9u32)?,
        5 => *u.choose(&[u32::MAX, u32::MAX - 1, u32::MAX - 2, 1 << 31, 0x190, 1 << 20])?,
        6 => 512 * u.int_in_range(0..=600u32)?,
        _ => u.arbitrary()?,
    };
    *bytes = new.to_le_bytes();
    Ok(())
}
