//! A plain reading of a VDI file: the whole file in a slice, and all numbers in 128 bits.
//!
//! `block-vdi` is compared with it, so it shares no code with `block-vdi`.

/// Size of a sector in bytes.
pub(crate) const SECTOR: usize = 512;

/// Map entry of a block that was never written.
const FREE: u32 = u32::MAX;
/// Map entry of a block that reads as zeros.
const ZERO: u32 = u32::MAX - 1;

/// A file that a reader must accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'f> {
    file: &'f [u8],
    map: u128,
    data: u128,
    block: u128,
    extra: u128,
    /// Size in bytes of the disk that the guest sees.
    size: u128,
    /// Number of entries in the map.
    blocks: u128,
    /// Number of slots that may be used.
    slots: u128,
    /// Whether free blocks show the parent's content.
    pub needs_parent: bool,
}

/// The content of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'f> {
    /// Zeros.
    Zeros,
    /// These bytes.
    Stored(&'f [u8]),
    /// Unreadable, because the entry points where the file has no bytes.
    Missing,
}

/// The map entry of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Never written.
    Free,
    /// Reads as zeros.
    Zero,
    /// Stored from this offset in bytes of the file.
    At(u128),
}

impl<'f> Reference<'f> {
    /// Parses a file. `None` if every reader must refuse it.
    pub fn parse(file: &'f [u8]) -> Option<Self> {
        let len = file.len() as u128;
        if u32_at(file, 0x40)? != 0xBEDA_107F {
            return None;
        }
        let version = u32_at(file, 0x44)?;
        let v0 = version == 2;
        if !v0 && version >> 16 != 1 {
            return None;
        }
        // Offset of a field in version 0.2, and in 1.x.
        let field = |old: usize, new: usize| if v0 { old } else { new };
        let kind = u32_at(file, field(0x48, 0x4C))?;
        let size = u128::from(u64_at(file, field(0x160, 0x170))?);
        let block = u128::from(u32_at(file, field(0x168, 0x178))?);
        let blocks = u128::from(u32_at(file, field(0x16C, 0x180))?);
        let link = file.get(field(0x194, 0x1A8)..)?.get(..16)?;
        let (map, data, extra, header_end) = if v0 {
            (420, 420 + 4 * blocks, 0, 420)
        } else {
            let header_size = u32_at(file, 0x48)?;
            if header_size < 0x180 || u32_at(file, 0x168)? != 512 {
                return None;
            }
            let end = if header_size >= 0x190 { 472 } else { 456 };
            let places = (u32_at(file, 0x154)?, u32_at(file, 0x158)?, u32_at(file, 0x17C)?);
            (u128::from(places.0), u128::from(places.1), u128::from(places.2), end)
        };
        let map_end = map + 4 * blocks;
        let rounded = size.next_multiple_of(SECTOR as u128);
        let sound = (1..=4).contains(&kind)
            && block.is_power_of_two()
            && (128 << 10..=128 << 20).contains(&block)
            && (extra == 0 || (extra.is_power_of_two() && extra >= 2 && extra <= block))
            && size <= i64::MAX as u128
            && blocks >= size.div_ceil(block)
            && blocks < u128::from(ZERO)
            && len >= header_end
            && map >= header_end
            && map_end <= len
            && data >= map_end;
        let needs_parent = kind >= 3 || link.iter().any(|byte| *byte != 0);
        let slots = u128::from(ZERO);
        sound.then_some(Self {
            file,
            map,
            data,
            block,
            extra,
            size: rounded,
            blocks,
            slots,
            needs_parent,
        })
    }

    /// Returns the reading for a writer. A writer cannot use an entry that is not less than the number of entries,
    /// because other programs would put other data there.
    pub fn for_writing(self) -> Self {
        Self { slots: self.blocks, ..self }
    }

    /// Returns the number of sectors of the disk.
    pub fn sectors(&self) -> u64 {
        (self.size / SECTOR as u128) as u64
    }

    /// Returns the number of sectors in a block.
    pub fn block_sectors(&self) -> u64 {
        (self.block / SECTOR as u128) as u64
    }

    /// Returns the number of blocks of the disk. The last one may be partial.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block) as u64
    }

    /// Returns the map entry of a block.
    pub fn entry(&self, block: u64) -> Entry {
        let at = (self.map + 4 * u128::from(block)) as usize;
        match u32_at(self.file, at) {
            None | Some(FREE) => Entry::Free,
            Some(ZERO) => Entry::Zero,
            Some(slot) => {
                Entry::At(self.data + u128::from(slot) * (self.block + self.extra) + self.extra)
            }
        }
    }

    /// Whether the file lacks bytes of this block that the guest can read.
    pub fn is_missing(&self, block: u64) -> bool {
        let needed = (self.size - u128::from(block) * self.block).min(self.block);
        let slots_end = self.data + self.slots * (self.block + self.extra);
        match self.entry(block) {
            Entry::At(place) => place >= slots_end || place + needed > self.file.len() as u128,
            _ => false,
        }
    }

    /// Returns the content of a sector of the disk.
    pub fn sector(&self, sector: u64) -> Content<'f> {
        let byte = u128::from(sector) * SECTOR as u128;
        let block = (byte / self.block) as u64;
        match self.entry(block) {
            Entry::At(_) if self.is_missing(block) => Content::Missing,
            Entry::At(place) => {
                let start = (place + byte % self.block) as usize;
                Content::Stored(&self.file[start..start + SECTOR])
            }
            _ => Content::Zeros,
        }
    }

    /// Returns the sectors to compare: both ends and the middle of the first and the last blocks.
    pub fn places_to_look(&self) -> Vec<u64> {
        let (blocks, unit) = (self.blocks(), self.block_sectors());
        let mut blocks: Vec<u64> =
            (0..blocks.min(10)).chain(blocks.saturating_sub(4)..blocks).collect();
        blocks.dedup();
        let mut sectors: Vec<u64> = blocks
            .into_iter()
            .flat_map(|block| [0, 1, unit / 2, unit - 1].map(|within| block * unit + within))
            .filter(|sector| *sector < self.sectors())
            .collect();
        sectors.extend(self.sectors().checked_sub(1));
        sectors.sort_unstable();
        sectors.dedup();
        sectors
    }
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?))
}
